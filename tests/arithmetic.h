// arithmetic.h: a caller that rounds upwards, traps, and takes subnormal numbers as 0.
#ifndef FUSEDATTN_TESTS_ARITHMETIC_H
#define FUSEDATTN_TESTS_ARITHMETIC_H

#include <cfenv>
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace fusedattn::tests {

class UnusualArithmetic {
 public:
  UnusualArithmetic() {
    std::fegetenv(&before_);
    std::fesetround(FE_UPWARD);
#if defined(__GLIBC__)
    feenableexcept(FE_DIVBYZERO | FE_INVALID | FE_OVERFLOW);  // where the processor can
#endif
#if defined(__SSE2__)
    _mm_setcsr(_mm_getcsr() | 0x8040u);
#endif
    set_ = now();
  }
  ~UnusualArithmetic() { std::fesetenv(&before_); }
  UnusualArithmetic(const UnusualArithmetic&) = delete;
  UnusualArithmetic& operator=(const UnusualArithmetic&) = delete;

  bool still_set() const { return now() == set_; }

 private:
  static unsigned now() {
#if defined(__SSE2__)
    return _mm_getcsr() & ~0x3fu;  // but for what has happened so far
#else
    return static_cast<unsigned>(std::fegetround());
#endif
  }

  std::fenv_t before_;
  unsigned set_;
};

}  // namespace fusedattn::tests
#endif
