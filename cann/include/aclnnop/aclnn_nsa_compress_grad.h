/* aclnn_nsa_compress_grad.h: token compression of native sparse attention, backward.
 *
 * inputGradOut, of input's shape, and weightGradOut, of weight's, from outputGrad, of the output's. Tokens in no window have gradient 0.
 * actSeqLenOptionalOptional: cumulative ends, or lengths with actSeqLenType 1; null: one sequence.
 *
 * Two phases. aclnnX...GetWorkspaceSize checks everything, copies all that it is told (shapes, strides, lists, strings, attributes,
 * addresses) and says how many bytes of workspace the run needs; aclnnX queues the run on the stream and uses up the executor.
 * 161001: a required pointer is null. 161002: a dtype, layout or dimension. 561002: what a device finds when it plans the call. The
 * sentence behind a code is in aclGetRecentErrMsg.
 */
#ifndef ACLNNOP_ACLNN_NSA_COMPRESS_GRAD_H_
#define ACLNNOP_ACLNN_NSA_COMPRESS_GRAD_H_

#include "aclnn/aclnn_base.h"
#include "aclnnop/aclnn_util.h"

#ifdef __cplusplus
extern "C" {
#endif

ACLNN_API aclnnStatus aclnnNsaCompressGradGetWorkspaceSize(
    const aclTensor* outputGrad, const aclTensor* input, const aclTensor* weight, const aclIntArray* actSeqLenOptionalOptional,
    int64_t compressBlockSize, int64_t compressStride, int64_t actSeqLenType, char* layoutOptionalOptional, const aclTensor* inputGradOut,
    const aclTensor* weightGradOut, uint64_t* workspaceSize, aclOpExecutor** executor);
ACLNN_API aclnnStatus aclnnNsaCompressGrad(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor, aclrtStream stream);

#ifdef __cplusplus
}
#endif
#endif
