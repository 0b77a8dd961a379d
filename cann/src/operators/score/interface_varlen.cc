// aclnnFlashAttentionVarLenScore, all versions.
#include "aclnnop/aclnn_flash_attention_score.h"
#include "operators/score/request.h"

using namespace fusedattn::cann;
using namespace fusedattn::cann::score;

aclnnStatus aclnnFlashAttentionVarLenScoreGetWorkspaceSize(
    const aclTensor* query, const aclTensor* key, const aclTensor* value, const aclTensor* realShiftOptional,
    const aclTensor* dropMaskOptional, const aclTensor* paddingMaskOptional, const aclTensor* attenMaskOptional,
    const aclIntArray* prefixOptional, const aclIntArray* actualSeqQLenOptional, const aclIntArray* actualSeqKvLenOptional,
    double scaleValue, double keepProb, int64_t preTokens, int64_t nextTokens, int64_t headNum, char* inputLayout, int64_t innerPrecise,
    int64_t sparseMode, const aclTensor* softmaxMaxOut, const aclTensor* softmaxSumOut, const aclTensor* softmaxOutOut,
    const aclTensor* attentionOutOut, uint64_t* workspaceSize, aclOpExecutor** executor) {
  return phase_one({.function = "aclnnFlashAttentionVarLenScore", .packed_alone = true,
                    .inputs = {{"query", Role::query, query}, {"key", Role::key, key}, {"value", Role::value, value},
                               {"realShiftOptional", Role::real_shift, realShiftOptional},
                               {"dropMaskOptional", Role::drop_mask, dropMaskOptional},
                               {"paddingMaskOptional", Role::unused, paddingMaskOptional},
                               {"attenMaskOptional", Role::atten_mask, attenMaskOptional}},
                    .outputs = {{"softmaxMaxOut", Role::softmax_max, softmaxMaxOut},
                                {"softmaxSumOut", Role::softmax_sum, softmaxSumOut}, {"softmaxOutOut", Role::unused, softmaxOutOut},
                                {"attentionOutOut", Role::attention_out, attentionOutOut}},
                    .prefix = prefixOptional, .q_ends = actualSeqQLenOptional, .kv_ends = actualSeqKvLenOptional,
                    .scale_value = scaleValue, .keep_prob = keepProb, .pre_tokens = preTokens, .next_tokens = nextTokens,
                    .head_num = headNum, .input_layout = inputLayout, .inner_precise = innerPrecise, .sparse_mode = sparseMode},
                   workspaceSize, executor);
}

aclnnStatus aclnnFlashAttentionVarLenScore(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor, aclrtStream stream) {
  return phase_two("aclnnFlashAttentionVarLenScore", workspace, workspaceSize, executor, stream);
}

aclnnStatus aclnnFlashAttentionVarLenScoreV2GetWorkspaceSize(
    const aclTensor* query, const aclTensor* key, const aclTensor* value, const aclTensor* realShiftOptional,
    const aclTensor* dropMaskOptional, const aclTensor* paddingMaskOptional, const aclTensor* attenMaskOptional,
    const aclIntArray* prefixOptional, const aclIntArray* actualSeqQLenOptional, const aclIntArray* actualSeqKvLenOptional,
    const aclIntArray* qStartIdxOptional, const aclIntArray* kvStartIdxOptional, double scaleValue, double keepProb, int64_t preTokens,
    int64_t nextTokens, int64_t headNum, char* inputLayout, int64_t innerPrecise, int64_t sparseMode, int64_t pseType,
    const aclTensor* softmaxMaxOut, const aclTensor* softmaxSumOut, const aclTensor* softmaxOutOut, const aclTensor* attentionOutOut,
    uint64_t* workspaceSize, aclOpExecutor** executor) {
  return phase_one({.function = "aclnnFlashAttentionVarLenScoreV2", .packed_alone = true,
                    .inputs = {{"query", Role::query, query}, {"key", Role::key, key}, {"value", Role::value, value},
                               {"realShiftOptional", Role::real_shift, realShiftOptional},
                               {"dropMaskOptional", Role::drop_mask, dropMaskOptional},
                               {"paddingMaskOptional", Role::unused, paddingMaskOptional},
                               {"attenMaskOptional", Role::atten_mask, attenMaskOptional}},
                    .outputs = {{"softmaxMaxOut", Role::softmax_max, softmaxMaxOut},
                                {"softmaxSumOut", Role::softmax_sum, softmaxSumOut}, {"softmaxOutOut", Role::unused, softmaxOutOut},
                                {"attentionOutOut", Role::attention_out, attentionOutOut}},
                    .prefix = prefixOptional, .q_ends = actualSeqQLenOptional, .kv_ends = actualSeqKvLenOptional,
                    .q_start = qStartIdxOptional, .kv_start = kvStartIdxOptional, .scale_value = scaleValue, .keep_prob = keepProb,
                    .pre_tokens = preTokens, .next_tokens = nextTokens, .head_num = headNum, .input_layout = inputLayout,
                    .inner_precise = innerPrecise, .sparse_mode = sparseMode, .pse_type = pseType},
                   workspaceSize, executor);
}

aclnnStatus aclnnFlashAttentionVarLenScoreV2(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor, aclrtStream stream) {
  return phase_two("aclnnFlashAttentionVarLenScoreV2", workspace, workspaceSize, executor, stream);
}

aclnnStatus aclnnFlashAttentionVarLenScoreV3GetWorkspaceSize(
    const aclTensor* query, const aclTensor* queryRope, const aclTensor* key, const aclTensor* keyRope, const aclTensor* value,
    const aclTensor* realShiftOptional, const aclTensor* dropMaskOptional, const aclTensor* paddingMaskOptional,
    const aclTensor* attenMaskOptional, const aclIntArray* prefixOptional, const aclIntArray* actualSeqQLenOptional,
    const aclIntArray* actualSeqKvLenOptional, const aclIntArray* qStartIdxOptional, const aclIntArray* kvStartIdxOptional,
    double scaleValue, double keepProb, int64_t preTokens, int64_t nextTokens, int64_t headNum, char* inputLayout, int64_t innerPrecise,
    int64_t sparseMode, int64_t pseType, const aclTensor* softmaxMaxOut, const aclTensor* softmaxSumOut, const aclTensor* softmaxOutOut,
    const aclTensor* attentionOutOut, uint64_t* workspaceSize, aclOpExecutor** executor) {
  return phase_one({.function = "aclnnFlashAttentionVarLenScoreV3", .packed_alone = true,
                    .inputs = {{"query", Role::query, query}, {"queryRope", Role::query_rope, queryRope}, {"key", Role::key, key},
                               {"keyRope", Role::key_rope, keyRope}, {"value", Role::value, value},
                               {"realShiftOptional", Role::real_shift, realShiftOptional},
                               {"dropMaskOptional", Role::drop_mask, dropMaskOptional},
                               {"paddingMaskOptional", Role::unused, paddingMaskOptional},
                               {"attenMaskOptional", Role::atten_mask, attenMaskOptional}},
                    .outputs = {{"softmaxMaxOut", Role::softmax_max, softmaxMaxOut},
                                {"softmaxSumOut", Role::softmax_sum, softmaxSumOut}, {"softmaxOutOut", Role::unused, softmaxOutOut},
                                {"attentionOutOut", Role::attention_out, attentionOutOut}},
                    .prefix = prefixOptional, .q_ends = actualSeqQLenOptional, .kv_ends = actualSeqKvLenOptional,
                    .q_start = qStartIdxOptional, .kv_start = kvStartIdxOptional, .scale_value = scaleValue, .keep_prob = keepProb,
                    .pre_tokens = preTokens, .next_tokens = nextTokens, .head_num = headNum, .input_layout = inputLayout,
                    .inner_precise = innerPrecise, .sparse_mode = sparseMode, .pse_type = pseType},
                   workspaceSize, executor);
}

aclnnStatus aclnnFlashAttentionVarLenScoreV3(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor, aclrtStream stream) {
  return phase_two("aclnnFlashAttentionVarLenScoreV3", workspace, workspaceSize, executor, stream);
}

aclnnStatus aclnnFlashAttentionVarLenScoreV4GetWorkspaceSize(
    const aclTensor* query, const aclTensor* key, const aclTensor* value, const aclTensor* realShiftOptional,
    const aclTensor* dropMaskOptional, const aclTensor* paddingMaskOptional, const aclTensor* attenMaskOptional,
    const aclIntArray* prefixOptional, const aclIntArray* actualSeqQLenOptional, const aclIntArray* actualSeqKvLenOptional,
    double scaleValue, double keepProb, int64_t preTokens, int64_t nextTokens, int64_t headNum, char* inputLayout, int64_t innerPrecise,
    int64_t sparseMode, char* softmaxOutLayout, const aclTensor* softmaxMaxOut, const aclTensor* softmaxSumOut,
    const aclTensor* softmaxOutOut, const aclTensor* attentionOutOut, uint64_t* workspaceSize, aclOpExecutor** executor) {
  return phase_one({.function = "aclnnFlashAttentionVarLenScoreV4", .packed_alone = true,
                    .inputs = {{"query", Role::query, query}, {"key", Role::key, key}, {"value", Role::value, value},
                               {"realShiftOptional", Role::real_shift, realShiftOptional},
                               {"dropMaskOptional", Role::drop_mask, dropMaskOptional},
                               {"paddingMaskOptional", Role::unused, paddingMaskOptional},
                               {"attenMaskOptional", Role::atten_mask, attenMaskOptional}},
                    .outputs = {{"softmaxMaxOut", Role::softmax_max, softmaxMaxOut},
                                {"softmaxSumOut", Role::softmax_sum, softmaxSumOut}, {"softmaxOutOut", Role::unused, softmaxOutOut},
                                {"attentionOutOut", Role::attention_out, attentionOutOut}},
                    .prefix = prefixOptional, .q_ends = actualSeqQLenOptional, .kv_ends = actualSeqKvLenOptional,
                    .scale_value = scaleValue, .keep_prob = keepProb, .pre_tokens = preTokens, .next_tokens = nextTokens,
                    .head_num = headNum, .input_layout = inputLayout, .inner_precise = innerPrecise, .sparse_mode = sparseMode,
                    .softmax_layout = softmaxOutLayout},
                   workspaceSize, executor);
}

aclnnStatus aclnnFlashAttentionVarLenScoreV4(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor, aclrtStream stream) {
  return phase_two("aclnnFlashAttentionVarLenScoreV4", workspace, workspaceSize, executor, stream);
}

aclnnStatus aclnnFlashAttentionVarLenScoreV5GetWorkspaceSize(
    const aclTensor* query, const aclTensor* queryRope, const aclTensor* key, const aclTensor* keyRope, const aclTensor* value,
    const aclTensor* realShiftOptional, const aclTensor* dropMaskOptional, const aclTensor* paddingMaskOptional,
    const aclTensor* attenMaskOptional, const aclTensor* sinkOptional, const aclIntArray* prefixOptional,
    const aclIntArray* actualSeqQLenOptional, const aclIntArray* actualSeqKvLenOptional, const aclIntArray* qStartIdxOptional,
    const aclIntArray* kvStartIdxOptional, double scaleValue, double keepProb, int64_t preTokens, int64_t nextTokens, int64_t headNum,
    char* inputLayout, int64_t innerPrecise, int64_t sparseMode, int64_t pseType, char* softmaxOutLayout,
    const aclTensor* softmaxMaxOut, const aclTensor* softmaxSumOut, const aclTensor* softmaxOutOut, const aclTensor* attentionOutOut,
    uint64_t* workspaceSize, aclOpExecutor** executor) {
  return phase_one({.function = "aclnnFlashAttentionVarLenScoreV5", .packed_alone = true,
                    .inputs = {{"query", Role::query, query}, {"queryRope", Role::query_rope, queryRope}, {"key", Role::key, key},
                               {"keyRope", Role::key_rope, keyRope}, {"value", Role::value, value},
                               {"realShiftOptional", Role::real_shift, realShiftOptional},
                               {"dropMaskOptional", Role::drop_mask, dropMaskOptional},
                               {"paddingMaskOptional", Role::unused, paddingMaskOptional},
                               {"attenMaskOptional", Role::atten_mask, attenMaskOptional}, {"sinkOptional", Role::sink, sinkOptional}},
                    .outputs = {{"softmaxMaxOut", Role::softmax_max, softmaxMaxOut},
                                {"softmaxSumOut", Role::softmax_sum, softmaxSumOut}, {"softmaxOutOut", Role::unused, softmaxOutOut},
                                {"attentionOutOut", Role::attention_out, attentionOutOut}},
                    .prefix = prefixOptional, .q_ends = actualSeqQLenOptional, .kv_ends = actualSeqKvLenOptional,
                    .q_start = qStartIdxOptional, .kv_start = kvStartIdxOptional, .scale_value = scaleValue, .keep_prob = keepProb,
                    .pre_tokens = preTokens, .next_tokens = nextTokens, .head_num = headNum, .input_layout = inputLayout,
                    .inner_precise = innerPrecise, .sparse_mode = sparseMode, .pse_type = pseType, .softmax_layout = softmaxOutLayout},
                   workspaceSize, executor);
}

aclnnStatus aclnnFlashAttentionVarLenScoreV5GetMaxWorkspaceSize(
    const aclTensor* query, const aclTensor* queryRope, const aclTensor* key, const aclTensor* keyRope, const aclTensor* value,
    const aclTensor* realShiftOptional, const aclTensor* dropMaskOptional, const aclTensor* paddingMaskOptional,
    const aclTensor* attenMaskOptional, const aclTensor* sinkOptional, const aclIntArray* prefixOptional,
    const aclIntArray* actualSeqQLenOptional, const aclIntArray* actualSeqKvLenOptional, const aclIntArray* qStartIdxOptional,
    const aclIntArray* kvStartIdxOptional, double scaleValue, double keepProb, int64_t preTokens, int64_t nextTokens, int64_t headNum,
    char* inputLayout, int64_t innerPrecise, int64_t sparseMode, int64_t pseType, char* softmaxOutLayout,
    const aclTensor* softmaxMaxOut, const aclTensor* softmaxSumOut, const aclTensor* softmaxOutOut, const aclTensor* attentionOutOut,
    uint64_t* workspaceSize, aclOpExecutor** executor) {
  return phase_one({.function = "aclnnFlashAttentionVarLenScoreV5", .packed_alone = true, .upper_bound = true,
                    .inputs = {{"query", Role::query, query}, {"queryRope", Role::query_rope, queryRope}, {"key", Role::key, key},
                               {"keyRope", Role::key_rope, keyRope}, {"value", Role::value, value},
                               {"realShiftOptional", Role::real_shift, realShiftOptional},
                               {"dropMaskOptional", Role::drop_mask, dropMaskOptional},
                               {"paddingMaskOptional", Role::unused, paddingMaskOptional},
                               {"attenMaskOptional", Role::atten_mask, attenMaskOptional}, {"sinkOptional", Role::sink, sinkOptional}},
                    .outputs = {{"softmaxMaxOut", Role::softmax_max, softmaxMaxOut},
                                {"softmaxSumOut", Role::softmax_sum, softmaxSumOut}, {"softmaxOutOut", Role::unused, softmaxOutOut},
                                {"attentionOutOut", Role::attention_out, attentionOutOut}},
                    .prefix = prefixOptional, .q_ends = actualSeqQLenOptional, .kv_ends = actualSeqKvLenOptional,
                    .q_start = qStartIdxOptional, .kv_start = kvStartIdxOptional, .scale_value = scaleValue, .keep_prob = keepProb,
                    .pre_tokens = preTokens, .next_tokens = nextTokens, .head_num = headNum, .input_layout = inputLayout,
                    .inner_precise = innerPrecise, .sparse_mode = sparseMode, .pse_type = pseType, .softmax_layout = softmaxOutLayout},
                   workspaceSize, executor);
}

aclnnStatus aclnnFlashAttentionVarLenScoreV5(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor, aclrtStream stream) {
  return phase_two("aclnnFlashAttentionVarLenScoreV5", workspace, workspaceSize, executor, stream);
}
