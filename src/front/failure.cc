// The last failure of each thread.
#include "front/failure.h"

#include <string>

namespace fusedattn {
namespace {
thread_local std::string sentence;
}

fusedattn_status report(const Status& status) {
  if (status.ok()) return FUSEDATTN_OK;
  sentence = status.sentence;
  return static_cast<fusedattn_status>(status.code);
}

const char* last_error() { return sentence.c_str(); }

}  // namespace fusedattn
