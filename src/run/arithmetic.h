// The floating-point arithmetic of a worker while it computes: to nearest, without traps, and where the processor can, subnormal numbers are 0.
//
// Weights fade through the subnormal numbers wherever the scores of a row lie far apart, and an instruction that meets one takes some 150 cycles on
// Intel's processors: a backward with ALiBi took up to 1.9 times as long. What the calling thread has set changes no bit of a result.
#pragma once
#include <cfenv>
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace fusedattn {

class Arithmetic {
 public:
  Arithmetic(const Arithmetic&) = delete;
  Arithmetic& operator=(const Arithmetic&) = delete;

#if defined(__SSE2__)
  Arithmetic() : before_(_mm_getcsr()) { _mm_setcsr(kOurs); }
  ~Arithmetic() { _mm_setcsr(before_); }

 private:
  // MXCSR (Intel SDM volume 1, 10.2.3): exceptions masked, rounding to nearest even, results (bit 15) and operands (bit 6) flushed.
  static constexpr unsigned kOurs = 0x1f80u | 1u << 15 | 1u << 6;
  const unsigned before_;
#else
  Arithmetic() {
    std::fegetenv(&before_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~Arithmetic() { std::fesetenv(&before_); }

 private:
  std::fenv_t before_;
#endif
};

}  // namespace fusedattn
