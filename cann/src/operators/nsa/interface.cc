// aclnnNsaCompress, aclnnNsaCompressGrad.
#include "aclnnop/aclnn_nsa_compress.h"
#include "aclnnop/aclnn_nsa_compress_grad.h"
#include "operators/nsa/compress.h"

using namespace fusedattn::cann;

namespace {

struct Given {
  const char* name;
  const aclTensor* tensor;
  Source source;
};

struct Arguments {
  const char* function;
  bool backward;
  std::vector<Given> tensors;          // by nsa::Tensors
  std::vector<nsa::Tensors> inputs, outputs;  // in the order of the interface
  const char* lengths_name;
  const aclIntArray* lengths;
  const char* layout;
  std::int64_t block, stride, length_type;
};

aclnnStatus phase_one(const Arguments& given, std::uint64_t* workspace_size, aclOpExecutor** executor) {
  return guarded(given.function, [&]() -> int {
    if (workspace_size == nullptr || executor == nullptr)
      return no_results(given.function, workspace_size);
    nsa::Request request{given.function, given.backward, {}, given.lengths_name, given.lengths, ints_of(given.lengths),
                         read_text(given.layout), given.block, given.stride, given.length_type};
    for (const Given& one : given.tensors) request.slots.push_back(read_slot(one.name, one.tensor, one.source));
    if (Outcome outcome = nsa::check(request); !outcome.ok()) return report(outcome);
    std::unique_ptr<Call> call;
    if (Outcome outcome = nsa::make_call(request, call); !outcome.ok()) return report(outcome);
    Operands operands;
    for (const nsa::Tensors which : given.inputs) operands.inputs.emplace_back(request[which].name, request[which].tensor);
    for (const nsa::Tensors which : given.outputs) operands.outputs.emplace_back(request[which].name, request[which].tensor);
    return finish_phase_one(given.function, std::move(call), std::move(operands), workspace_size, executor);
  });
}

}  // namespace

aclnnStatus aclnnNsaCompressGetWorkspaceSize(
    const aclTensor* input, const aclTensor* weight, const aclIntArray* actSeqLenOptional, char* layoutOptional,
    int64_t compressBlockSize, int64_t compressStride, int64_t actSeqLenType, aclTensor* output, uint64_t* workspaceSize,
    aclOpExecutor** executor) {
  return phase_one({.function = "aclnnNsaCompress", .backward = false,
                    .tensors = {{"input", input, {false, 0}}, {"weight", weight, {false, 1}}, {"output", output, {true, 0}}},
                    .inputs = {nsa::kInput, nsa::kWeight}, .outputs = {nsa::kOutput},
                    .lengths_name = "actSeqLenOptional", .lengths = actSeqLenOptional, .layout = layoutOptional,
                    .block = compressBlockSize, .stride = compressStride, .length_type = actSeqLenType},
                   workspaceSize, executor);
}

aclnnStatus aclnnNsaCompress(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor, aclrtStream stream) {
  return phase_two("aclnnNsaCompress", workspace, workspaceSize, executor, stream);
}

aclnnStatus aclnnNsaCompressGradGetWorkspaceSize(
    const aclTensor* outputGrad, const aclTensor* input, const aclTensor* weight, const aclIntArray* actSeqLenOptionalOptional,
    int64_t compressBlockSize, int64_t compressStride, int64_t actSeqLenType, char* layoutOptionalOptional,
    const aclTensor* inputGradOut, const aclTensor* weightGradOut, uint64_t* workspaceSize, aclOpExecutor** executor) {
  return phase_one({.function = "aclnnNsaCompressGrad", .backward = true,
                    .tensors = {{"input", input, {false, 1}}, {"weight", weight, {false, 2}}, {"outputGrad", outputGrad, {false, 0}},
                                {"inputGradOut", inputGradOut, {true, 0}}, {"weightGradOut", weightGradOut, {true, 1}}},
                    .inputs = {nsa::kOutput, nsa::kInput, nsa::kWeight}, .outputs = {nsa::kGradInput, nsa::kGradWeight},
                    .lengths_name = "actSeqLenOptionalOptional", .lengths = actSeqLenOptionalOptional, .layout = layoutOptionalOptional,
                    .block = compressBlockSize, .stride = compressStride, .length_type = actSeqLenType},
                   workspaceSize, executor);
}

aclnnStatus aclnnNsaCompressGrad(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor, aclrtStream stream) {
  return phase_two("aclnnNsaCompressGrad", workspace, workspaceSize, executor, stream);
}
