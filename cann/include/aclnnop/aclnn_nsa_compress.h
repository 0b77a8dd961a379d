/* aclnn_nsa_compress.h: token compression of native sparse attention, forward.
 *
 * output[window i of sequence b, n, d] = sum over l < compressBlockSize of weight[l,n] * input[start of b + i * compressStride + l, n, d]
 *
 * input: FLOAT16 or BFLOAT16 (here also FLOAT) [T,N,D]. weight: [compressBlockSize, N]. output: [windows of all sequences, N, D].
 * actSeqLenOptional: cumulative ends of the sequences, the last of them T. layoutOptional: TND. actSeqLenType: 0.
 *
 * Two phases. aclnnX...GetWorkspaceSize checks everything, copies all that it is told (shapes, strides, lists, strings, attributes,
 * addresses) and says how many bytes of workspace the run needs; aclnnX queues the run on the stream and uses up the executor.
 * 161001: a required pointer is null. 161002: a dtype, layout or dimension. 561002: what a device finds when it plans the call. The
 * sentence behind a code is in aclGetRecentErrMsg.
 */
#ifndef ACLNNOP_ACLNN_NSA_COMPRESS_H_
#define ACLNNOP_ACLNN_NSA_COMPRESS_H_

#include "aclnn/aclnn_base.h"
#include "aclnnop/aclnn_util.h"

#ifdef __cplusplus
extern "C" {
#endif

ACLNN_API aclnnStatus aclnnNsaCompressGetWorkspaceSize(
    const aclTensor* input, const aclTensor* weight, const aclIntArray* actSeqLenOptional, char* layoutOptional,
    int64_t compressBlockSize, int64_t compressStride, int64_t actSeqLenType, aclTensor* output, uint64_t* workspaceSize,
    aclOpExecutor** executor);
ACLNN_API aclnnStatus aclnnNsaCompress(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor, aclrtStream stream);

#ifdef __cplusplus
}
#endif
#endif
