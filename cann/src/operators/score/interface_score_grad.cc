// aclnnFlashAttentionScoreGrad, all versions.
#include "aclnnop/aclnn_flash_attention_score_grad.h"
#include "operators/score/request.h"

using namespace fusedattn::cann;
using namespace fusedattn::cann::score;

aclnnStatus aclnnFlashAttentionScoreGradGetWorkspaceSize(
    const aclTensor* query, const aclTensor* keyIn, const aclTensor* value, const aclTensor* dy, const aclTensor* pseShiftOptional,
    const aclTensor* dropMaskOptional, const aclTensor* paddingMaskOptional, const aclTensor* attenMaskOptional,
    const aclTensor* softmaxMaxOptional, const aclTensor* softmaxSumOptional, const aclTensor* softmaxInOptional,
    const aclTensor* attentionInOptional, const aclIntArray* prefixOptional, double scaleValue, double keepProb, int64_t preTokens,
    int64_t nextTokens, int64_t headNum, char* inputLayout, int64_t innerPrecise, int64_t sparseMode, const aclTensor* dqOut,
    const aclTensor* dkOut, const aclTensor* dvOut, const aclTensor* dpseOut, uint64_t* workspaceSize, aclOpExecutor** executor) {
  return phase_one({.function = "aclnnFlashAttentionScoreGrad", .backward = true,
                    .inputs = {{"query", Role::query, query}, {"keyIn", Role::key, keyIn}, {"value", Role::value, value},
                               {"dy", Role::dy, dy}, {"pseShiftOptional", Role::real_shift, pseShiftOptional},
                               {"dropMaskOptional", Role::drop_mask, dropMaskOptional},
                               {"paddingMaskOptional", Role::unused, paddingMaskOptional},
                               {"attenMaskOptional", Role::atten_mask, attenMaskOptional},
                               {"softmaxMaxOptional", Role::softmax_max, softmaxMaxOptional},
                               {"softmaxSumOptional", Role::softmax_sum, softmaxSumOptional},
                               {"softmaxInOptional", Role::unused, softmaxInOptional},
                               {"attentionInOptional", Role::attention_out, attentionInOptional}},
                    .outputs = {{"dqOut", Role::dq, dqOut}, {"dkOut", Role::dk, dkOut}, {"dvOut", Role::dv, dvOut},
                                {"dpseOut", Role::dpse, dpseOut}},
                    .prefix = prefixOptional, .scale_value = scaleValue, .keep_prob = keepProb, .pre_tokens = preTokens,
                    .next_tokens = nextTokens, .head_num = headNum, .input_layout = inputLayout, .inner_precise = innerPrecise,
                    .sparse_mode = sparseMode},
                   workspaceSize, executor);
}

aclnnStatus aclnnFlashAttentionScoreGrad(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor, aclrtStream stream) {
  return phase_two("aclnnFlashAttentionScoreGrad", workspace, workspaceSize, executor, stream);
}

aclnnStatus aclnnFlashAttentionScoreGradV2GetWorkspaceSize(
    const aclTensor* query, const aclTensor* keyIn, const aclTensor* value, const aclTensor* dy, const aclTensor* pseShiftOptional,
    const aclTensor* dropMaskOptional, const aclTensor* paddingMaskOptional, const aclTensor* attenMaskOptional,
    const aclTensor* softmaxMaxOptional, const aclTensor* softmaxSumOptional, const aclTensor* softmaxInOptional,
    const aclTensor* attentionInOptional, const aclIntArray* prefixOptional, const aclIntArray* qStartIdxOptional,
    const aclIntArray* kvStartIdxOptional, double scaleValue, double keepProb, int64_t preTokens, int64_t nextTokens, int64_t headNum,
    char* inputLayout, int64_t innerPrecise, int64_t sparseMode, int64_t pseType, const aclTensor* dqOut, const aclTensor* dkOut,
    const aclTensor* dvOut, const aclTensor* dpseOut, uint64_t* workspaceSize, aclOpExecutor** executor) {
  return phase_one({.function = "aclnnFlashAttentionScoreGradV2", .backward = true,
                    .inputs = {{"query", Role::query, query}, {"keyIn", Role::key, keyIn}, {"value", Role::value, value},
                               {"dy", Role::dy, dy}, {"pseShiftOptional", Role::real_shift, pseShiftOptional},
                               {"dropMaskOptional", Role::drop_mask, dropMaskOptional},
                               {"paddingMaskOptional", Role::unused, paddingMaskOptional},
                               {"attenMaskOptional", Role::atten_mask, attenMaskOptional},
                               {"softmaxMaxOptional", Role::softmax_max, softmaxMaxOptional},
                               {"softmaxSumOptional", Role::softmax_sum, softmaxSumOptional},
                               {"softmaxInOptional", Role::unused, softmaxInOptional},
                               {"attentionInOptional", Role::attention_out, attentionInOptional}},
                    .outputs = {{"dqOut", Role::dq, dqOut}, {"dkOut", Role::dk, dkOut}, {"dvOut", Role::dv, dvOut},
                                {"dpseOut", Role::dpse, dpseOut}},
                    .prefix = prefixOptional, .q_start = qStartIdxOptional, .kv_start = kvStartIdxOptional, .scale_value = scaleValue,
                    .keep_prob = keepProb, .pre_tokens = preTokens, .next_tokens = nextTokens, .head_num = headNum,
                    .input_layout = inputLayout, .inner_precise = innerPrecise, .sparse_mode = sparseMode, .pse_type = pseType},
                   workspaceSize, executor);
}

aclnnStatus aclnnFlashAttentionScoreGradV2(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor, aclrtStream stream) {
  return phase_two("aclnnFlashAttentionScoreGradV2", workspace, workspaceSize, executor, stream);
}

aclnnStatus aclnnFlashAttentionScoreGradV3GetWorkspaceSize(
    const aclTensor* query, const aclTensor* keyIn, const aclTensor* value, const aclTensor* dy, const aclTensor* pseShiftOptional,
    const aclTensor* dropMaskOptional, const aclTensor* paddingMaskOptional, const aclTensor* attenMaskOptional,
    const aclTensor* softmaxMaxOptional, const aclTensor* softmaxSumOptional, const aclTensor* softmaxInOptional,
    const aclTensor* attentionInOptional, const aclTensor* sinkInOptional, const aclIntArray* prefixOptional,
    const aclIntArray* qStartIdxOptional, const aclIntArray* kvStartIdxOptional, double scaleValue, double keepProb, int64_t preTokens,
    int64_t nextTokens, int64_t headNum, char* inputLayout, int64_t innerPrecise, int64_t sparseMode, int64_t pseType,
    const aclTensor* dqOut, const aclTensor* dkOut, const aclTensor* dvOut, const aclTensor* dpseOut, const aclTensor* dsinkOut,
    uint64_t* workspaceSize, aclOpExecutor** executor) {
  return phase_one({.function = "aclnnFlashAttentionScoreGradV3", .backward = true,
                    .inputs = {{"query", Role::query, query}, {"keyIn", Role::key, keyIn}, {"value", Role::value, value},
                               {"dy", Role::dy, dy}, {"pseShiftOptional", Role::real_shift, pseShiftOptional},
                               {"dropMaskOptional", Role::drop_mask, dropMaskOptional},
                               {"paddingMaskOptional", Role::unused, paddingMaskOptional},
                               {"attenMaskOptional", Role::atten_mask, attenMaskOptional},
                               {"softmaxMaxOptional", Role::softmax_max, softmaxMaxOptional},
                               {"softmaxSumOptional", Role::softmax_sum, softmaxSumOptional},
                               {"softmaxInOptional", Role::unused, softmaxInOptional},
                               {"attentionInOptional", Role::attention_out, attentionInOptional},
                               {"sinkInOptional", Role::sink, sinkInOptional}},
                    .outputs = {{"dqOut", Role::dq, dqOut}, {"dkOut", Role::dk, dkOut}, {"dvOut", Role::dv, dvOut},
                                {"dpseOut", Role::dpse, dpseOut}, {"dsinkOut", Role::dsink, dsinkOut}},
                    .prefix = prefixOptional, .q_start = qStartIdxOptional, .kv_start = kvStartIdxOptional, .scale_value = scaleValue,
                    .keep_prob = keepProb, .pre_tokens = preTokens, .next_tokens = nextTokens, .head_num = headNum,
                    .input_layout = inputLayout, .inner_precise = innerPrecise, .sparse_mode = sparseMode, .pse_type = pseType},
                   workspaceSize, executor);
}

aclnnStatus aclnnFlashAttentionScoreGradV3(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor, aclrtStream stream) {
  return phase_two("aclnnFlashAttentionScoreGradV3", workspace, workspaceSize, executor, stream);
}

aclnnStatus aclnnFlashAttentionScoreGradV4GetWorkspaceSize(
    const aclTensor* query, const aclTensor* keyIn, const aclTensor* value, const aclTensor* dy, const aclTensor* pseShiftOptional,
    const aclTensor* dropMaskOptional, const aclTensor* paddingMaskOptional, const aclTensor* attenMaskOptional,
    const aclTensor* softmaxMaxOptional, const aclTensor* softmaxSumOptional, const aclTensor* softmaxInOptional,
    const aclTensor* attentionInOptional, const aclTensor* sinkInOptional, const aclTensor* queryRopeOptional,
    const aclTensor* keyRopeOptional, const aclTensor* dScaleQOptional, const aclTensor* dScaleKOptional,
    const aclTensor* dScaleVOptional, const aclTensor* dScaleDyOptional, const aclTensor* dScaleOOptional,
    const aclIntArray* prefixOptional, const aclIntArray* actualSeqQLenOptional, const aclIntArray* actualSeqKvLenOptional,
    const aclIntArray* qStartIdxOptional, const aclIntArray* kvStartIdxOptional, double scaleValue, double keepProb, int64_t preTokens,
    int64_t nextTokens, int64_t headNum, char* inputLayout, char* softmaxInLayout, int64_t innerPrecise, int64_t sparseMode,
    int64_t pseType, int64_t seed, int64_t offset, int64_t outDtype, const aclTensor* dqOut, const aclTensor* dkOut,
    const aclTensor* dvOut, const aclTensor* dqRopeOut, const aclTensor* dkRopeOut, const aclTensor* dpseOut, const aclTensor* dsinkOut,
    uint64_t* workspaceSize, aclOpExecutor** executor) {
  return phase_one({.function = "aclnnFlashAttentionScoreGradV4", .backward = true, .unified = true,
                    .inputs = {{"query", Role::query, query}, {"keyIn", Role::key, keyIn}, {"value", Role::value, value},
                               {"dy", Role::dy, dy}, {"pseShiftOptional", Role::real_shift, pseShiftOptional},
                               {"dropMaskOptional", Role::drop_mask, dropMaskOptional},
                               {"paddingMaskOptional", Role::unused, paddingMaskOptional},
                               {"attenMaskOptional", Role::atten_mask, attenMaskOptional},
                               {"softmaxMaxOptional", Role::softmax_max, softmaxMaxOptional},
                               {"softmaxSumOptional", Role::softmax_sum, softmaxSumOptional},
                               {"softmaxInOptional", Role::unused, softmaxInOptional},
                               {"attentionInOptional", Role::attention_out, attentionInOptional},
                               {"sinkInOptional", Role::sink, sinkInOptional},
                               {"queryRopeOptional", Role::query_rope, queryRopeOptional},
                               {"keyRopeOptional", Role::key_rope, keyRopeOptional},
                               {"dScaleQOptional", Role::dequantisation, dScaleQOptional},
                               {"dScaleKOptional", Role::dequantisation, dScaleKOptional},
                               {"dScaleVOptional", Role::dequantisation, dScaleVOptional},
                               {"dScaleDyOptional", Role::dequantisation, dScaleDyOptional},
                               {"dScaleOOptional", Role::dequantisation, dScaleOOptional}},
                    .outputs = {{"dqOut", Role::dq, dqOut}, {"dkOut", Role::dk, dkOut}, {"dvOut", Role::dv, dvOut},
                                {"dqRopeOut", Role::dq_rope, dqRopeOut}, {"dkRopeOut", Role::dk_rope, dkRopeOut},
                                {"dpseOut", Role::dpse, dpseOut}, {"dsinkOut", Role::dsink, dsinkOut}},
                    .prefix = prefixOptional, .q_ends = actualSeqQLenOptional, .kv_ends = actualSeqKvLenOptional,
                    .q_start = qStartIdxOptional, .kv_start = kvStartIdxOptional, .scale_value = scaleValue, .keep_prob = keepProb,
                    .pre_tokens = preTokens, .next_tokens = nextTokens, .head_num = headNum, .input_layout = inputLayout,
                    .inner_precise = innerPrecise, .sparse_mode = sparseMode, .pse_type = pseType, .softmax_layout = softmaxInLayout,
                    .seed = seed, .offset = offset, .out_dtype = outDtype},
                   workspaceSize, executor);
}

aclnnStatus aclnnFlashAttentionScoreGradV4(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor, aclrtStream stream) {
  return phase_two("aclnnFlashAttentionScoreGradV4", workspace, workspaceSize, executor, stream);
}
