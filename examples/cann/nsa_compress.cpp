// nsa_compress.cpp: token compression of native sparse attention and its gradient, two sequences.
//   g++ nsa_compress.cpp -I$ASCEND_HOME_PATH/include -L$ASCEND_HOME_PATH/lib64 -lopapi -lascendcl -lnnopbase -o run
#include "aclnnop/aclnn_nsa_compress.h"
#include "aclnnop/aclnn_nsa_compress_grad.h"
#include "device.h"

int main() {
  Device device;
  // Windows of 32 tokens every 16 tokens: 64 tokens have 3, 40 tokens have 1.
  const int64_t heads = 2, dim = 16, block = 32, stride = 16, tokens = 104, windows = 4, ends_of[] = {64, 104};
  const std::vector<int64_t> shape = {tokens, heads, dim}, weights = {block, heads}, compressed = {windows, heads, dim};
  const std::vector<float> x = numbers(tokens * heads * dim, 1), w = numbers(block * heads, 2);
  Floats input(shape, x), weight(weights, w), output(compressed, zeros(windows * heads * dim));
  aclIntArray* ends = aclCreateIntArray(ends_of, 2);

  char layout[] = "TND";
  uint64_t workspace_size = 0;
  aclOpExecutor* executor = nullptr;
  require(aclnnNsaCompressGetWorkspaceSize(input, weight, ends, layout, block, stride, 0, output, &workspace_size, &executor),
          "aclnnNsaCompressGetWorkspaceSize");
  device.run(aclnnNsaCompress, workspace_size, executor);

  const int64_t first_token[] = {0, 16, 32, 64};  // of each window
  for (int64_t window = 0; window < windows; ++window) {
    double want = 0;
    for (int64_t l = 0; l < block; ++l) want += w[l * heads + 1] * x[((first_token[window] + l) * heads + 1) * dim + 5];
    expect("output[window,1,5]", output.fetch()[(window * heads + 1) * dim + 5], want);
  }

  // The gradient of the sum of all outputs.
  Floats ones(compressed, std::vector<float>(static_cast<std::size_t>(windows * heads * dim), 1.0f));
  Floats input_gradient(shape, zeros(tokens * heads * dim)), weight_gradient(weights, zeros(block * heads));
  require(aclnnNsaCompressGradGetWorkspaceSize(ones, input, weight, ends, block, stride, 0, layout, input_gradient, weight_gradient,
                                               &workspace_size, &executor),
          "aclnnNsaCompressGradGetWorkspaceSize");
  device.run(aclnnNsaCompressGrad, workspace_size, executor);
  expect("inputGrad[20,0,0]", input_gradient.fetch()[20 * heads * dim], w[20 * heads] + w[4 * heads]);  // token 20 is in windows 0 and 1
  expect("inputGrad[100,0,0]", input_gradient.fetch()[100 * heads * dim], 0.0);                         // token 100 is in none
  double want = 0;
  for (const int64_t token : first_token)
    for (int64_t d = 0; d < dim; ++d) want += x[((token + 7) * heads + 1) * dim + d];
  expect("weightGrad[7,1]", weight_gradient.fetch()[7 * heads + 1], want);
  aclDestroyIntArray(ends);
  return 0;
}
