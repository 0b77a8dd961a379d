// Products of pairs of bfloat16 with float32 sums (vdpbf16ps). The instruction takes subnormal inputs and sums as 0.
struct Dot {
  static constexpr int kDepth = 2;  // elements in a word
  static FUSEDATTN_INLINE F32 multiply_add(F32 a, F32 b, F32 c) { return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b); }

  static FUSEDATTN_INLINE __m256i narrow(F32 x) { return (__m256i)_mm512_cvtneps_pbh(x); }
  static FUSEDATTN_INLINE __m512i narrow(F32 first, F32 second) { return (__m512i)_mm512_cvtne2ps_pbh(second, first); }

  // In place of float32: element j lies where float j / 2 was, which has been read.
  template <int kVectors>
  static FUSEDATTN_INLINE void store_row(float* row, std::int64_t j, const F32 (&x)[kVectors]) {
    bf16* const to = reinterpret_cast<bf16*>(row) + j;
    if constexpr (kVectors == 1) _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), narrow(x[0]));
#pragma GCC unroll 16
    for (int n = 0; n + 1 < kVectors; n += 2) _mm512_storeu_si512(to + n * kLanes, narrow(x[n], x[n + 1]));
  }

  // See exp2_for_words().
  static FUSEDATTN_INLINE F32 round_to_whole(F32 x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT); }
  static FUSEDATTN_INLINE F32 times_power_of_two(F32 x, F32 n) { return _mm512_scalef_ps(x, n); }

  static FUSEDATTN_INLINE F32 load(const bf16* p) { return _mm512_loadu_ps(reinterpret_cast<const float*>(p)); }
  static FUSEDATTN_INLINE F32 load_some(const bf16* p, std::int64_t n) {
    return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(static_cast<__mmask32>((std::uint64_t{1} << n) - 1), p));
  }

  // The words that hold (even[j], odd[j]).
  static FUSEDATTN_INLINE F32 pair(F32 even, F32 odd) {
    alignas(64) static constexpr std::uint16_t kTurns[] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                           8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return _mm512_castsi512_ps(_mm512_permutexvar_epi16(_mm512_load_si512(kTurns), narrow(even, odd)));
  }

  static void clean_words(float* data, std::int64_t n) {
    std::uint16_t* halves = reinterpret_cast<std::uint16_t*>(data);
    for (std::int64_t i = 0; i < 2 * n; ++i) halves[i] = (halves[i] & 0x7f80u) == 0x7f80u ? std::uint16_t{0} : halves[i];
  }
  static float probability(const float* row, std::int64_t j) {
    const std::uint32_t bits = static_cast<std::uint32_t>(reinterpret_cast<const bf16*>(row)[j].bits) << 16;
    float p;
    std::memcpy(&p, &bits, sizeof p);
    return p;
  }

  // sign is -1 or 0: exact on the upper half of a float32.
  static void multiply_words(float* data, std::int64_t n, float sign) {
    std::uint16_t* halves = reinterpret_cast<std::uint16_t*>(data);
    for (std::int64_t i = 0; i < 2 * n; ++i) {
      const std::uint32_t bits = static_cast<std::uint32_t>(halves[i]) << 16;
      float x;
      std::memcpy(&x, &bits, sizeof x);
      x *= sign;
      std::uint32_t product;
      std::memcpy(&product, &x, sizeof product);
      halves[i] = static_cast<std::uint16_t>(product >> 16);
    }
  }
};
#define FUSEDATTN_LANE_HAS_DOT
