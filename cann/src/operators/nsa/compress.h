// NsaCompress and its gradient: one request, one table of limits, one call.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "operators/slot.h"

namespace fusedattn::cann::nsa {

enum Tensors { kInput, kWeight, kOutput, kGradInput, kGradWeight };  // kOutput: for the gradient, that of the output

// A call as an interface read it. Of the forward the last two slots are not there.
struct Request {
  const char* function;
  bool backward;
  std::vector<Slot> slots;  // by Tensors
  const char* lengths_name;
  const aclIntArray* lengths_handle;
  std::optional<std::vector<std::int64_t>> lengths;
  std::optional<std::string> layout;
  std::int64_t block, stride, length_type;

  const Slot& operator[](Tensors which) const { return slots[which]; }
  std::int64_t tokens() const { return slots[kInput]->shape[0]; }
  std::int64_t heads() const { return slots[kInput]->shape[1]; }
  std::int64_t dim() const { return slots[kInput]->shape[2]; }
  std::vector<std::int64_t> ends() const;  // cumulative; without a list all tokens are one sequence
  Dims output_shape() const;
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

// The call of a checked request. On failure there is an outcome and no call.
Outcome make_call(const Request& request, std::unique_ptr<Call>& call);

}  // namespace fusedattn::cann::nsa
