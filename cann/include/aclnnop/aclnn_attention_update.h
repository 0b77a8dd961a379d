/* aclnn_attention_update.h: joins attention of the same queries over several sets of keys.
 *
 *   lseOut = log(sum_p exp(lse_p))      out = sum_p localOut_p * exp(lse_p - lseOut)
 *
 * lse: FLOAT tensors [R]. localOut: as many FLOAT16, BFLOAT16 or FLOAT tensors [R,D]. updateType 0: out alone, lseOut null. 1: both.
 *
 * Two phases. aclnnX...GetWorkspaceSize checks everything, copies all that it is told (shapes, strides, lists, strings, attributes,
 * addresses) and says how many bytes of workspace the run needs; aclnnX queues the run on the stream and uses up the executor.
 * 161001: a required pointer is null. 161002: a dtype, layout or dimension. 561002: what a device finds when it plans the call. The
 * sentence behind a code is in aclGetRecentErrMsg.
 */
#ifndef ACLNNOP_ACLNN_ATTENTION_UPDATE_H_
#define ACLNNOP_ACLNN_ATTENTION_UPDATE_H_

#include "aclnn/aclnn_base.h"
#include "aclnnop/aclnn_util.h"

#ifdef __cplusplus
extern "C" {
#endif

ACLNN_API aclnnStatus aclnnAttentionUpdateGetWorkspaceSize(
    const aclTensorList* lse, const aclTensorList* localOut, int64_t updateType, aclTensor* out, aclTensor* lseOut,
    uint64_t* workspaceSize, aclOpExecutor** executor);
ACLNN_API aclnnStatus aclnnAttentionUpdate(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor, aclrtStream stream);

#ifdef __cplusplus
}
#endif
#endif
