// The outcome of a check: fine, or a kind of failure and a sentence.
#pragma once
#include <string>
#include <utility>

namespace fusedattn {

enum class Code { ok, invalid_argument, unsupported, out_of_memory, internal };

struct Status {
  Code code = Code::ok;
  std::string sentence;
  bool ok() const { return code == Code::ok; }
  static Status invalid(std::string sentence) { return {Code::invalid_argument, std::move(sentence)}; }
};

}  // namespace fusedattn
