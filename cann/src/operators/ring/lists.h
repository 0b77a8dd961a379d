// AttentionUpdate: a request and its table of limits.
#pragma once
#include <memory>
#include <optional>
#include <vector>

#include "operators/slot.h"

namespace fusedattn::cann::lists {

using Members = std::vector<std::shared_ptr<const Tensor>>;

struct Request {
  bool lse_given, outs_given, out_given;
  std::optional<Members> lse, outs;
  std::int64_t type;
  Slot out, lse_out;
};

// One row of the table: a sentence that names the argument, its value and what is accepted, where the limit does not hold.
struct Row {
  const char* id;
  int code;
  Sentence (*violated)(const Request&);
};
std::span<const Row> rows();

}  // namespace fusedattn::cann::lists
