// RingAttentionUpdate: one request, one table of limits, one call.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "operators/slot.h"

namespace fusedattn::cann::ring {

// In the order of the interface: inputs, then outputs.
enum Tensors { kPrevOut, kPrevMax, kPrevSum, kCurOut, kCurMax, kCurSum, kLengths, kOut, kMax, kSum };
inline constexpr std::size_t kTensors = kSum + 1;

struct Request {
  const char* function;
  std::array<Slot, kTensors> slots;
  bool has_layout;
  std::optional<std::string> layout, softmax_layout;

  const Slot& operator[](Tensors which) const { return slots[which]; }
  const Dims& out_shape() const { return slots[kPrevOut]->shape; }
  const Dims& stats_shape() const { return slots[kPrevMax]->shape; }
  bool packed() const { return layout && *layout == "TND"; }
  // Whether the statistics lie in one block [N, length, 8] per sequence.
  bool in_blocks() const { return packed() && *softmax_layout != "TND"; }
};

// One row of the table: a sentence that names the argument, its value and what is accepted, where the limit does not hold. A row may
// rely on all rows before it.
struct Row {
  const char* id;
  int code;
  Sentence (*violated)(const Request&);
};
std::span<const Row> rows();

// The first limit that does not hold.
Outcome check(const Request& request);

// The call of a checked request. What the lengths hold is looked at when it runs.
std::unique_ptr<Call> make_call(const Request& request);

}  // namespace fusedattn::cann::ring
