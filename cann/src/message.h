// What a call says when it refuses: a status for the caller, and a sentence kept for aclGetRecentErrMsg of the same thread.
#pragma once
#include <exception>
#include <new>
#include <string>
#include <utility>

#include "acl/acl_base.h"
#include "aclnn/acl_meta.h"

namespace fusedattn::cann {

// Keeps the sentence, and the code as the thread's last error. Returns the code.
int refuse(int code, std::string sentence);
// The same of an argument of an aclnn function that has a value it cannot have.
inline int invalid(const char* function, const std::string& sentence) {
  return refuse(ACLNN_ERR_PARAM_INVALID, std::string(function) + ": " + sentence);
}

// What running something led to: fine, or a code and a sentence.
struct Outcome {
  int code = ACL_SUCCESS;
  std::string sentence;
  bool ok() const { return code == ACL_SUCCESS; }
};

// Keeps the sentence of a failure and returns the code.
int report(const Outcome& outcome);

// True when FUSEDATTN_ACL_STRICT=1: what devices forbid is refused, though a processor could do it.
bool strict();

// Runs the body of a C function: nothing is thrown across the C boundary. `no_memory` is the code of a failed allocation.
template <class Body>
int guarded(const char* function, int no_memory, Body body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return refuse(no_memory, std::string(function) + ": not enough memory");
  } catch (const std::exception& error) {
    return refuse(no_memory == ACLNN_ERR_RUNTIME_ERROR ? ACLNN_ERR_INNER : ACL_ERROR_INTERNAL_ERROR,
                  std::string(function) + ": " + error.what());
  }
}

// The same for an aclnn function: a failed allocation is 361001, anything else unforeseen 561000.
template <class Body>
aclnnStatus guarded(const char* function, Body body) {
  return guarded(function, ACLNN_ERR_RUNTIME_ERROR, body);
}

}  // namespace fusedattn::cann
