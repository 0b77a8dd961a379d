// The pending sentences and the last code of each thread.
#include "message.h"

#include <cstdlib>
#include <cstring>
#include <deque>

#include "acl/acl_rt.h"

namespace fusedattn::cann {
namespace {

constexpr std::size_t kMostPending = 16;  // of a thread that never asks

struct Pending {
  std::deque<std::string> sentences;  // newest first
  std::string told;                   // what aclGetRecentErrMsg returned last
  int last_code = ACL_SUCCESS;
};

Pending& pending() {
  thread_local Pending of_this_thread;
  return of_this_thread;
}

}  // namespace

int refuse(int code, std::string sentence) {
  Pending& mine = pending();
  mine.last_code = code;
  mine.sentences.push_front(std::move(sentence));
  if (mine.sentences.size() > kMostPending) mine.sentences.pop_back();
  return code;
}

int report(const Outcome& outcome) { return outcome.ok() ? ACL_SUCCESS : refuse(outcome.code, outcome.sentence); }

bool strict() {
  static const bool asked = [] {
    const char* value = std::getenv("FUSEDATTN_ACL_STRICT");
    return value != nullptr && std::strcmp(value, "1") == 0;
  }();
  return asked;
}

}  // namespace fusedattn::cann

using namespace fusedattn::cann;

const char* aclGetRecentErrMsg() {
  Pending& mine = pending();
  if (mine.sentences.empty()) return nullptr;
  mine.told.clear();
  for (const std::string& sentence : mine.sentences) mine.told += (mine.told.empty() ? "" : "\n") + sentence;
  mine.sentences.clear();
  return mine.told.c_str();
}

aclError aclrtPeekAtLastError(aclrtLastErrLevel level) {
  if (level == ACL_RT_THREAD_LEVEL) return pending().last_code;
  return refuse(ACL_ERROR_INVALID_PARAM,
                "aclrtPeekAtLastError: level is " + std::to_string(level) + "; 0 (ACL_RT_THREAD_LEVEL) is accepted");
}

aclError aclrtGetLastError(aclrtLastErrLevel level) {
  if (level == ACL_RT_THREAD_LEVEL) return std::exchange(pending().last_code, ACL_SUCCESS);
  return refuse(ACL_ERROR_INVALID_PARAM,
                "aclrtGetLastError: level is " + std::to_string(level) + "; 0 (ACL_RT_THREAD_LEVEL) is accepted");
}
