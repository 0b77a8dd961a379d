// The vector type of the AVX-512 lanes (F, BW, DQ, VL): sixteen floats.
using F32 = __m512;

constexpr int kLanes = 16;
constexpr int kStripRows = 6;     // 6 x 4 accumulators + 4 of 32 registers
constexpr int kPanelVectors = 4;
constexpr int kStepsAtOnce = 2;    // steps of depth between two branches: more need a register that is not there
constexpr bool kFinishesTiles = true;  // what follows on a tile of scores is done in its registers: 8 of 32 are left for it
constexpr int kTileStrips = 8;     // strips of a forward tile: 48 rows of 512 scores take 96 KB of the second-level cache
constexpr int kMostGradientStrips = 28;  // of a backward tile: 168 rows. More sum dK and dV less often, and what they keep overflows the second-level cache
constexpr std::int64_t kBlockBytes = 512 * 1024;  // keys and values of one block: half of a 1 MB second-level cache

FUSEDATTN_INLINE F32 broadcast(float x) { return _mm512_set1_ps(x); }
// As an integer, which the pipes that load do alone: of floats a part waits for a pipe of the multiply-adds, 0.3 % of a backward of bfloat16.
FUSEDATTN_INLINE F32 broadcast_from(const float* p) {
  int word;
  std::memcpy(&word, p, sizeof word);
  return _mm512_castsi512_ps(_mm512_set1_epi32(word));
}
FUSEDATTN_INLINE F32 zero() { return _mm512_setzero_ps(); }
FUSEDATTN_INLINE F32 add(F32 a, F32 b) { return _mm512_add_ps(a, b); }
FUSEDATTN_INLINE F32 sub(F32 a, F32 b) { return _mm512_sub_ps(a, b); }
FUSEDATTN_INLINE F32 mul(F32 a, F32 b) { return _mm512_mul_ps(a, b); }
FUSEDATTN_INLINE F32 div(F32 a, F32 b) { return _mm512_div_ps(a, b); }
FUSEDATTN_INLINE F32 fma(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a, b, c); }
FUSEDATTN_INLINE F32 max(F32 a, F32 b) { return _mm512_max_ps(a, b); }  // b if either is NaN, as in every lane
FUSEDATTN_INLINE F32 min(F32 a, F32 b) { return _mm512_min_ps(a, b); }

// a where x is at most y, else b, also where either is NaN.
FUSEDATTN_INLINE F32 choose_at_most(F32 x, F32 y, F32 a, F32 b) { return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, y, _CMP_LE_OQ), b, a); }

FUSEDATTN_INLINE F32 shift_to_exponent(F32 x) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(x), 23));
}

FUSEDATTN_INLINE float sum(F32 x) { return _mm512_reduce_add_ps(x); }
FUSEDATTN_INLINE float maximum(F32 x) { return _mm512_reduce_max_ps(x); }

// Four 4 x 4 transposes within the quarters of four rows at a time, then the quarters themselves.
FUSEDATTN_INLINE void transpose(F32 (&r)[kLanes]) {
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; i += 4) {
    const F32 low01 = _mm512_unpacklo_ps(r[i], r[i + 1]), high01 = _mm512_unpackhi_ps(r[i], r[i + 1]);
    const F32 low23 = _mm512_unpacklo_ps(r[i + 2], r[i + 3]), high23 = _mm512_unpackhi_ps(r[i + 2], r[i + 3]);
    r[i] = _mm512_shuffle_ps(low01, low23, 0x44), r[i + 1] = _mm512_shuffle_ps(low01, low23, 0xee);
    r[i + 2] = _mm512_shuffle_ps(high01, high23, 0x44), r[i + 3] = _mm512_shuffle_ps(high01, high23, 0xee);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 4; ++i) {
    const F32 even01 = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88), odd01 = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
    const F32 even23 = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88), odd23 = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
    r[i] = _mm512_shuffle_f32x4(even01, even23, 0x88), r[i + 4] = _mm512_shuffle_f32x4(odd01, odd23, 0x88);
    r[i + 8] = _mm512_shuffle_f32x4(even01, even23, 0xdd), r[i + 12] = _mm512_shuffle_f32x4(odd01, odd23, 0xdd);
  }
}

FUSEDATTN_INLINE __mmask16 first(std::int64_t n) { return static_cast<__mmask16>((1u << n) - 1u); }

FUSEDATTN_INLINE F32 load(const float* p) { return _mm512_loadu_ps(p); }
FUSEDATTN_INLINE F32 load_some(const float* p, std::int64_t n) { return _mm512_maskz_loadu_ps(first(n), p); }
// Around the caches, to an address aligned to a vector; visible to other threads after store_fence().
FUSEDATTN_INLINE void store_around(float* p, F32 x) { _mm512_stream_ps(p, x); }
FUSEDATTN_INLINE void store_fence() { _mm_sfence(); }
FUSEDATTN_INLINE void store(float* p, F32 x) { _mm512_storeu_ps(p, x); }
FUSEDATTN_INLINE void store_some(float* p, F32 x, std::int64_t n) { _mm512_mask_storeu_ps(p, first(n), x); }

// What an operation makes of the lanes of four vectors, halfway: of those of each quarter. And of all lanes of kLanes vectors that were so folded, a
// lane each.
constexpr int kFolded = 4;
template <class Op>
FUSEDATTN_INLINE F32 fold(const Op& op, F32 a, F32 b, F32 c, F32 d) {
  const F32 ab = op(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)), cd = op(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  return op(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
}
template <class Op>
FUSEDATTN_INLINE F32 across(const Op& op, const F32 (&folded)[kLanes / kFolded]) {
  const auto halve = [&](F32 a, F32 b) FUSEDATTN_ALWAYS { return op(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd)); };
  return halve(halve(folded[0], folded[1]), halve(folded[2], folded[3]));
}

// The first n (0 to 16) elements of x, the rest of `rest`.
FUSEDATTN_INLINE F32 keep_first(F32 x, std::int64_t n, F32 rest) { return _mm512_mask_blend_ps(first(n), rest, x); }

FUSEDATTN_INLINE F32 widen_bf16(__m256i bits) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}
// Round to nearest even on the integer: the upper halves of the words; a NaN keeps its sign and becomes quiet.
FUSEDATTN_INLINE __m512i round_bf16(F32 x) {
  const __m512i u = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __m512i quiet = _mm512_or_si512(u, _mm512_set1_epi32(0x400000));
  return _mm512_mask_blend_epi32(_mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), rounded, quiet);
}
FUSEDATTN_INLINE __m256i narrow_bf16(F32 x) { return _mm512_cvtepi32_epi16(_mm512_srli_epi32(round_bf16(x), 16)); }

FUSEDATTN_INLINE F32 load(const bf16* p) { return widen_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
FUSEDATTN_INLINE F32 load_some(const bf16* p, std::int64_t n) { return widen_bf16(_mm256_maskz_loadu_epi16(first(n), p)); }
FUSEDATTN_INLINE void store_around(bf16* p, F32 x) { _mm256_stream_si256(reinterpret_cast<__m256i*>(p), narrow_bf16(x)); }
FUSEDATTN_INLINE void store(bf16* p, F32 x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow_bf16(x)); }
FUSEDATTN_INLINE void store_some(bf16* p, F32 x, std::int64_t n) { _mm256_mask_storeu_epi16(p, first(n), narrow_bf16(x)); }

FUSEDATTN_INLINE F32 load(const f16* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
FUSEDATTN_INLINE F32 load_some(const f16* p, std::int64_t n) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(n), p)); }
// What is subnormal as a half is the sum with 0.5, whose last place is theirs: emulators make it 0 where float32's are flushed.
FUSEDATTN_INLINE __m256i narrow_f16(F32 x) {
  const __m512i bits = _mm512_castps_si512(x), sign = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(0x8000));
  const F32 half = _mm512_set1_ps(0.5f), magnitude = _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff)));
  const __m512i places = _mm512_sub_epi32(_mm512_castps_si512(_mm512_add_ps(magnitude, half)), _mm512_castps_si512(half));
  const __m512i usual = _mm512_cvtepu16_epi32(_mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
  const __mmask16 small = _mm512_cmp_ps_mask(magnitude, _mm512_set1_ps(0x1p-14f), _CMP_LT_OQ);
  return _mm512_cvtepi32_epi16(_mm512_mask_blend_epi32(small, usual, _mm512_or_si512(places, sign)));
}
FUSEDATTN_INLINE void store_around(f16* p, F32 x) { _mm256_stream_si256(reinterpret_cast<__m256i*>(p), narrow_f16(x)); }
FUSEDATTN_INLINE void store(f16* p, F32 x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow_f16(x)); }
FUSEDATTN_INLINE void store_some(f16* p, F32 x, std::int64_t n) { _mm256_mask_storeu_epi16(p, first(n), narrow_f16(x)); }

// Two vectors of bfloat16 apart as even and odd elements, which takes no shuffles; see kernel/merge.inl.
FUSEDATTN_INLINE void load_pairs(const bf16* p, F32& even, F32& odd) {
  const __m512i both = _mm512_loadu_si512(p);
  even = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
  odd = _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32(-65536)));
}
FUSEDATTN_INLINE F32 narrow_pairs(F32 even, F32 odd) {
  const __m512i upper = _mm512_and_si512(round_bf16(odd), _mm512_set1_epi32(-65536));
  return _mm512_castsi512_ps(_mm512_or_si512(_mm512_srli_epi32(round_bf16(even), 16), upper));
}
FUSEDATTN_INLINE void store_pairs(bf16* p, F32 even, F32 odd) { _mm512_storeu_ps(p, narrow_pairs(even, odd)); }
FUSEDATTN_INLINE void store_pairs_around(bf16* p, F32 even, F32 odd) { _mm512_stream_ps(reinterpret_cast<float*>(p), narrow_pairs(even, odd)); }

// x where the word is below the threshold, 0 elsewhere.
FUSEDATTN_INLINE F32 keep_below(F32 x, const std::uint16_t* words, std::int32_t threshold) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(words)));
  return _mm512_maskz_mov_ps(_mm512_cmpgt_epi32_mask(_mm512_set1_epi32(threshold), wide), x);
}

// Eight 64-bit lanes, for the random stream of dropout.
using Wide = __m512i;
constexpr std::int64_t kWideLanes = 8;
FUSEDATTN_INLINE Wide broadcast_wide(std::uint64_t x) { return _mm512_set1_epi64(static_cast<long long>(x)); }
FUSEDATTN_INLINE Wide upper_half(Wide x) { return _mm512_srli_epi64(x, 32); }
FUSEDATTN_INLINE Wide multiply_lower(Wide a, Wide b) { return _mm512_mul_epu32(a, b); }
FUSEDATTN_INLINE Wide exclusive_or(Wide a, Wide b) { return _mm512_xor_si512(a, b); }
// In the order in which store_blocks() writes: what it unpacks from the even lanes comes first.
FUSEDATTN_INLINE Wide count_from(std::uint64_t first) {
  return _mm512_add_epi64(broadcast_wide(first), _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7));
}
FUSEDATTN_INLINE void store_blocks(std::uint16_t* to, Wide w0, Wide w1, Wide w2, Wide w3) {
  const Wide low = _mm512_mask_blend_epi32(0xaaaa, w0, _mm512_slli_epi64(w1, 32));
  const Wide high = _mm512_mask_blend_epi32(0xaaaa, w2, _mm512_slli_epi64(w3, 32));
  _mm512_storeu_si512(to, _mm512_unpacklo_epi64(low, high));
  _mm512_storeu_si512(to + 32, _mm512_unpackhi_epi64(low, high));
}

// `hidden` where the byte hides, x elsewhere.
FUSEDATTN_INLINE F32 hide(F32 x, const std::uint8_t* bytes, bool nonzero_hides, F32 hidden) {
  const __m512i wide = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
  const __mmask16 nonzero = _mm512_test_epi32_mask(wide, wide);
  return nonzero_hides ? _mm512_mask_blend_ps(nonzero, x, hidden) : _mm512_mask_blend_ps(nonzero, hidden, x);
}
