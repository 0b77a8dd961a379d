// Asks the CPU (cpuid) what it has, and the operating system (xgetbv) which registers it saves.
#include "isa/cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>

#include <cstdint>

namespace fusedattn {
namespace {

struct Leaf {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

Leaf leaf(unsigned number, unsigned sub) {
  Leaf r;
  if (!__get_cpuid_count(number, sub, &r.a, &r.b, &r.c, &r.d)) return {};
  return r;
}

bool bit(unsigned word, int position) { return (word >> position & 1u) != 0; }

std::uint64_t saved_registers() {
  std::uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return std::uint64_t{high} << 32 | low;
}

// "Genu", "ineI", "ntel".
bool made_by_intel() {
  const Leaf maker = leaf(0, 0);
  return maker.b == 0x756e6547 && maker.d == 0x49656e69 && maker.c == 0x6c65746e;
}

// Bit positions: Intel SDM volume 2A, CPUID; XCR0 in volume 1, 13.3.
Cpu detect() {
  Cpu found;
  const Leaf basic = leaf(1, 0), extended = leaf(7, 0), more = leaf(7, 1);
  const bool osxsave = bit(basic.c, 27), avx = bit(basic.c, 28), fma = bit(basic.c, 12), f16c = bit(basic.c, 29);
  if (!osxsave || !avx) return found;
  constexpr std::uint64_t kYmm = 0x6, kZmm = 0xe6;
  const std::uint64_t saved = saved_registers();
  found.avx2 = (saved & kYmm) == kYmm && fma && f16c && bit(extended.b, 5);
  const bool f = bit(extended.b, 16), dq = bit(extended.b, 17), bw = bit(extended.b, 30), vl = bit(extended.b, 31);
  found.avx512 = found.avx2 && (saved & kZmm) == kZmm && f && dq && bw && vl;
  found.avx512_bf16 = found.avx512 && bit(more.a, 5);
  found.intel = made_by_intel();
  return found;
}

}  // namespace

const Cpu& cpu() {
  static const Cpu found = detect();
  return found;
}

}  // namespace fusedattn
#else
namespace fusedattn {
const Cpu& cpu() {
  static const Cpu found;
  return found;
}
}  // namespace fusedattn
#endif
