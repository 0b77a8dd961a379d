// Refusals that many functions share.
#pragma once
#include <string>

#include "acl/acl_rt.h"
#include "message.h"

namespace fusedattn::cann {

// A pointer that must not be null is: 100000.
inline int null_result(const char* function, const char* argument) {
  return refuse(ACL_ERROR_INVALID_PARAM, std::string(function) + ": " + argument + " is null; an address is required");
}

// 207000: what a processor cannot tell or do.
inline int unsupported(const char* function, const char* reason) {
  return refuse(ACL_ERROR_RT_FEATURE_NOT_SUPPORT, std::string(function) + " is not supported: " + reason);
}

// guarded(), with the code of the runtime for failed allocations.
template <class Body>
int runtime_call(const char* function, Body body) {
  return guarded(function, ACL_ERROR_RT_MEMORY_ALLOCATION, body);
}

}  // namespace fusedattn::cann
