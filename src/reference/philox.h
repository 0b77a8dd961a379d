// philox.h: the random stream of dropout. Philox4x32 is the counter-based generator of Salmon, Moraes, Dror and Shaw,
// "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), with its published constants.
#ifndef FUSEDATTN_REFERENCE_PHILOX_H
#define FUSEDATTN_REFERENCE_PHILOX_H

#include <array>
#include <cmath>
#include <cstdint>

namespace fusedattn::reference {

using Counter = std::array<std::uint32_t, 4>;
using Key = std::array<std::uint32_t, 2>;

inline std::uint32_t low(std::uint64_t x) { return static_cast<std::uint32_t>(x); }
inline std::uint32_t high(std::uint64_t x) { return static_cast<std::uint32_t>(x >> 32); }

inline Counter philox4x32(Counter c, Key key, int rounds) {
  for (int round = 0; round < rounds; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53} * c[0];
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57} * c[2];
    c = {high(product1) ^ c[1] ^ key[0], low(product1), high(product0) ^ c[3] ^ key[1], low(product0)};
    key = {key[0] + 0x9E3779B9, key[1] + 0xBB67AE85};
  }
  return c;
}

// The 16 bits of element e: half e % 2 of word e % 8 / 2 of block e / 8.
inline std::uint32_t element(std::uint64_t seed, std::uint64_t offset, std::uint64_t e) {
  const std::uint64_t block = e / 8;
  const Counter words = philox4x32({low(block), high(block), low(offset), high(offset)}, {low(seed), high(seed)}, 7);
  return words[e % 8 / 2] >> 16 * (e % 2) & 0xFFFF;
}

// Elements below it are kept. keep_prob is rounded to float32 first.
inline std::uint32_t threshold(double keep_prob) {
  return static_cast<std::uint32_t>(std::floor(static_cast<double>(static_cast<float>(keep_prob)) * 65536 + 0.5));
}

inline bool keeps(double keep_prob, std::uint64_t seed, std::uint64_t offset, std::uint64_t e) {
  return element(seed, offset, e) < threshold(keep_prob);
}

}  // namespace fusedattn::reference
#endif
