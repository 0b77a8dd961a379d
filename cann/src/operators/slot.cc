#include "operators/slot.h"

#include <cstdio>

namespace fusedattn::cann {

Slot read_slot(const char* name, const aclTensor* given, const Source& source) {
  Slot slot{name, false, tensor_of(given), source};
  slot.dead = given != nullptr && slot.tensor == nullptr;
  return slot;
}

std::string shape_of(const Slot& slot) { return std::string(slot.name) + " has shape " + text(slot->shape); }
std::string dtype_of(const Slot& slot) { return std::string(slot.name) + " has dtype " + text(slot->dtype); }

std::string number(double value) {
  char digits[40];
  std::snprintf(digits, sizeof digits, "%g", value);
  return digits;
}

const void* address_of(const Slot& slot) {
  return slot && slot->data != nullptr && !slot->empty() ? first_element(*slot, slot->data) : nullptr;
}

Sentence overlapping(std::span<const Slot> slots) {
  for (const Slot& slot : slots)
    if (slot && slot.source.output && overlaps_itself(*slot)) return shape_of(slot) + " and strides " + text(slot->strides);
  return {};
}

Sentence sharing(std::span<const Slot> slots, bool (*may_share)(const Slot&, const Slot&)) {
  for (const Slot& output : slots) {
    if (!output.source.output || address_of(output) == nullptr) continue;
    for (const Slot& other : slots)
      if (&other != &output && address_of(other) == address_of(output) && !(may_share && may_share(output, other)))
        return std::string(output.name) + " has the address of " + other.name;
  }
  return {};
}

Sentence misaligned(std::span<const Slot> slots) {
  for (const Slot& slot : slots) {
    const std::int64_t width = slot ? bytes_of(slot->dtype) : 0;
    if (width > 0 && reinterpret_cast<std::uintptr_t>(address_of(slot)) % static_cast<std::uintptr_t>(width) != 0)
      return std::string(slot.name) + " has an address that is no multiple of " + std::to_string(width) + " bytes";
  }
  return {};
}

std::optional<std::string> read_text(const char* given) { return given != nullptr ? attribute_text(given) : std::nullopt; }

int no_results(const char* function, const std::uint64_t* workspace_size) {
  return refuse(ACLNN_ERR_PARAM_NULLPTR, std::string(function) + ": " + (workspace_size == nullptr ? "workspaceSize" : "executor") +
                                             " is null; accepted: the address of a variable [null.results]");
}

}  // namespace fusedattn::cann
