// How this lane makes 2^x: x = n + k / 32 + f with 0 <= f < 1/32, 2^x = 2^n 2^(k / 32) p(f). Seven operations instead of nine (x = n + f, |f| <= 1/2, in which
// rounding takes two), on Emerald Rapids, whose two pipes for vectors do them all: forwards of D = 64 are 1.01 to 1.03 times as fast, of
// D = 128 up to 1.014. On Zen 4, where other pipes share the work, a table was slower (8.0 cycles a vector, 5.4 without); it runs the lane with bfloat16.
constexpr float kPower[] = {0x1.f0f3e6p-3f, 0x1.62e11ep-1f, 1.0f};  // of 2^f; relative error 6.5e-8

alignas(64) constexpr float kSteps[32] = {  // 2^(k / 32)
    0x1p+0f, 0x1.059b0ep+0f, 0x1.0b5586p+0f, 0x1.11301ep+0f, 0x1.172b84p+0f, 0x1.1d4874p+0f, 0x1.2387a6p+0f, 0x1.29e9ep+0f,
    0x1.306fep+0f, 0x1.371a74p+0f, 0x1.3dea64p+0f, 0x1.44e086p+0f, 0x1.4bfdaep+0f, 0x1.5342b6p+0f, 0x1.5ab07ep+0f, 0x1.6247ecp+0f,
    0x1.6a09e6p+0f, 0x1.71f75ep+0f, 0x1.7a1148p+0f, 0x1.82589ap+0f, 0x1.8ace54p+0f, 0x1.93737cp+0f, 0x1.9c4918p+0f, 0x1.a5503cp+0f,
    0x1.ae89fap+0f, 0x1.b7f77p+0f, 0x1.c199bep+0f, 0x1.cb720ep+0f, 0x1.d5818ep+0f, 0x1.dfc974p+0f, 0x1.ea4afap+0f, 0x1.f50766p+0f,
};

FUSEDATTN_INLINE F32 take_whole(F32& x) {
  const F32 all = x;
  x = _mm512_reduce_ps(x, 5 << 4 | _MM_FROUND_TO_NEG_INF);
  return all;
}
// Rounded down, the sum with 1.5 * 2^18 has 32 n + k in its lowest bits. The instruction that adds to exponents adds the whole part of x. The table is read
// for every vector: kept in registers, which a tile of sums has none for, it would have the compiler keep sums in memory.
FUSEDATTN_INLINE F32 times_power(F32 p, F32 x) {
  const __m512i k = _mm512_castps_si512(_mm512_add_round_ps(x, broadcast(0x1.8p18f), _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC));
  const float* steps = kSteps;
  __asm__("" : "+r"(steps));
  const F32 step = _mm512_permutex2var_ps(_mm512_load_ps(steps), k, _mm512_load_ps(steps + kLanes));
  return _mm512_scalef_ps(mul(p, step), x);
}
