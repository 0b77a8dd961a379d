// aclnnFlashAttentionScore, all versions.
#include "aclnnop/aclnn_flash_attention_score.h"
#include "operators/score/request.h"

using namespace fusedattn::cann;
using namespace fusedattn::cann::score;

aclnnStatus aclnnFlashAttentionScoreGetWorkspaceSize(
    const aclTensor* query, const aclTensor* key, const aclTensor* value, const aclTensor* realShiftOptional,
    const aclTensor* dropMaskOptional, const aclTensor* paddingMaskOptional, const aclTensor* attenMaskOptional,
    const aclIntArray* prefixOptional, double scaleValue, double keepProb, int64_t preTokens, int64_t nextTokens, int64_t headNum,
    char* inputLayout, int64_t innerPrecise, int64_t sparseMode, const aclTensor* softmaxMaxOut, const aclTensor* softmaxSumOut,
    const aclTensor* softmaxOutOut, const aclTensor* attentionOutOut, uint64_t* workspaceSize, aclOpExecutor** executor) {
  return phase_one({.function = "aclnnFlashAttentionScore",
                    .inputs = {{"query", Role::query, query}, {"key", Role::key, key}, {"value", Role::value, value},
                               {"realShiftOptional", Role::real_shift, realShiftOptional},
                               {"dropMaskOptional", Role::drop_mask, dropMaskOptional},
                               {"paddingMaskOptional", Role::unused, paddingMaskOptional},
                               {"attenMaskOptional", Role::atten_mask, attenMaskOptional}},
                    .outputs = {{"softmaxMaxOut", Role::softmax_max, softmaxMaxOut},
                                {"softmaxSumOut", Role::softmax_sum, softmaxSumOut}, {"softmaxOutOut", Role::unused, softmaxOutOut},
                                {"attentionOutOut", Role::attention_out, attentionOutOut}},
                    .prefix = prefixOptional, .scale_value = scaleValue, .keep_prob = keepProb, .pre_tokens = preTokens,
                    .next_tokens = nextTokens, .head_num = headNum, .input_layout = inputLayout, .inner_precise = innerPrecise,
                    .sparse_mode = sparseMode},
                   workspaceSize, executor);
}

aclnnStatus aclnnFlashAttentionScore(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor, aclrtStream stream) {
  return phase_two("aclnnFlashAttentionScore", workspace, workspaceSize, executor, stream);
}

aclnnStatus aclnnFlashAttentionScoreV2GetWorkspaceSize(
    const aclTensor* query, const aclTensor* key, const aclTensor* value, const aclTensor* realShiftOptional,
    const aclTensor* dropMaskOptional, const aclTensor* paddingMaskOptional, const aclTensor* attenMaskOptional,
    const aclIntArray* prefixOptional, const aclIntArray* qStartIdxOptional, const aclIntArray* kvStartIdxOptional, double scaleValue,
    double keepProb, int64_t preTokens, int64_t nextTokens, int64_t headNum, char* inputLayout, int64_t innerPrecise,
    int64_t sparseMode, int64_t pseType, const aclTensor* softmaxMaxOut, const aclTensor* softmaxSumOut, const aclTensor* softmaxOutOut,
    const aclTensor* attentionOutOut, uint64_t* workspaceSize, aclOpExecutor** executor) {
  return phase_one({.function = "aclnnFlashAttentionScoreV2",
                    .inputs = {{"query", Role::query, query}, {"key", Role::key, key}, {"value", Role::value, value},
                               {"realShiftOptional", Role::real_shift, realShiftOptional},
                               {"dropMaskOptional", Role::drop_mask, dropMaskOptional},
                               {"paddingMaskOptional", Role::unused, paddingMaskOptional},
                               {"attenMaskOptional", Role::atten_mask, attenMaskOptional}},
                    .outputs = {{"softmaxMaxOut", Role::softmax_max, softmaxMaxOut},
                                {"softmaxSumOut", Role::softmax_sum, softmaxSumOut}, {"softmaxOutOut", Role::unused, softmaxOutOut},
                                {"attentionOutOut", Role::attention_out, attentionOutOut}},
                    .prefix = prefixOptional, .q_start = qStartIdxOptional, .kv_start = kvStartIdxOptional, .scale_value = scaleValue,
                    .keep_prob = keepProb, .pre_tokens = preTokens, .next_tokens = nextTokens, .head_num = headNum,
                    .input_layout = inputLayout, .inner_precise = innerPrecise, .sparse_mode = sparseMode, .pse_type = pseType},
                   workspaceSize, executor);
}

aclnnStatus aclnnFlashAttentionScoreV2(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor, aclrtStream stream) {
  return phase_two("aclnnFlashAttentionScoreV2", workspace, workspaceSize, executor, stream);
}

aclnnStatus aclnnFlashAttentionScoreV3GetWorkspaceSize(
    const aclTensor* query, const aclTensor* key, const aclTensor* value, const aclTensor* realShiftOptional,
    const aclTensor* dropMaskOptional, const aclTensor* paddingMaskOptional, const aclTensor* attenMaskOptional,
    const aclTensor* sinkOptional, const aclIntArray* prefixOptional, const aclIntArray* qStartIdxOptional,
    const aclIntArray* kvStartIdxOptional, double scaleValue, double keepProb, int64_t preTokens, int64_t nextTokens, int64_t headNum,
    char* inputLayout, int64_t innerPrecise, int64_t sparseMode, int64_t pseType, const aclTensor* softmaxMaxOut,
    const aclTensor* softmaxSumOut, const aclTensor* softmaxOutOut, const aclTensor* attentionOutOut, uint64_t* workspaceSize,
    aclOpExecutor** executor) {
  return phase_one({.function = "aclnnFlashAttentionScoreV3",
                    .inputs = {{"query", Role::query, query}, {"key", Role::key, key}, {"value", Role::value, value},
                               {"realShiftOptional", Role::real_shift, realShiftOptional},
                               {"dropMaskOptional", Role::drop_mask, dropMaskOptional},
                               {"paddingMaskOptional", Role::unused, paddingMaskOptional},
                               {"attenMaskOptional", Role::atten_mask, attenMaskOptional}, {"sinkOptional", Role::sink, sinkOptional}},
                    .outputs = {{"softmaxMaxOut", Role::softmax_max, softmaxMaxOut},
                                {"softmaxSumOut", Role::softmax_sum, softmaxSumOut}, {"softmaxOutOut", Role::unused, softmaxOutOut},
                                {"attentionOutOut", Role::attention_out, attentionOutOut}},
                    .prefix = prefixOptional, .q_start = qStartIdxOptional, .kv_start = kvStartIdxOptional, .scale_value = scaleValue,
                    .keep_prob = keepProb, .pre_tokens = preTokens, .next_tokens = nextTokens, .head_num = headNum,
                    .input_layout = inputLayout, .inner_precise = innerPrecise, .sparse_mode = sparseMode, .pse_type = pseType},
                   workspaceSize, executor);
}

aclnnStatus aclnnFlashAttentionScoreV3(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor, aclrtStream stream) {
  return phase_two("aclnnFlashAttentionScoreV3", workspace, workspaceSize, executor, stream);
}

aclnnStatus aclnnFlashAttentionScoreV4GetWorkspaceSize(
    const aclTensor* query, const aclTensor* key, const aclTensor* value, const aclTensor* realShiftOptional,
    const aclTensor* dropMaskOptional, const aclTensor* paddingMaskOptional, const aclTensor* attenMaskOptional,
    const aclTensor* queryRopeOptional, const aclTensor* keyRopeOptional, const aclTensor* dScaleQOptional,
    const aclTensor* dScaleKOptional, const aclTensor* dScaleVOptional, const aclTensor* sinkOptional,
    const aclIntArray* prefixOptional, const aclIntArray* actualSeqQLenOptional, const aclIntArray* actualSeqKvLenOptional,
    const aclIntArray* qStartIdxOptional, const aclIntArray* kvStartIdxOptional, double scaleValue, double keepProb, int64_t preTokens,
    int64_t nextTokens, int64_t headNum, char* inputLayout, int64_t innerPrecise, int64_t sparseMode, int64_t outDtype, int64_t pseType,
    char* softmaxOutLayout, int64_t seed, int64_t offset, const aclTensor* softmaxMaxOut, const aclTensor* softmaxSumOut,
    const aclTensor* softmaxOutOut, const aclTensor* attentionOutOut, uint64_t* workspaceSize, aclOpExecutor** executor) {
  return phase_one({.function = "aclnnFlashAttentionScoreV4", .unified = true,
                    .inputs = {{"query", Role::query, query}, {"key", Role::key, key}, {"value", Role::value, value},
                               {"realShiftOptional", Role::real_shift, realShiftOptional},
                               {"dropMaskOptional", Role::drop_mask, dropMaskOptional},
                               {"paddingMaskOptional", Role::unused, paddingMaskOptional},
                               {"attenMaskOptional", Role::atten_mask, attenMaskOptional},
                               {"queryRopeOptional", Role::query_rope, queryRopeOptional},
                               {"keyRopeOptional", Role::key_rope, keyRopeOptional},
                               {"dScaleQOptional", Role::dequantisation, dScaleQOptional},
                               {"dScaleKOptional", Role::dequantisation, dScaleKOptional},
                               {"dScaleVOptional", Role::dequantisation, dScaleVOptional}, {"sinkOptional", Role::sink, sinkOptional}},
                    .outputs = {{"softmaxMaxOut", Role::softmax_max, softmaxMaxOut},
                                {"softmaxSumOut", Role::softmax_sum, softmaxSumOut}, {"softmaxOutOut", Role::unused, softmaxOutOut},
                                {"attentionOutOut", Role::attention_out, attentionOutOut}},
                    .prefix = prefixOptional, .q_ends = actualSeqQLenOptional, .kv_ends = actualSeqKvLenOptional,
                    .q_start = qStartIdxOptional, .kv_start = kvStartIdxOptional, .scale_value = scaleValue, .keep_prob = keepProb,
                    .pre_tokens = preTokens, .next_tokens = nextTokens, .head_num = headNum, .input_layout = inputLayout,
                    .inner_precise = innerPrecise, .sparse_mode = sparseMode, .pse_type = pseType, .softmax_layout = softmaxOutLayout,
                    .seed = seed, .offset = offset, .out_dtype = outDtype},
                   workspaceSize, executor);
}

aclnnStatus aclnnFlashAttentionScoreV4(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor, aclrtStream stream) {
  return phase_two("aclnnFlashAttentionScoreV4", workspace, workspaceSize, executor, stream);
}
