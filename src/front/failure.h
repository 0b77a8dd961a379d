// Failures at the C boundary: a status for the caller, the sentence kept for fusedattn_last_error.
#pragma once
#include <exception>
#include <new>

#include "fusedattn/fusedattn.h"
#include "problem/status.h"
#include "run/arithmetic.h"

namespace fusedattn {

// Keeps the sentence of a failure for this thread.
fusedattn_status report(const Status& status);

// The sentence of the last failure on this thread; "" if there was none.
const char* last_error();

// Nothing is thrown across the C boundary, and how the caller rounds stays outside, as do its traps.
template <class Call>
fusedattn_status guarded(Call call) {
  const Arithmetic arithmetic(Subnormals::kept);
  try {
    return report(call());
  } catch (const std::bad_alloc&) {
    return report({Code::out_of_memory, "not enough memory for the plan or its workspace"});
  } catch (const std::exception& error) {
    return report({Code::internal, error.what()});
  }
}

}  // namespace fusedattn
