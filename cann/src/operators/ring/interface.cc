// aclnnRingAttentionUpdate, both versions.
#include "aclnnop/aclnn_ring_attention_update.h"
#include "operators/ring/update.h"

using namespace fusedattn::cann;

namespace {

struct Arguments {
  const char* function;
  const aclTensor* tensors[ring::kTensors];  // by ring::Tensors, the order of the interface
  const char *layout, *softmax_layout;
};

constexpr const char* kNames[] = {"prevAttnOut", "prevSoftmaxMax", "prevSoftmaxSum", "curAttnOut", "curSoftmaxMax", "curSoftmaxSum",
                                  "actualSeqQlenOptional", "attnOutOut", "softmaxMaxOut", "softmaxSumOut"};

aclnnStatus phase_one(const Arguments& given, std::uint64_t* workspace_size, aclOpExecutor** executor) {
  return guarded(given.function, [&]() -> int {
    if (workspace_size == nullptr || executor == nullptr) return no_results(given.function, workspace_size);
    ring::Request request{given.function, {}, given.layout != nullptr, read_text(given.layout),
                          read_text(given.softmax_layout != nullptr ? given.softmax_layout : "")};
    Operands operands;
    for (std::size_t i = 0; i < ring::kTensors; ++i) {
      const bool output = i >= ring::kOut;
      Slot& slot = request.slots[i] = read_slot(kNames[i], given.tensors[i], {output, output ? i - ring::kOut : i});
      (output ? operands.outputs : operands.inputs).emplace_back(slot.name, slot.tensor);
    }
    if (Outcome outcome = ring::check(request); !outcome.ok()) return report(outcome);
    return finish_phase_one(given.function, ring::make_call(request), std::move(operands), workspace_size, executor);
  });
}

}  // namespace

aclnnStatus aclnnRingAttentionUpdateGetWorkspaceSize(
    const aclTensor* prevAttnOut, const aclTensor* prevSoftmaxMax, const aclTensor* prevSoftmaxSum, const aclTensor* curAttnOut,
    const aclTensor* curSoftmaxMax, const aclTensor* curSoftmaxSum, const aclTensor* actualSeqQlenOptional, char* inputLayoutOptional,
    const aclTensor* attnOutOut, const aclTensor* softmaxMaxOut, const aclTensor* softmaxSumOut, uint64_t* workspaceSize,
    aclOpExecutor** executor) {
  return phase_one({"aclnnRingAttentionUpdate",
                    {prevAttnOut, prevSoftmaxMax, prevSoftmaxSum, curAttnOut, curSoftmaxMax, curSoftmaxSum, actualSeqQlenOptional,
                     attnOutOut, softmaxMaxOut, softmaxSumOut},
                    inputLayoutOptional, ""},
                   workspaceSize, executor);
}

aclnnStatus aclnnRingAttentionUpdate(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor, aclrtStream stream) {
  return phase_two("aclnnRingAttentionUpdate", workspace, workspaceSize, executor, stream);
}

aclnnStatus aclnnRingAttentionUpdateV2GetWorkspaceSize(
    const aclTensor* prevAttnOut, const aclTensor* prevSoftmaxMax, const aclTensor* prevSoftmaxSum, const aclTensor* curAttnOut,
    const aclTensor* curSoftmaxMax, const aclTensor* curSoftmaxSum, const aclTensor* actualSeqQlenOptional, char* inputLayoutOptional,
    char* inputSoftmaxLayoutOptional, const aclTensor* attnOutOut, const aclTensor* softmaxMaxOut, const aclTensor* softmaxSumOut,
    uint64_t* workspaceSize, aclOpExecutor** executor) {
  return phase_one({"aclnnRingAttentionUpdateV2",
                    {prevAttnOut, prevSoftmaxMax, prevSoftmaxSum, curAttnOut, curSoftmaxMax, curSoftmaxSum, actualSeqQlenOptional,
                     attnOutOut, softmaxMaxOut, softmaxSumOut},
                    inputLayoutOptional, inputSoftmaxLayoutOptional},
                   workspaceSize, executor);
}

aclnnStatus aclnnRingAttentionUpdateV2(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor, aclrtStream stream) {
  return phase_two("aclnnRingAttentionUpdateV2", workspace, workspaceSize, executor, stream);
}
