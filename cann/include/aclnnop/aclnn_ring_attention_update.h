/* aclnn_ring_attention_update.h: joins attention of the same queries over two sets of keys.
 *
 *   max = max(prevMax, curMax)      t = prevSum * exp(prevMax - max)      u = curSum * exp(curMax - max)      sum = t + u
 *   attnOutOut = prevAttnOut * (t / sum) + curAttnOut * (u / sum)
 *
 * inputLayoutOptional SBH: attention [S,B,N*D], statistics [B,N,S,8]. TND: attention [T,N,D], statistics [T,N,8], which lie in one block
 * [N,length,8] per sequence unless inputSoftmaxLayoutOptional is TND. actualSeqQlenOptional: INT64 tensor of cumulative lengths with a
 * leading 0, read when the operator runs. Attention is FLOAT16, BFLOAT16 or FLOAT, statistics are FLOAT.
 *
 * Two phases. aclnnX...GetWorkspaceSize checks everything, copies all that it is told (shapes, strides, lists, strings, attributes,
 * addresses) and says how many bytes of workspace the run needs; aclnnX queues the run on the stream and uses up the executor.
 * 161001: a required pointer is null. 161002: a dtype, layout or dimension. 561002: what a device finds when it plans the call. The
 * sentence behind a code is in aclGetRecentErrMsg.
 */
#ifndef ACLNNOP_ACLNN_RING_ATTENTION_UPDATE_H_
#define ACLNNOP_ACLNN_RING_ATTENTION_UPDATE_H_

#include "aclnn/aclnn_base.h"
#include "aclnnop/aclnn_util.h"

#ifdef __cplusplus
extern "C" {
#endif

ACLNN_API aclnnStatus aclnnRingAttentionUpdateGetWorkspaceSize(
    const aclTensor* prevAttnOut, const aclTensor* prevSoftmaxMax, const aclTensor* prevSoftmaxSum, const aclTensor* curAttnOut,
    const aclTensor* curSoftmaxMax, const aclTensor* curSoftmaxSum, const aclTensor* actualSeqQlenOptional, char* inputLayoutOptional,
    const aclTensor* attnOutOut, const aclTensor* softmaxMaxOut, const aclTensor* softmaxSumOut, uint64_t* workspaceSize,
    aclOpExecutor** executor);
ACLNN_API aclnnStatus aclnnRingAttentionUpdate(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor, aclrtStream stream);

/* Adds the order of the statistics in TND. */
ACLNN_API aclnnStatus aclnnRingAttentionUpdateV2GetWorkspaceSize(
    const aclTensor* prevAttnOut, const aclTensor* prevSoftmaxMax, const aclTensor* prevSoftmaxSum, const aclTensor* curAttnOut,
    const aclTensor* curSoftmaxMax, const aclTensor* curSoftmaxSum, const aclTensor* actualSeqQlenOptional, char* inputLayoutOptional,
    char* inputSoftmaxLayoutOptional, const aclTensor* attnOutOut, const aclTensor* softmaxMaxOut, const aclTensor* softmaxSumOut,
    uint64_t* workspaceSize, aclOpExecutor** executor);
ACLNN_API aclnnStatus aclnnRingAttentionUpdateV2(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor, aclrtStream stream);

#ifdef __cplusplus
}
#endif
#endif
