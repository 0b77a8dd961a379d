// What the checks of a problem share: sentences, and conditions on addresses and strides.
#pragma once
#include <array>
#include <cmath>
#include <cstdint>
#include <string>

#include "problem/status.h"

#define FUSEDATTN_CHECK(expression) \
  if (Status status = (expression); !status.ok()) return status

namespace fusedattn {

inline std::string text(std::int64_t n) { return std::to_string(n); }

inline Status refuse(const std::string& name, std::int64_t value, const std::string& accepted) {
  return Status::invalid(name + " is " + text(value) + "; accepted: " + accepted);
}

inline Status check_aligned(const char* name, const void* address, std::size_t unit) {
  if (reinterpret_cast<std::uintptr_t>(address) % unit == 0) return {};
  return Status::invalid(std::string(name) + " is not a multiple of " + text(static_cast<std::int64_t>(unit)) + " bytes; accepted: an address aligned to its dtype");
}

using Strides = std::array<std::int64_t, 3>;  // of sequences, heads and rows

// The farthest offset, in elements, of an array of so many sequences, heads and rows; rows of `width` elements.
inline double reach_of(const Strides& strides, const Strides& counts, std::int64_t width) {
  double elements = static_cast<double>(width);
  for (std::size_t i = 0; i < 3; ++i)
    elements += std::fabs(static_cast<double>(strides[i])) * static_cast<double>(counts[i] > 0 ? counts[i] - 1 : 0);
  return elements;
}

// Offsets must fit 64 bits even in bytes.
inline Status check_reach(const std::string& name, const Strides& strides, const Strides& counts, std::int64_t width, std::size_t unit) {
  if (reach_of(strides, counts, width) * static_cast<double>(unit) < 9.0e18) return {};
  return Status::invalid(name + " has strides (" + text(strides[0]) + ", " + text(strides[1]) + ", " + text(strides[2]) +
                         ") that reach past the address space; accepted: strides of an existing tensor");
}

// What is written must not overlap itself.
Status check_steps(const std::string& name, const Strides& strides, const Strides& counts, std::int64_t width);

}  // namespace fusedattn
