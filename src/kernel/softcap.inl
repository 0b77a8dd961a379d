// A soft cap on scores: x = cap * tanh(y), y = scale * s / cap, and dx/ds = scale * (1 - tanh(y)^2).
//
// With e = 2^z, z = 2 y log2(e), both come of one power of two, and neither cancels anywhere:
//
//   tanh(y) = (e - 1) / (e + 1)      1 - tanh(y)^2 = 4 e / (e + 1)^2
//
// z = n + f as in isa/power_by_shift.h. 2^f - 1 is f times a polynomial of least relative error, so that e - 1 is exact to float32 where it is small.
// Largest relative errors: of tanh 2.4e-7; of the slope 1.1e-6 up to |y| = 10, 2e-6 up to 20, beyond which it stays at 1.4e-17. NaN
// stays NaN.
struct Tanh {
  F32 value, slope;
};

template <bool kSlope>
FUSEDATTN_INLINE Tanh tanh_of(F32 z) {
  constexpr float kPolynomial[] = {0x1.4308fap-13f, 0x1.5f07b4p-10f, 0x1.3b2ba0p-7f, 0x1.c6af6ep-5f, 0x1.ebfbdep-3f, 0x1.62e430p-1f};
  const F32 magic = broadcast(12582912.0f + 127.0f), one = broadcast(1.0f);
  z = min(broadcast(58.0f), max(broadcast(-58.0f), z));
  const F32 shifted = add(z, magic), f = sub(z, sub(shifted, magic)), power = shift_to_exponent(shifted);
  F32 p = broadcast(kPolynomial[0]);
#pragma GCC unroll 8
  for (int k = 1; k < 6; ++k) p = fma(p, f, broadcast(kPolynomial[k]));
  p = mul(p, f);
  const F32 less_one = fma(power, p, sub(power, one)), more_one = add(less_one, broadcast(2.0f));
  Tanh result{div(less_one, more_one), one};
  if constexpr (kSlope) result.slope = div(mul(fma(power, p, power), broadcast(4.0f)), mul(more_one, more_one));
  return result;
}

// Products s[seen] times `by` are z; they become `to` * tanh. Where slopes are wanted they are left in `slopes`. Not inlined: most
// problems have no cap.
template <bool kSlopes>
__attribute__((noinline)) void cap_row(float* s, Range seen, float by, float to, float* slopes) {
  const F32 before = broadcast(by), after = broadcast(to);
  std::int64_t j = seen.begin;
  for (; j + kLanes <= seen.end; j += kLanes) {
    const Tanh t = tanh_of<kSlopes>(mul(load(s + j), before));
    store(s + j, mul(t.value, after));
    if constexpr (kSlopes) store(slopes + j, t.slope);
  }
  if (const std::int64_t left = seen.end - j; left > 0) {
    const Tanh t = tanh_of<kSlopes>(mul(load_some(s + j, left), before));
    store_some(s + j, mul(t.value, after), left);
    if constexpr (kSlopes) store_some(slopes + j, t.slope, left);
  }
}

// row[seen] *= slopes[seen]
inline void multiply_by_slopes(float* row, const float* slopes, Range seen) {
  std::int64_t j = seen.begin;
  for (; j + kLanes <= seen.end; j += kLanes) store(row + j, mul(load(row + j), load(slopes + j)));
  if (const std::int64_t left = seen.end - j; left > 0)
    store_some(row + j, mul(load_some(row + j, left), load_some(slopes + j, left)), left);
}
