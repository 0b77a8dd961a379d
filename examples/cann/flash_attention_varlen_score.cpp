// flash_attention_varlen_score.cpp: three sequences of different lengths packed along T, layout TND, forward and backward.
//   g++ flash_attention_varlen_score.cpp -I$ASCEND_HOME_PATH/include -L$ASCEND_HOME_PATH/lib64 -lopapi -lascendcl -lnnopbase -o run
#include "aclnnop/aclnn_flash_attention_score.h"
#include "aclnnop/aclnn_flash_attention_score_grad.h"
#include "device.h"

namespace {

const int64_t kHeads = 2, kDim = 8, kTokens = 12;
const double kScale = 0.35;
const int64_t kEnds[] = {3, 4, 12};  // cumulative

// The mean of the values of one sequence: what attention gives where all scores of a row are equal.
double mean_value(const std::vector<float>& v, int64_t begin, int64_t end, int64_t head, int64_t d) {
  double sum = 0;
  for (int64_t t = begin; t < end; ++t) sum += v[(t * kHeads + head) * kDim + d];
  return sum / static_cast<double>(end - begin);
}

}  // namespace

int main() {
  Device device;
  const std::vector<int64_t> shape = {kTokens, kHeads, kDim}, statistics = {kTokens, kHeads, 8};
  const int64_t size = kTokens * kHeads * kDim, statistics_size = kTokens * kHeads * 8;
  const std::vector<float> v = numbers(size, 3);
  Floats query(shape, numbers(size, 1)), key(shape, std::vector<float>(static_cast<std::size_t>(size), 0.5f)), value(shape, v);
  Floats out(shape, zeros(size)), max(statistics, zeros(statistics_size)), sum(statistics, zeros(statistics_size));
  aclIntArray* ends = aclCreateIntArray(kEnds, 3);

  char layout[] = "TND", by_tokens[] = "same_as_input";
  uint64_t workspace_size = 0;
  aclOpExecutor* executor = nullptr;
  require(aclnnFlashAttentionVarLenScoreV4GetWorkspaceSize(query, key, value, nullptr, nullptr, nullptr, nullptr, nullptr, ends, ends,
                                                           kScale, 1.0, 2147483647, 2147483647, kHeads, layout, 0, 0, by_tokens, max, sum,
                                                           nullptr, out, &workspace_size, &executor),
          "aclnnFlashAttentionVarLenScoreV4GetWorkspaceSize");
  device.run(aclnnFlashAttentionVarLenScoreV4, workspace_size, executor);

  // All keys are equal, so every row of a sequence is the mean of its values.
  expect("attentionOut[0,0,0]", out.fetch()[0], mean_value(v, 0, 3, 0, 0));
  expect("attentionOut[3,1,2]", out.fetch()[(3 * kHeads + 1) * kDim + 2], mean_value(v, 3, 4, 1, 2));
  expect("attentionOut[11,0,7]", out.fetch()[(11 * kHeads + 0) * kDim + 7], mean_value(v, 4, 12, 0, 7));
  expect("softmaxSum[11,1]", sum.fetch()[(11 * kHeads + 1) * 8], 8.0);

  Floats dy(shape, std::vector<float>(static_cast<std::size_t>(size), 1.0f)), dq(shape, zeros(size)), dk(shape, zeros(size)),
      dv(shape, zeros(size));
  require(aclnnFlashAttentionUnpaddingScoreGradV4GetWorkspaceSize(
              query, key, value, dy, nullptr, nullptr, nullptr, nullptr, max, sum, nullptr, out, nullptr, ends, ends, kScale, 1.0,
              2147483647, 2147483647, kHeads, layout, 0, 0, dq, dk, dv, nullptr, by_tokens, &workspace_size, &executor),
          "aclnnFlashAttentionUnpaddingScoreGradV4GetWorkspaceSize");
  device.run(aclnnFlashAttentionUnpaddingScoreGradV4, workspace_size, executor);

  // Every row gives each key of its sequence the same share of 1.
  expect("dv[0,0,0]", dv.fetch()[0], 1.0);
  expect("dv[11,1,7]", dv.fetch()[size - 1], 1.0);
  expect("dq[0,0,0]", dq.fetch()[0], 0.0);
  aclDestroyIntArray(ends);
  return 0;
}
