#include "operators/library.h"

#include <string>

namespace fusedattn::cann {

std::int32_t library_dtype(aclDataType dtype) {
  return dtype == ACL_FLOAT ? FUSEDATTN_FLOAT32 : dtype == ACL_BF16 ? FUSEDATTN_BFLOAT16 : FUSEDATTN_FLOAT16;
}

void* placeholder(std::size_t index) { return reinterpret_cast<void*>(static_cast<std::uintptr_t>(64 * (index + 1))); }

Outcome library_outcome(const char* function, fusedattn_status status) {
  const auto with = [&](int code) { return Outcome{code, std::string(function) + ": " + fusedattn_last_error()}; };
  switch (status) {
    case FUSEDATTN_OK: return {};
    case FUSEDATTN_INVALID_ARGUMENT: return with(ACLNN_ERR_PARAM_INVALID);
    case FUSEDATTN_UNSUPPORTED: return with(ACLNN_ERR_INNER_FIND_KERNEL_ERROR);
    case FUSEDATTN_OUT_OF_MEMORY: return with(ACLNN_ERR_RUNTIME_ERROR);
    default: return with(ACLNN_ERR_INNER);
  }
}

}  // namespace fusedattn::cann
