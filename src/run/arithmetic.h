// The floating-point arithmetic of a thread while it is the library's: to nearest, without traps, whatever the caller has set. Then it is the caller's again.
//
// Attention takes subnormal numbers as 0 (on x86): weights fade through them wherever the scores of a row lie far apart, and an instruction that meets one
// takes some 150 cycles on Emerald Rapids, where a backward with ALiBi took up to 1.9 times as long.
#pragma once
#include <cfenv>
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace fusedattn {

enum class Subnormals { kept, zero };

class Arithmetic {
 public:
  Arithmetic(const Arithmetic&) = delete;
  Arithmetic& operator=(const Arithmetic&) = delete;

#if defined(__SSE2__)
  explicit Arithmetic(Subnormals subnormals) : before_(_mm_getcsr()) { _mm_setcsr(subnormals == Subnormals::zero ? kMasked | kZero : kMasked); }
  ~Arithmetic() { _mm_setcsr(before_); }

 private:
  // MXCSR (Intel SDM volume 1, 10.2.3): exceptions masked and rounding to nearest even; results (bit 15) and operands (bit 6) flushed.
  static constexpr unsigned kMasked = 0x1f80u, kZero = 1u << 15 | 1u << 6;
  const unsigned before_;
#else
  explicit Arithmetic(Subnormals) {
    std::fegetenv(&before_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~Arithmetic() { std::fesetenv(&before_); }

 private:
  std::fenv_t before_;
#endif
};

}  // namespace fusedattn
