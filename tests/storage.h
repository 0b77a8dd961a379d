// storage.h: float32, bfloat16 and float16 as bytes in memory, converted to and from double by definition.
#ifndef FUSEDATTN_TESTS_STORAGE_H
#define FUSEDATTN_TESTS_STORAGE_H

#include <fusedattn/fusedattn.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace fusedattn::tests {

// How a storage type rounds: bits of its significand, the leading one included, and the exponent of its least normal.
struct Format {
  const char* name;
  std::size_t bytes;
  int significand_bits;
  int least_exponent;
};

inline const Format& format_of(int32_t dtype) {
  static constexpr Format kFormats[] = {{"float32", 4, 24, -126}, {"bfloat16", 2, 8, -126}, {"float16", 2, 11, -14}};
  return kFormats[dtype];
}

// Half a unit in the last place of value: the most that one correct rounding can be off.
inline double half_ulp(int32_t dtype, double value) {
  const Format& format = format_of(dtype);
  const int exponent = value == 0.0 ? format.least_exponent : std::max(std::ilogb(value), format.least_exponent);
  return std::ldexp(0.5, exponent - (format.significand_bits - 1));
}

// Nearest value of the type, ties to even. The values of the tests are far from overflow.
inline double rounded(int32_t dtype, double value) {
  const double unit = 2.0 * half_ulp(dtype, value);
  return std::nearbyint(value / unit) * unit;
}

inline double load(int32_t dtype, const void* from) {
  if (dtype == FUSEDATTN_FLOAT32) {
    float value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }
  std::uint16_t bits;
  std::memcpy(&bits, from, sizeof bits);
  if (dtype == FUSEDATTN_BFLOAT16) return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  double size = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  if (exponent == 31) size = fraction == 0 ? INFINITY : NAN;
  return bits >> 15 ? -size : size;
}

// Stores the nearest value.
inline void store(int32_t dtype, void* to, double value) {
  const auto single = static_cast<float>(rounded(dtype, value));
  const auto pattern = std::bit_cast<std::uint32_t>(single);
  if (dtype == FUSEDATTN_FLOAT32) {
    std::memcpy(to, &single, sizeof single);
    return;
  }
  auto bits = static_cast<std::uint16_t>(pattern >> 16);
  if (dtype == FUSEDATTN_FLOAT16) {
    const double size = std::abs(static_cast<double>(single));
    const int exponent = size < std::ldexp(1.0, -14) ? 0 : std::ilogb(size) + 15;
    const double fraction = std::ldexp(size, exponent == 0 ? 24 : 25 - exponent) - (exponent == 0 ? 0 : 1024);
    bits = static_cast<std::uint16_t>((pattern >> 31 << 15) | static_cast<std::uint32_t>(exponent << 10) |
                                      static_cast<std::uint32_t>(fraction));
  }
  std::memcpy(to, &bits, sizeof bits);
}

}  // namespace fusedattn::tests
#endif
