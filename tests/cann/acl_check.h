// What these tests say often: a refusal has its code and a sentence that names the function; success leaves no sentence.
#pragma once
#include <cstdint>
#include <string>

#include "acl/acl.h"
#include "aclnn/acl_meta.h"
#include "check.h"

inline std::string message() {
  const char* text = aclGetRecentErrMsg();
  return text == nullptr ? "" : text;
}

#define REFUSED(call, code)                                                                   \
  do {                                                                                        \
    message();                                                                                \
    CHECK_EQ(call, code);                                                                     \
    const std::string said = message();                                                       \
    CHECK_THAT(said.rfind(std::string(#call).substr(0, std::string(#call).find('(')), 0) == 0, \
               #call " said: " + said);                                                       \
  } while (false)
#define FINE(call)                                                           \
  do {                                                                       \
    message();                                                               \
    const int fine_code = (call);                                            \
    CHECK_THAT(fine_code == 0, std::string(#call) + ": " + std::to_string(fine_code) + " " + message()); \
  } while (false)

// An address that no object is behind, and a handle that never existed.
inline void* wild() {
  static int not_a_handle = 0;
  return &not_a_handle;
}
