// aclnnFlashAttentionUnpaddingScoreGrad, all versions.
#include "aclnnop/aclnn_flash_attention_score_grad.h"
#include "operators/score/request.h"

using namespace fusedattn::cann;
using namespace fusedattn::cann::score;

aclnnStatus aclnnFlashAttentionUnpaddingScoreGradGetWorkspaceSize(
    const aclTensor* query, const aclTensor* keyIn, const aclTensor* value, const aclTensor* dy, const aclTensor* pseShiftOptional,
    const aclTensor* dropMaskOptional, const aclTensor* paddingMaskOptional, const aclTensor* attenMaskOptional,
    const aclTensor* softmaxMaxOptional, const aclTensor* softmaxSumOptional, const aclTensor* softmaxInOptional,
    const aclTensor* attentionInOptional, const aclIntArray* prefixOptional, const aclIntArray* actualSeqQLenOptional,
    const aclIntArray* actualSeqKvLenOptional, double scaleValue, double keepProb, int64_t preTokens, int64_t nextTokens,
    int64_t headNum, char* inputLayout, int64_t innerPrecise, int64_t sparseMode, const aclTensor* dqOut, const aclTensor* dkOut,
    const aclTensor* dvOut, const aclTensor* dpseOut, uint64_t* workspaceSize, aclOpExecutor** executor) {
  return phase_one({.function = "aclnnFlashAttentionUnpaddingScoreGrad", .backward = true, .packed_alone = true,
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
                    .prefix = prefixOptional, .q_ends = actualSeqQLenOptional, .kv_ends = actualSeqKvLenOptional,
                    .scale_value = scaleValue, .keep_prob = keepProb, .pre_tokens = preTokens, .next_tokens = nextTokens,
                    .head_num = headNum, .input_layout = inputLayout, .inner_precise = innerPrecise, .sparse_mode = sparseMode},
                   workspaceSize, executor);
}

aclnnStatus aclnnFlashAttentionUnpaddingScoreGrad(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor, aclrtStream stream) {
  return phase_two("aclnnFlashAttentionUnpaddingScoreGrad", workspace, workspaceSize, executor, stream);
}

aclnnStatus aclnnFlashAttentionUnpaddingScoreGradV2GetWorkspaceSize(
    const aclTensor* query, const aclTensor* keyIn, const aclTensor* value, const aclTensor* dy, const aclTensor* pseShiftOptional,
    const aclTensor* dropMaskOptional, const aclTensor* paddingMaskOptional, const aclTensor* attenMaskOptional,
    const aclTensor* softmaxMaxOptional, const aclTensor* softmaxSumOptional, const aclTensor* softmaxInOptional,
    const aclTensor* attentionInOptional, const aclIntArray* prefixOptional, const aclIntArray* actualSeqQLenOptional,
    const aclIntArray* actualSeqKvLenOptional, const aclIntArray* qStartIdxOptional, const aclIntArray* kvStartIdxOptional,
    double scaleValue, double keepProb, int64_t preTokens, int64_t nextTokens, int64_t headNum, char* inputLayout, int64_t innerPrecise,
    int64_t sparseMode, int64_t pseType, const aclTensor* dqOut, const aclTensor* dkOut, const aclTensor* dvOut,
    const aclTensor* dpseOut, uint64_t* workspaceSize, aclOpExecutor** executor) {
  return phase_one({.function = "aclnnFlashAttentionUnpaddingScoreGradV2", .backward = true, .packed_alone = true,
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
                    .prefix = prefixOptional, .q_ends = actualSeqQLenOptional, .kv_ends = actualSeqKvLenOptional,
                    .q_start = qStartIdxOptional, .kv_start = kvStartIdxOptional, .scale_value = scaleValue, .keep_prob = keepProb,
                    .pre_tokens = preTokens, .next_tokens = nextTokens, .head_num = headNum, .input_layout = inputLayout,
                    .inner_precise = innerPrecise, .sparse_mode = sparseMode, .pse_type = pseType},
                   workspaceSize, executor);
}

aclnnStatus aclnnFlashAttentionUnpaddingScoreGradV2(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor, aclrtStream stream) {
  return phase_two("aclnnFlashAttentionUnpaddingScoreGradV2", workspace, workspaceSize, executor, stream);
}

aclnnStatus aclnnFlashAttentionUnpaddingScoreGradV3GetWorkspaceSize(
    const aclTensor* query, const aclTensor* queryRope, const aclTensor* keyIn, const aclTensor* keyInRope, const aclTensor* value,
    const aclTensor* dy, const aclTensor* pseShiftOptional, const aclTensor* dropMaskOptional, const aclTensor* paddingMaskOptional,
    const aclTensor* attenMaskOptional, const aclTensor* softmaxMaxOptional, const aclTensor* softmaxSumOptional,
    const aclTensor* softmaxInOptional, const aclTensor* attentionInOptional, const aclIntArray* prefixOptional,
    const aclIntArray* actualSeqQLenOptional, const aclIntArray* actualSeqKvLenOptional, const aclIntArray* qStartIdxOptional,
    const aclIntArray* kvStartIdxOptional, double scaleValue, double keepProb, int64_t preTokens, int64_t nextTokens, int64_t headNum,
    char* inputLayout, int64_t innerPrecise, int64_t sparseMode, int64_t pseType, const aclTensor* dqOut, const aclTensor* dqRopeOut,
    const aclTensor* dkOut, const aclTensor* dkRopeOut, const aclTensor* dvOut, const aclTensor* dpseOut, uint64_t* workspaceSize,
    aclOpExecutor** executor) {
  return phase_one({.function = "aclnnFlashAttentionUnpaddingScoreGradV3", .backward = true, .packed_alone = true,
                    .inputs = {{"query", Role::query, query}, {"queryRope", Role::query_rope, queryRope}, {"keyIn", Role::key, keyIn},
                               {"keyInRope", Role::key_rope, keyInRope}, {"value", Role::value, value}, {"dy", Role::dy, dy},
                               {"pseShiftOptional", Role::real_shift, pseShiftOptional},
                               {"dropMaskOptional", Role::drop_mask, dropMaskOptional},
                               {"paddingMaskOptional", Role::unused, paddingMaskOptional},
                               {"attenMaskOptional", Role::atten_mask, attenMaskOptional},
                               {"softmaxMaxOptional", Role::softmax_max, softmaxMaxOptional},
                               {"softmaxSumOptional", Role::softmax_sum, softmaxSumOptional},
                               {"softmaxInOptional", Role::unused, softmaxInOptional},
                               {"attentionInOptional", Role::attention_out, attentionInOptional}},
                    .outputs = {{"dqOut", Role::dq, dqOut}, {"dqRopeOut", Role::dq_rope, dqRopeOut}, {"dkOut", Role::dk, dkOut},
                                {"dkRopeOut", Role::dk_rope, dkRopeOut}, {"dvOut", Role::dv, dvOut}, {"dpseOut", Role::dpse, dpseOut}},
                    .prefix = prefixOptional, .q_ends = actualSeqQLenOptional, .kv_ends = actualSeqKvLenOptional,
                    .q_start = qStartIdxOptional, .kv_start = kvStartIdxOptional, .scale_value = scaleValue, .keep_prob = keepProb,
                    .pre_tokens = preTokens, .next_tokens = nextTokens, .head_num = headNum, .input_layout = inputLayout,
                    .inner_precise = innerPrecise, .sparse_mode = sparseMode, .pse_type = pseType},
                   workspaceSize, executor);
}

aclnnStatus aclnnFlashAttentionUnpaddingScoreGradV3(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor, aclrtStream stream) {
  return phase_two("aclnnFlashAttentionUnpaddingScoreGradV3", workspace, workspaceSize, executor, stream);
}

aclnnStatus aclnnFlashAttentionUnpaddingScoreGradV4GetWorkspaceSize(
    const aclTensor* query, const aclTensor* keyIn, const aclTensor* value, const aclTensor* dy, const aclTensor* pseShiftOptional,
    const aclTensor* dropMaskOptional, const aclTensor* paddingMaskOptional, const aclTensor* attenMaskOptional,
    const aclTensor* softmaxMaxOptional, const aclTensor* softmaxSumOptional, const aclTensor* softmaxInOptional,
    const aclTensor* attentionInOptional, const aclIntArray* prefixOptional, const aclIntArray* actualSeqQLenOptional,
    const aclIntArray* actualSeqKvLenOptional, double scaleValue, double keepProb, int64_t preTokens, int64_t nextTokens,
    int64_t headNum, char* inputLayout, int64_t innerPrecise, int64_t sparseMode, const aclTensor* dqOut, const aclTensor* dkOut,
    const aclTensor* dvOut, const aclTensor* dpseOut, char* softmaxInLayout, uint64_t* workspaceSize, aclOpExecutor** executor) {
  return phase_one({.function = "aclnnFlashAttentionUnpaddingScoreGradV4", .backward = true, .packed_alone = true,
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
                    .prefix = prefixOptional, .q_ends = actualSeqQLenOptional, .kv_ends = actualSeqKvLenOptional,
                    .scale_value = scaleValue, .keep_prob = keepProb, .pre_tokens = preTokens, .next_tokens = nextTokens,
                    .head_num = headNum, .input_layout = inputLayout, .inner_precise = innerPrecise, .sparse_mode = sparseMode,
                    .softmax_layout = softmaxInLayout},
                   workspaceSize, executor);
}

aclnnStatus aclnnFlashAttentionUnpaddingScoreGradV4(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor, aclrtStream stream) {
  return phase_two("aclnnFlashAttentionUnpaddingScoreGradV4", workspace, workspaceSize, executor, stream);
}

aclnnStatus aclnnFlashAttentionUnpaddingScoreGradV5GetWorkspaceSize(
    const aclTensor* query, const aclTensor* queryRope, const aclTensor* keyIn, const aclTensor* keyInRope, const aclTensor* value,
    const aclTensor* dy, const aclTensor* pseShiftOptional, const aclTensor* dropMaskOptional, const aclTensor* paddingMaskOptional,
    const aclTensor* attenMaskOptional, const aclTensor* softmaxMaxOptional, const aclTensor* softmaxSumOptional,
    const aclTensor* softmaxInOptional, const aclTensor* attentionInOptional, const aclTensor* sinkInOptional,
    const aclIntArray* prefixOptional, const aclIntArray* actualSeqQLenOptional, const aclIntArray* actualSeqKvLenOptional,
    const aclIntArray* qStartIdxOptional, const aclIntArray* kvStartIdxOptional, double scaleValue, double keepProb, int64_t preTokens,
    int64_t nextTokens, int64_t headNum, char* inputLayout, int64_t innerPrecise, int64_t sparseMode, int64_t pseType,
    char* softmaxInLayout, const aclTensor* dqOut, const aclTensor* dqRopeOut, const aclTensor* dkOut, const aclTensor* dkRopeOut,
    const aclTensor* dvOut, const aclTensor* dpseOut, const aclTensor* dsinkOut, uint64_t* workspaceSize, aclOpExecutor** executor) {
  return phase_one({.function = "aclnnFlashAttentionUnpaddingScoreGradV5", .backward = true, .packed_alone = true,
                    .inputs = {{"query", Role::query, query}, {"queryRope", Role::query_rope, queryRope}, {"keyIn", Role::key, keyIn},
                               {"keyInRope", Role::key_rope, keyInRope}, {"value", Role::value, value}, {"dy", Role::dy, dy},
                               {"pseShiftOptional", Role::real_shift, pseShiftOptional},
                               {"dropMaskOptional", Role::drop_mask, dropMaskOptional},
                               {"paddingMaskOptional", Role::unused, paddingMaskOptional},
                               {"attenMaskOptional", Role::atten_mask, attenMaskOptional},
                               {"softmaxMaxOptional", Role::softmax_max, softmaxMaxOptional},
                               {"softmaxSumOptional", Role::softmax_sum, softmaxSumOptional},
                               {"softmaxInOptional", Role::unused, softmaxInOptional},
                               {"attentionInOptional", Role::attention_out, attentionInOptional},
                               {"sinkInOptional", Role::sink, sinkInOptional}},
                    .outputs = {{"dqOut", Role::dq, dqOut}, {"dqRopeOut", Role::dq_rope, dqRopeOut}, {"dkOut", Role::dk, dkOut},
                                {"dkRopeOut", Role::dk_rope, dkRopeOut}, {"dvOut", Role::dv, dvOut}, {"dpseOut", Role::dpse, dpseOut},
                                {"dsinkOut", Role::dsink, dsinkOut}},
                    .prefix = prefixOptional, .q_ends = actualSeqQLenOptional, .kv_ends = actualSeqKvLenOptional,
                    .q_start = qStartIdxOptional, .kv_start = kvStartIdxOptional, .scale_value = scaleValue, .keep_prob = keepProb,
                    .pre_tokens = preTokens, .next_tokens = nextTokens, .head_num = headNum, .input_layout = inputLayout,
                    .inner_precise = innerPrecise, .sparse_mode = sparseMode, .pse_type = pseType, .softmax_layout = softmaxInLayout},
                   workspaceSize, executor);
}

aclnnStatus aclnnFlashAttentionUnpaddingScoreGradV5GetMaxWorkspaceSize(
    const aclTensor* query, const aclTensor* queryRope, const aclTensor* keyIn, const aclTensor* keyInRope, const aclTensor* value,
    const aclTensor* dy, const aclTensor* pseShiftOptional, const aclTensor* dropMaskOptional, const aclTensor* paddingMaskOptional,
    const aclTensor* attenMaskOptional, const aclTensor* softmaxMaxOptional, const aclTensor* softmaxSumOptional,
    const aclTensor* softmaxInOptional, const aclTensor* attentionInOptional, const aclTensor* sinkInOptional,
    const aclIntArray* prefixOptional, const aclIntArray* actualSeqQLenOptional, const aclIntArray* actualSeqKvLenOptional,
    const aclIntArray* qStartIdxOptional, const aclIntArray* kvStartIdxOptional, double scaleValue, double keepProb, int64_t preTokens,
    int64_t nextTokens, int64_t headNum, char* inputLayout, int64_t innerPrecise, int64_t sparseMode, int64_t pseType,
    char* softmaxInLayout, const aclTensor* dqOut, const aclTensor* dqRopeOut, const aclTensor* dkOut, const aclTensor* dkRopeOut,
    const aclTensor* dvOut, const aclTensor* dpseOut, const aclTensor* dsinkOut, uint64_t* workspaceSize, aclOpExecutor** executor) {
  return phase_one({.function = "aclnnFlashAttentionUnpaddingScoreGradV5", .backward = true, .packed_alone = true, .upper_bound = true,
                    .inputs = {{"query", Role::query, query}, {"queryRope", Role::query_rope, queryRope}, {"keyIn", Role::key, keyIn},
                               {"keyInRope", Role::key_rope, keyInRope}, {"value", Role::value, value}, {"dy", Role::dy, dy},
                               {"pseShiftOptional", Role::real_shift, pseShiftOptional},
                               {"dropMaskOptional", Role::drop_mask, dropMaskOptional},
                               {"paddingMaskOptional", Role::unused, paddingMaskOptional},
                               {"attenMaskOptional", Role::atten_mask, attenMaskOptional},
                               {"softmaxMaxOptional", Role::softmax_max, softmaxMaxOptional},
                               {"softmaxSumOptional", Role::softmax_sum, softmaxSumOptional},
                               {"softmaxInOptional", Role::unused, softmaxInOptional},
                               {"attentionInOptional", Role::attention_out, attentionInOptional},
                               {"sinkInOptional", Role::sink, sinkInOptional}},
                    .outputs = {{"dqOut", Role::dq, dqOut}, {"dqRopeOut", Role::dq_rope, dqRopeOut}, {"dkOut", Role::dk, dkOut},
                                {"dkRopeOut", Role::dk_rope, dkRopeOut}, {"dvOut", Role::dv, dvOut}, {"dpseOut", Role::dpse, dpseOut},
                                {"dsinkOut", Role::dsink, dsinkOut}},
                    .prefix = prefixOptional, .q_ends = actualSeqQLenOptional, .kv_ends = actualSeqKvLenOptional,
                    .q_start = qStartIdxOptional, .kv_start = kvStartIdxOptional, .scale_value = scaleValue, .keep_prob = keepProb,
                    .pre_tokens = preTokens, .next_tokens = nextTokens, .head_num = headNum, .input_layout = inputLayout,
                    .inner_precise = innerPrecise, .sparse_mode = sparseMode, .pse_type = pseType, .softmax_layout = softmaxInLayout},
                   workspaceSize, executor);
}

aclnnStatus aclnnFlashAttentionUnpaddingScoreGradV5(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor, aclrtStream stream) {
  return phase_two("aclnnFlashAttentionUnpaddingScoreGradV5", workspace, workspaceSize, executor, stream);
}
