#include "operators/score/request.h"

namespace fusedattn::cann::score {
namespace {

std::optional<std::vector<std::int64_t>> list(const char* name, const aclIntArray* handle, const char*& dead) {
  auto numbers = ints_of(handle);
  if (handle != nullptr && !numbers) dead = name;
  return numbers;
}

Operand operand(const Argument& argument) { return {argument.name, tensor_of(argument.given)}; }

}  // namespace

Request::Request(const Arguments& given) : given(given) {
  const auto keep = [this](const Argument& argument, bool output, std::size_t place) {
    Slot slot = read_slot(argument.name, argument.given, {output, place, 0});
    if (argument.role == Role::unused || argument.role == Role::dequantisation)
      unused.push_back(std::move(slot));
    else
      slots[static_cast<std::size_t>(argument.role)] = std::move(slot);
  };
  for (std::size_t i = 0; i < given.inputs.size(); ++i) keep(given.inputs[i], false, i);
  for (std::size_t i = 0; i < given.outputs.size(); ++i) keep(given.outputs[i], true, i);
  prefix = list("prefixOptional", given.prefix, dead_list);
  q_ends = list("actualSeqQLenOptional", given.q_ends, dead_list);
  kv_ends = list("actualSeqKvLenOptional", given.kv_ends, dead_list);
  q_start = list("qStartIdxOptional", given.q_start, dead_list);
  kv_start = list("kvStartIdxOptional", given.kv_start, dead_list);
  layout = read_text(given.input_layout);
  softmax_layout = read_text(given.softmax_layout != nullptr ? given.softmax_layout : "");
}

Operands Request::operands() const {
  Operands all;
  for (const Argument& argument : given.inputs) all.inputs.push_back(operand(argument));
  for (const Argument& argument : given.outputs) all.outputs.push_back(operand(argument));
  return all;
}

}  // namespace fusedattn::cann::score
