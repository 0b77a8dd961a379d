// How this lane makes 2^x: x = n + f, |f| <= 1/2, 2^x = 2^n p(f) by the instruction that adds n to exponents. It makes 0 of 2^-inf even where
// f = -inf - -inf is no number. 5.4 cycles a vector on Zen 4, by a shift 6.9. LLVM's tables have the instruction that leaves f
// alone (see AVX-512) take three there.

FUSEDATTN_INLINE F32 take_whole(F32& x) {
  const F32 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT);
  x = sub(x, whole);
  return whole;
}
FUSEDATTN_INLINE F32 times_power(F32 p, F32 whole) { return _mm512_scalef_ps(p, whole); }
