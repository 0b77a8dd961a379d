// The floating-point arithmetic of a thread while it is the library's: to nearest, without traps, whatever the caller has set. Then it is the caller's again.
//
// In attention what becomes subnormal is 0 (on x86): weights fade through such numbers wherever the scores of a row lie far apart, and an instruction that meets
// one takes some 150 cycles on Emerald Rapids, where a backward with ALiBi took up to 1.9 times as long. What is read may be subnormal: emulators would take
// subnormal halves for 0 too.
#pragma once
#include <cfenv>
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace fusedattn {

enum class Subnormals { kept, zero };  // results

class Arithmetic {
 public:
  Arithmetic(const Arithmetic&) = delete;
  Arithmetic& operator=(const Arithmetic&) = delete;

#if defined(__SSE2__)
  explicit Arithmetic(Subnormals subnormals) : before_(_mm_getcsr()) { _mm_setcsr(subnormals == Subnormals::zero ? kMasked | kZero : kMasked); }
  ~Arithmetic() { _mm_setcsr(before_); }

 private:
  // MXCSR (Intel SDM volume 1, 10.2.3): exceptions masked and rounding to nearest even; subnormal results flushed.
  static constexpr unsigned kMasked = 0x1f80u, kZero = 1u << 15;
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
