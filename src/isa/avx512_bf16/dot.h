// Products of pairs of bfloat16 with float32 sums (vdpbf16ps). The instruction takes subnormal inputs and sums as 0.
struct Dot {
  static constexpr int kDepth = 2;  // elements in a word
  // In place of kPower, for P of a backward, which products read rounded to 8 bits: relative error 7.5e-5, of mean 5e-6, where rounding makes up to 26
  // times as much (1 stays 1 then).
  static constexpr float kPowerOf8Bits[] = {0x1.c3f754p-5f, 0x1.f0de2p-3f, 0x1.62f31ap-1f, 0x1.fff692p-1f};
  static FUSEDATTN_INLINE F32 multiply_add(F32 a, F32 b, F32 c) { return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b); }

  // Elements from `first` on and from `second` on, by turns.
  static FUSEDATTN_INLINE __m512i turns(int first, int second) {
    const __m512i count = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_add_epi32(_mm512_or_si512(count, _mm512_slli_epi32(count, 16)), _mm512_set1_epi32(second << 16 | first));
  }

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

  // A vector each of two rows.
  static FUSEDATTN_INLINE void store_two_rows(float* rows, std::int64_t ld, std::int64_t j, F32 first, F32 second) {
    const __m512i both = narrow(first, second);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(reinterpret_cast<bf16*>(rows) + j), _mm512_castsi512_si256(both));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(reinterpret_cast<bf16*>(rows + ld) + j), _mm512_extracti64x4_epi64(both, 1));
  }

  static FUSEDATTN_INLINE F32 load(const bf16* p) { return _mm512_loadu_ps(reinterpret_cast<const float*>(p)); }
  static FUSEDATTN_INLINE __m512i first(const bf16* p, std::int64_t n) {
    return _mm512_maskz_loadu_epi16(static_cast<__mmask32>((std::uint64_t{1} << n) - 1), p);
  }
  static FUSEDATTN_INLINE F32 load_some(const bf16* p, std::int64_t n) { return _mm512_castsi512_ps(first(p, n)); }

  // The words that hold (even[j], odd[j]), of the vectors of float32 and of two rows of bfloat16.
  static FUSEDATTN_INLINE F32 pair(F32 even, F32 odd) {
    return _mm512_castsi512_ps(_mm512_permutexvar_epi16(turns(0, 16), narrow(even, odd)));
  }
  template <int kVectors>
  static FUSEDATTN_INLINE void pair_rows(const bf16* even, const bf16* odd, std::int64_t elements, F32 (&words)[kVectors]) {
#pragma GCC unroll 16
    for (int n = 0; n < kVectors; n += 2) {
      const std::int64_t count = std::min<std::int64_t>(elements - n * kLanes, n + 1 < kVectors ? 2 * kLanes : kLanes);
      const __m512i a = first(even + n * kLanes, count), b = odd != nullptr ? first(odd + n * kLanes, count) : _mm512_setzero_si512();
      words[n] = _mm512_castsi512_ps(_mm512_permutex2var_epi16(a, turns(0, 32), b));
      if (n + 1 < kVectors) words[n + 1] = _mm512_castsi512_ps(_mm512_permutex2var_epi16(a, turns(16, 48), b));
    }
  }

  static void clean_words(float* data, std::int64_t n) {
    std::uint16_t* halves = reinterpret_cast<std::uint16_t*>(data);
    for (std::int64_t i = 0; i < 2 * n; ++i) halves[i] = (halves[i] & 0x7f80u) == 0x7f80u ? std::uint16_t{0} : halves[i];
  }
  // Element j of a row, and that of row i in pairs of rows, each of `ld` words.
  static float of_row(const float* row, std::int64_t j) {
    const std::uint32_t bits = static_cast<std::uint32_t>(reinterpret_cast<const bf16*>(row)[j].bits) << 16;
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
  }
  static float of_pairs(const float* pairs, std::int64_t ld, std::int64_t i, std::int64_t j) { return of_row(pairs + i / 2 * ld, 2 * j + i % 2); }

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
