// A program in the manner of those for Ascend devices: attention over ones, and one wrong argument. Prints "1 1 max 4 sum 2".
#include <cstdio>
#include <vector>

#include "acl/acl.h"
#include "aclnnop/aclnn_flash_attention_score.h"

static aclTensor* upload(const std::vector<int64_t>& shape, void** memory) {
  int64_t count = 1;
  for (size_t i = 0; i < shape.size(); ++i) count *= shape[i];
  const std::vector<float> ones(count, 1.0f);
  if (aclrtMalloc(memory, count * sizeof(float), ACL_MEM_MALLOC_HUGE_FIRST) != ACL_SUCCESS) return NULL;
  if (aclrtMemcpy(*memory, count * sizeof(float), ones.data(), count * sizeof(float), ACL_MEMCPY_HOST_TO_DEVICE) != ACL_SUCCESS) return NULL;
  return aclCreateTensor(shape.data(), shape.size(), ACL_FLOAT, NULL, 0, ACL_FORMAT_ND, shape.data(), shape.size(), *memory);
}

int main() {
  aclInit(NULL);
  aclrtSetDevice(0);
  aclrtStream stream;
  aclrtCreateStream(&stream);
  const std::vector<int64_t> rows = {1, 1, 2, 16}, stats = {1, 1, 2, 8};
  void *memory[6], *workspace = NULL;
  aclTensor *q = upload(rows, &memory[0]), *k = upload(rows, &memory[1]), *v = upload(rows, &memory[2]);
  aclTensor *max = upload(stats, &memory[3]), *sum = upload(stats, &memory[4]), *out = upload(rows, &memory[5]);
  uint64_t size = 0;
  aclOpExecutor* executor = NULL;
  char layout[] = "BNSD", wrong[] = "NBSD";
  for (char* each : {wrong, layout}) {
    const int status = aclnnFlashAttentionScoreGetWorkspaceSize(q, k, v, NULL, NULL, NULL, NULL, NULL, 0.25, 1.0, 65535, 65535, 1, each,
                                                                0, 0, max, sum, NULL, out, &size, &executor);
    if (status != ACL_SUCCESS) printf("%d %s\n", status, aclGetRecentErrMsg());
  }
  if (size > 0) aclrtMalloc(&workspace, size, ACL_MEM_MALLOC_HUGE_FIRST);
  if (aclnnFlashAttentionScore(workspace, size, executor, stream) != ACL_SUCCESS || aclrtSynchronizeStream(stream) != ACL_SUCCESS) {
    printf("%s\n", aclGetRecentErrMsg());
    return 1;
  }
  float values[32], tops[16], sums[16];
  aclrtMemcpy(values, sizeof values, memory[5], sizeof values, ACL_MEMCPY_DEVICE_TO_HOST);
  aclrtMemcpy(tops, sizeof tops, memory[3], sizeof tops, ACL_MEMCPY_DEVICE_TO_HOST);
  aclrtMemcpy(sums, sizeof sums, memory[4], sizeof sums, ACL_MEMCPY_DEVICE_TO_HOST);
  printf("%g %g max %g sum %g\n", values[0], values[31], tops[8], sums[8]);
  const aclTensor* all[] = {q, k, v, max, sum, out};
  for (const aclTensor* each : all) aclDestroyTensor(each);
  for (void* each : memory) aclrtFree(each);
  if (size > 0) aclrtFree(workspace);
  aclrtDestroyStream(stream);
  aclrtResetDevice(0);
  return aclFinalize();
}
