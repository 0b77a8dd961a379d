// Operators that programs may name and this library does not compute: their functions say so, and never succeed.
#include <string>

#include "aclnnop/aclnn_nsa_compress_attention.h"
#include "aclnnop/aclnn_nsa_compress_attention_infer.h"
#include "aclnnop/aclnn_nsa_compress_with_cache.h"
#include "aclnnop/aclnn_nsa_selected_attention.h"
#include "aclnnop/aclnn_nsa_selected_attention_grad.h"
#include "aclnnop/aclnn_nsa_selected_attention_infer.h"
#include "message.h"

namespace {

aclnnStatus not_computed(const char* function) {
  return fusedattn::cann::guarded(function, [&] {
    return fusedattn::cann::refuse(ACL_ERROR_RT_FEATURE_NOT_SUPPORT, std::string(function) + " is not computed by this library");
  });
}

}  // namespace

aclnnStatus aclnnNsaCompressAttentionGetWorkspaceSize(
    const aclTensor*, const aclTensor*, const aclTensor*, const aclTensor*, const aclTensor*, const aclIntArray*, const aclIntArray*,
    const aclIntArray*, double, int64_t, char*, int64_t, int64_t, int64_t, int64_t, int64_t, const aclTensor*, const aclTensor*,
    const aclTensor*, const aclTensor*, uint64_t*, aclOpExecutor**) {
  return not_computed("aclnnNsaCompressAttentionGetWorkspaceSize");
}
aclnnStatus aclnnNsaCompressAttention(void*, uint64_t, aclOpExecutor*, aclrtStream) {
  return not_computed("aclnnNsaCompressAttention");
}

aclnnStatus aclnnNsaCompressAttentionInferGetWorkspaceSize(
    const aclTensor*, const aclTensor*, const aclTensor*, const aclTensor*, const aclTensor*, const aclIntArray*, const aclIntArray*,
    const aclIntArray*, const aclTensor*, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, double, char*, int64_t, int64_t,
    const aclTensor*, const aclTensor*, uint64_t*, aclOpExecutor**) {
  return not_computed("aclnnNsaCompressAttentionInferGetWorkspaceSize");
}
aclnnStatus aclnnNsaCompressAttentionInfer(void*, uint64_t, aclOpExecutor*, aclrtStream) {
  return not_computed("aclnnNsaCompressAttentionInfer");
}

aclnnStatus aclnnNsaCompressWithCacheGetWorkspaceSize(
    const aclTensor*, const aclTensor*, const aclTensor*, const aclIntArray*, const aclTensor*, char*, int64_t, int64_t, int64_t,
    int64_t, aclTensor*, uint64_t*, aclOpExecutor**) {
  return not_computed("aclnnNsaCompressWithCacheGetWorkspaceSize");
}
aclnnStatus aclnnNsaCompressWithCache(void*, uint64_t, aclOpExecutor*, aclrtStream) {
  return not_computed("aclnnNsaCompressWithCache");
}

aclnnStatus aclnnNsaSelectedAttentionGetWorkspaceSize(
    const aclTensor*, const aclTensor*, const aclTensor*, const aclTensor*, const aclTensor*, const aclIntArray*, const aclIntArray*,
    double, int64_t, char*, int64_t, int64_t, int64_t, const aclTensor*, const aclTensor*, const aclTensor*, uint64_t*,
    aclOpExecutor**) {
  return not_computed("aclnnNsaSelectedAttentionGetWorkspaceSize");
}
aclnnStatus aclnnNsaSelectedAttention(void*, uint64_t, aclOpExecutor*, aclrtStream) {
  return not_computed("aclnnNsaSelectedAttention");
}

aclnnStatus aclnnNsaSelectedAttentionGradGetWorkspaceSize(
    const aclTensor*, const aclTensor*, const aclTensor*, const aclTensor*, const aclTensor*, const aclTensor*, const aclTensor*,
    const aclTensor*, const aclIntArray*, const aclIntArray*, const aclTensor*, double, int64_t, int64_t, int64_t, char*, int64_t,
    const aclTensor*, const aclTensor*, const aclTensor*, uint64_t*, aclOpExecutor**) {
  return not_computed("aclnnNsaSelectedAttentionGradGetWorkspaceSize");
}
aclnnStatus aclnnNsaSelectedAttentionGrad(void*, uint64_t, aclOpExecutor*, aclrtStream) {
  return not_computed("aclnnNsaSelectedAttentionGrad");
}

aclnnStatus aclnnNsaSelectedAttentionInferGetWorkspaceSize(
    const aclTensor*, const aclTensor*, const aclTensor*, const aclTensor*, const aclTensor*, const aclTensor*, const aclIntArray*,
    const aclIntArray*, char*, int64_t, int64_t, int64_t, int64_t, int64_t, double, int64_t, aclTensor*, uint64_t*, aclOpExecutor**) {
  return not_computed("aclnnNsaSelectedAttentionInferGetWorkspaceSize");
}
aclnnStatus aclnnNsaSelectedAttentionInfer(void*, uint64_t, aclOpExecutor*, aclrtStream) {
  return not_computed("aclnnNsaSelectedAttentionInfer");
}
