// Numbers of handles, and what to say about wrong ones.
#include "runtime/handles.h"

#include <cstdio>

namespace fusedattn::cann {
namespace {

static_assert(sizeof(void*) == 8, "a handle takes 64 bits");

constexpr std::uint64_t kMark = 0x4A00'0000'0000'0000;  // bits 62, 59 and 57
constexpr std::uint64_t kMarkBits = 0xFF00'0000'0000'0000;

const char* name_of(Kind kind) {
  switch (kind) {
    case Kind::context: return "a context";
    case Kind::stream: return "a stream";
    case Kind::event: return "an event";
    case Kind::data_buffer: return "an aclDataBuffer";
    case Kind::tensor: return "an aclTensor";
    case Kind::scalar: return "an aclScalar";
    case Kind::int_array: return "an aclIntArray";
    case Kind::float_array: return "an aclFloatArray";
    case Kind::bool_array: return "an aclBoolArray";
    case Kind::tensor_list: return "an aclTensorList";
    case Kind::scalar_list: return "an aclScalarList";
    case Kind::executor: return "an aclOpExecutor";
  }
  return "an object of no known kind";
}

}  // namespace

void* handle_of(HandleParts parts) {
  return reinterpret_cast<void*>(kMark | static_cast<std::uint64_t>(parts.kind) << 52 |
                                 static_cast<std::uint64_t>(parts.generation) << 24 | parts.place);
}

bool parts_of(const void* handle, HandleParts& parts) {
  const auto number = reinterpret_cast<std::uint64_t>(handle);
  parts = {static_cast<Kind>(number >> 52 & 0xF), static_cast<std::uint32_t>(number >> 24) % kGenerations,
           static_cast<std::uint32_t>(number) % kMostPlaces};
  return (number & kMarkBits) == kMark;
}

std::string why_not(const void* handle, Kind wanted) {
  const std::string wish = name_of(wanted);
  if (handle == nullptr) return "is null; " + wish + " is required";
  char number[24];
  std::snprintf(number, sizeof number, "%p", handle);
  HandleParts parts;
  if (!parts_of(handle, parts)) return std::string("is ") + number + ", which is not " + wish + " (the address of a handle, perhaps?)";
  if (parts.kind == wanted) return "is " + wish + " that was destroyed or never existed";
  return std::string("is ") + name_of(parts.kind) + ", not " + wish;
}

}  // namespace fusedattn::cann
