// ring_attention_update.cpp: attention over two sets of keys joined by their statistics, and over three by their log-sum-exp.
//   g++ ring_attention_update.cpp -I$ASCEND_HOME_PATH/include -L$ASCEND_HOME_PATH/lib64 -lopapi -lascendcl -lnnopbase -o run
#include "aclnnop/aclnn_attention_update.h"
#include "aclnnop/aclnn_ring_attention_update.h"
#include "device.h"

namespace {

const int64_t kRows = 4, kBatch = 1, kHeads = 1, kDim = 64;

std::vector<float> all(int64_t count, float value) { return std::vector<float>(static_cast<std::size_t>(count), value); }

void two_parts(Device& device) {
  const std::vector<int64_t> attention = {kRows, kBatch, kHeads * kDim}, statistics = {kBatch, kHeads, kRows, 8};
  const int64_t size = kRows * kDim, statistics_size = kRows * 8;
  Floats previous(attention, all(size, 1.0f)), previous_max(statistics, all(statistics_size, 1.0f)),
      previous_sum(statistics, all(statistics_size, 2.0f));
  Floats current(attention, all(size, 0.25f)), current_max(statistics, all(statistics_size, 3.0f)),
      current_sum(statistics, all(statistics_size, 0.5f));
  Floats out(attention, zeros(size)), max(statistics, zeros(statistics_size)), sum(statistics, zeros(statistics_size));
  char layout[] = "SBH";
  uint64_t workspace_size = 0;
  aclOpExecutor* executor = nullptr;
  require(aclnnRingAttentionUpdateGetWorkspaceSize(previous, previous_max, previous_sum, current, current_max, current_sum, nullptr, layout,
                                                   out, max, sum, &workspace_size, &executor),
          "aclnnRingAttentionUpdateGetWorkspaceSize");
  device.run(aclnnRingAttentionUpdate, workspace_size, executor);
  const double t = 2.0 * std::exp(-2.0), u = 0.5;
  expect("softmaxMax", max.fetch()[0], 3.0);
  expect("softmaxSum", sum.fetch()[statistics_size - 1], t + u);
  expect("attnOut", out.fetch()[size - 1], (1.0 * t + 0.25 * u) / (t + u));
}

void three_parts(Device& device) {
  const std::vector<int64_t> shape = {kRows, kDim}, rows = {kRows};
  const aclTensor *sums[3], *outs[3];
  std::vector<Floats*> keep;
  for (int part = 0; part < 3; ++part) {
    keep.push_back(new Floats(rows, all(kRows, static_cast<float>(part))));
    sums[part] = keep.back()->get();
    keep.push_back(new Floats(shape, all(kRows * kDim, static_cast<float>(part * part))));
    outs[part] = keep.back()->get();
  }
  aclTensorList *lse = aclCreateTensorList(sums, 3), *local = aclCreateTensorList(outs, 3);
  Floats out(shape, zeros(kRows * kDim)), lse_out(rows, zeros(kRows));
  uint64_t workspace_size = 0;
  aclOpExecutor* executor = nullptr;
  require(aclnnAttentionUpdateGetWorkspaceSize(lse, local, 1, out, lse_out, &workspace_size, &executor),
          "aclnnAttentionUpdateGetWorkspaceSize");
  device.run(aclnnAttentionUpdate, workspace_size, executor);
  const double total = 1.0 + std::exp(1.0) + std::exp(2.0);
  expect("lseOut", lse_out.fetch()[0], std::log(total));
  expect("out", out.fetch()[0], (std::exp(1.0) * 1.0 + std::exp(2.0) * 4.0) / total);
  aclDestroyTensorList(lse);  // and with them their members
  aclDestroyTensorList(local);
  for (Floats* one : keep) {
    one->release();
    delete one;
  }
}

}  // namespace

int main() {
  Device device;
  two_parts(device);
  three_parts(device);
  return 0;
}
