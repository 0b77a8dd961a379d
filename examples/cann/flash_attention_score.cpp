// flash_attention_score.cpp: causal attention forward and backward, grouped heads, layout BNSD.
//   g++ flash_attention_score.cpp -I$ASCEND_HOME_PATH/include -L$ASCEND_HOME_PATH/lib64 -lopapi -lascendcl -lnnopbase -o run
#include "aclnnop/aclnn_flash_attention_score.h"
#include "aclnnop/aclnn_flash_attention_score_grad.h"
#include "device.h"

namespace {

const int64_t kBatch = 1, kHeads = 4, kKeyHeads = 2, kRows = 32, kDim = 16;
const double kScale = 0.25;

int64_t at(int64_t head, int64_t row) { return (head * kRows + row) * kDim; }

// Row `row` of query head `head`, by the formula: scores, their maximum, their sum, the output.
struct Row {
  double max, sum;
  std::vector<double> out, weights;
  Row(const std::vector<float>& q, const std::vector<float>& k, const std::vector<float>& v, int64_t head, int64_t row)
      : max(-1e30), sum(0), out(kDim), weights(static_cast<std::size_t>(row + 1)) {
    const int64_t key_head = head / (kHeads / kKeyHeads);
    for (int64_t j = 0; j <= row; ++j) {
      for (int64_t d = 0; d < kDim; ++d) weights[j] += kScale * q[at(head, row) + d] * k[at(key_head, j) + d];
      max = weights[j] > max ? weights[j] : max;
    }
    for (int64_t j = 0; j <= row; ++j) sum += weights[j] = std::exp(weights[j] - max);
    for (int64_t j = 0; j <= row; ++j) {
      weights[j] /= sum;
      for (int64_t d = 0; d < kDim; ++d) out[d] += weights[j] * v[at(key_head, j) + d];
    }
  }
};

}  // namespace

int main() {
  Device device;
  const std::vector<int64_t> queries = {kBatch, kHeads, kRows, kDim}, keys = {kBatch, kKeyHeads, kRows, kDim},
                             statistics = {kBatch, kHeads, kRows, 8};
  const int64_t query_size = kHeads * kRows * kDim, key_size = kKeyHeads * kRows * kDim, statistics_size = kHeads * kRows * 8;
  const std::vector<float> q = numbers(query_size, 1), k = numbers(key_size, 2), v = numbers(key_size, 3), dy = numbers(query_size, 4);
  Floats query(queries, q), key(keys, k), value(keys, v), out(queries, zeros(query_size)), max(statistics, zeros(statistics_size)),
      sum(statistics, zeros(statistics_size));

  // sparseMode 3 takes a compressed causal mask, 2048 x 2048, whatever the lengths.
  const std::vector<int64_t> mask_shape = {2048, 2048};
  void* mask_memory = nullptr;
  require(aclrtMalloc(&mask_memory, 2048 * 2048, ACL_MEM_MALLOC_HUGE_FIRST), "aclrtMalloc");
  std::vector<uint8_t> triangle(2048 * 2048);
  for (int64_t i = 0; i < 2048; ++i)
    for (int64_t j = i + 1; j < 2048; ++j) triangle[i * 2048 + j] = 1;
  require(aclrtMemcpy(mask_memory, triangle.size(), triangle.data(), triangle.size(), ACL_MEMCPY_HOST_TO_DEVICE), "aclrtMemcpy");
  aclTensor* mask = aclCreateTensor(mask_shape.data(), 2, ACL_UINT8, nullptr, 0, ACL_FORMAT_ND, mask_shape.data(), 2, mask_memory);

  char layout[] = "BNSD";
  uint64_t workspace_size = 0;
  aclOpExecutor* executor = nullptr;
  require(aclnnFlashAttentionScoreGetWorkspaceSize(query, key, value, nullptr, nullptr, nullptr, mask, nullptr, kScale, 1.0, 2147483647,
                                                   2147483647, kHeads, layout, 0, 3, max, sum, nullptr, out, &workspace_size, &executor),
          "aclnnFlashAttentionScoreGetWorkspaceSize");
  device.run(aclnnFlashAttentionScore, workspace_size, executor);

  const Row first(q, k, v, 0, 0), last(q, k, v, 3, kRows - 1);
  expect("attentionOut, first", out.fetch()[0], first.out[0]);
  expect("attentionOut, last", out.fetch()[at(3, kRows - 1) + kDim - 1], last.out[kDim - 1]);
  expect("softmaxMax, last", max.fetch()[statistics_size - 1], last.max);
  expect("softmaxSum, last", sum.fetch()[statistics_size - 1], last.sum);

  Floats gradient(queries, dy), dq(queries, zeros(query_size)), dk(keys, zeros(key_size)), dv(keys, zeros(key_size));
  require(aclnnFlashAttentionScoreGradGetWorkspaceSize(query, key, value, gradient, nullptr, nullptr, nullptr, mask, max, sum, nullptr, out,
                                                       nullptr, kScale, 1.0, 2147483647, 2147483647, kHeads, layout, 0, 3, dq, dk, dv,
                                                       nullptr, &workspace_size, &executor),
          "aclnnFlashAttentionScoreGradGetWorkspaceSize");
  device.run(aclnnFlashAttentionScoreGrad, workspace_size, executor);

  // dv of the last key: only the last rows of the two query heads of its group see it.
  double want = 0;
  for (int64_t head = 2; head < 4; ++head) want += Row(q, k, v, head, kRows - 1).weights.back() * dy[at(head, kRows - 1)];
  expect("dv, last key", dv.fetch()[at(1, kRows - 1)], want);
  expect("dq, first row", dq.fetch()[0], 0.0);  // it sees one key, so its probability is 1 whatever the query

  aclDestroyTensor(mask);
  aclrtFree(mask_memory);
  return 0;
}
