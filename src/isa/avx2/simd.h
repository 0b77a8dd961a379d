// The vector type of the AVX2 lane (AVX2, FMA, F16C): eight floats.
using F32 = __m256;

constexpr int kLanes = 8;
constexpr int kStripRows = 6;  // 6 x 2 accumulators + 2 + 1 of 16 registers; 4 x 3 reaches the same, 4 x 2 is 8 % slower
constexpr int kPanelVectors = 2;
constexpr int kStepsAtOnce = 4;    // steps of depth between two branches: so few branches that the last of a product is predicted
constexpr bool kFinishesTiles = false;  // a tile of scores leaves 4 of 16 registers: what follows on it is done in passes, which is 2 to 9 % faster
constexpr int kTileStrips = 3;     // strips of a forward tile: 18 rows of 256 scores take 18 KB of a 32 KB first-level cache
constexpr int kMostGradientStrips = 16;  // of a backward tile: 96 rows
constexpr std::int64_t kBlockBytes = 256 * 1024;  // keys and values of one block: half of a 512 KB second-level cache

FUSEDATTN_INLINE F32 broadcast(float x) { return _mm256_set1_ps(x); }
FUSEDATTN_INLINE F32 broadcast_from(const float* p) { return broadcast(*p); }
FUSEDATTN_INLINE F32 zero() { return _mm256_setzero_ps(); }
FUSEDATTN_INLINE F32 add(F32 a, F32 b) { return _mm256_add_ps(a, b); }
FUSEDATTN_INLINE F32 sub(F32 a, F32 b) { return _mm256_sub_ps(a, b); }
FUSEDATTN_INLINE F32 mul(F32 a, F32 b) { return _mm256_mul_ps(a, b); }
FUSEDATTN_INLINE F32 div(F32 a, F32 b) { return _mm256_div_ps(a, b); }
FUSEDATTN_INLINE F32 fma(F32 a, F32 b, F32 c) { return _mm256_fmadd_ps(a, b, c); }
FUSEDATTN_INLINE F32 max(F32 a, F32 b) { return _mm256_max_ps(a, b); }  // b if either is NaN, as in every lane
FUSEDATTN_INLINE F32 min(F32 a, F32 b) { return _mm256_min_ps(a, b); }

// a where x is at most y, else b, also where either is NaN.
FUSEDATTN_INLINE F32 choose_at_most(F32 x, F32 y, F32 a, F32 b) { return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, y, _CMP_LE_OQ)); }

FUSEDATTN_INLINE F32 shift_to_exponent(F32 x) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(x), 23));
}

FUSEDATTN_INLINE float sum(F32 x) {
  const __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
}
FUSEDATTN_INLINE float maximum(F32 x) {
  const __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 pair = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)));
}

FUSEDATTN_INLINE void transpose(F32 (&r)[kLanes]) {
  const F32 a0 = _mm256_unpacklo_ps(r[0], r[1]), a1 = _mm256_unpackhi_ps(r[0], r[1]);
  const F32 a2 = _mm256_unpacklo_ps(r[2], r[3]), a3 = _mm256_unpackhi_ps(r[2], r[3]);
  const F32 a4 = _mm256_unpacklo_ps(r[4], r[5]), a5 = _mm256_unpackhi_ps(r[4], r[5]);
  const F32 a6 = _mm256_unpacklo_ps(r[6], r[7]), a7 = _mm256_unpackhi_ps(r[6], r[7]);
  const F32 b0 = _mm256_shuffle_ps(a0, a2, 0x44), b1 = _mm256_shuffle_ps(a0, a2, 0xee);
  const F32 b2 = _mm256_shuffle_ps(a1, a3, 0x44), b3 = _mm256_shuffle_ps(a1, a3, 0xee);
  const F32 b4 = _mm256_shuffle_ps(a4, a6, 0x44), b5 = _mm256_shuffle_ps(a4, a6, 0xee);
  const F32 b6 = _mm256_shuffle_ps(a5, a7, 0x44), b7 = _mm256_shuffle_ps(a5, a7, 0xee);
  r[0] = _mm256_permute2f128_ps(b0, b4, 0x20), r[1] = _mm256_permute2f128_ps(b1, b5, 0x20);
  r[2] = _mm256_permute2f128_ps(b2, b6, 0x20), r[3] = _mm256_permute2f128_ps(b3, b7, 0x20);
  r[4] = _mm256_permute2f128_ps(b0, b4, 0x31), r[5] = _mm256_permute2f128_ps(b1, b5, 0x31);
  r[6] = _mm256_permute2f128_ps(b2, b6, 0x31), r[7] = _mm256_permute2f128_ps(b3, b7, 0x31);
}

FUSEDATTN_INLINE F32 load(const float* p) { return _mm256_loadu_ps(p); }
FUSEDATTN_INLINE void store(float* p, F32 x) { _mm256_storeu_ps(p, x); }
// Around the caches, to an address aligned to a vector; visible to other threads after store_fence().
FUSEDATTN_INLINE void store_around(float* p, F32 x) { _mm256_stream_ps(p, x); }
FUSEDATTN_INLINE void store_fence() { _mm_sfence(); }

// What an operation makes of the lanes of kLanes vectors, a lane each; none are folded into one before, see AVX-512.
constexpr int kFolded = 1;
template <class Op>
FUSEDATTN_INLINE F32 across(const Op& op, const F32 (&x)[kLanes]) {
  const auto pairs = [&](F32 a, F32 b) FUSEDATTN_ALWAYS { return op(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b)); };
  const auto quads = [&](F32 a, F32 b) FUSEDATTN_ALWAYS { return op(_mm256_shuffle_ps(a, b, 0x44), _mm256_shuffle_ps(a, b, 0xee)); };
  const F32 low = quads(pairs(x[0], x[1]), pairs(x[2], x[3])), high = quads(pairs(x[4], x[5]), pairs(x[6], x[7]));
  return op(_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31));
}

FUSEDATTN_INLINE F32 load(const bf16* p) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
// Round to nearest even on the integer: the upper halves of the words; a NaN keeps its sign and becomes quiet.
FUSEDATTN_INLINE __m256i round_bf16_number(F32 x) {
  const __m256i u = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  return _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
}
FUSEDATTN_INLINE __m256i round_bf16(F32 x) {
  const __m256i rounded = round_bf16_number(x);
  const __m256i quiet = _mm256_or_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x400000));
  return _mm256_castps_si256(
      _mm256_blendv_ps(_mm256_castsi256_ps(rounded), _mm256_castsi256_ps(quiet), _mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
}
FUSEDATTN_INLINE __m128i narrow_bf16(F32 x) {
  const __m256i high = _mm256_srli_epi32(round_bf16(x), 16);
  return _mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), 0x08));
}
FUSEDATTN_INLINE void store_around(bf16* p, F32 x) { _mm_stream_si128(reinterpret_cast<__m128i*>(p), narrow_bf16(x)); }
FUSEDATTN_INLINE void store(bf16* p, F32 x) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow_bf16(x)); }
// The same for a number, shifted down.
FUSEDATTN_INLINE __m256i round_number(F32 x) {
  const __m256i u = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  return _mm256_srli_epi32(_mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
}
// Both vectors, one after the other, with half the shuffles and without the care for NaN where there is none.
FUSEDATTN_INLINE void store_pair(bf16* p, F32 a, F32 b) {
  if (__builtin_expect(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_UNORD_Q)) != 0, 0)) {
    store(p, a), store(p + kLanes, b);
    return;
  }
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(round_number(a), round_number(b)), 0xd8);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), packed);
}
FUSEDATTN_INLINE F32 load(const f16* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
// What is subnormal as a half is the sum with 0.5, whose last place is theirs: emulators make it 0 where float32's are flushed.
FUSEDATTN_INLINE __m128i narrow_f16(F32 x) {
  const __m256i bits = _mm256_castps_si256(x), sign = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(0x8000));
  const F32 half = _mm256_set1_ps(0.5f), magnitude = _mm256_castsi256_ps(_mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff)));
  const __m256i places = _mm256_sub_epi32(_mm256_castps_si256(_mm256_add_ps(magnitude, half)), _mm256_castps_si256(half));
  const __m256i usual = _mm256_cvtepu16_epi32(_mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
  const F32 small = _mm256_cmp_ps(magnitude, _mm256_set1_ps(0x1p-14f), _CMP_LT_OQ);
  const __m256i all = _mm256_blendv_epi8(usual, _mm256_or_si256(places, sign), _mm256_castps_si256(small));
  return _mm_packus_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
}
FUSEDATTN_INLINE void store_around(f16* p, F32 x) { _mm_stream_si128(reinterpret_cast<__m128i*>(p), narrow_f16(x)); }
FUSEDATTN_INLINE void store(f16* p, F32 x) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow_f16(x)); }

// Two vectors of bfloat16 apart as even and odd elements, which takes no shuffles; see kernel/merge.inl.
FUSEDATTN_INLINE void load_pairs(const bf16* p, F32& even, F32& odd) {
  const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  even = _mm256_castsi256_ps(_mm256_slli_epi32(both, 16));
  odd = _mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32(-65536)));
}
FUSEDATTN_INLINE __m256i narrow_pairs(F32 even, F32 odd) {
  const bool nan = _mm256_movemask_ps(_mm256_cmp_ps(even, odd, _CMP_UNORD_Q)) != 0;
  const __m256i low = nan ? round_bf16(even) : round_bf16_number(even), high = nan ? round_bf16(odd) : round_bf16_number(odd);
  return _mm256_blend_epi16(_mm256_srli_epi32(low, 16), high, 0xaa);
}
FUSEDATTN_INLINE void store_pairs(bf16* p, F32 even, F32 odd) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow_pairs(even, odd)); }
FUSEDATTN_INLINE void store_pairs_around(bf16* p, F32 even, F32 odd) {
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), narrow_pairs(even, odd));
}

// x where the word is below the threshold, 0 elsewhere.
FUSEDATTN_INLINE F32 keep_below(F32 x, const std::uint16_t* words, std::int32_t threshold) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(words)));
  return _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(threshold), wide)));
}

// Four 64-bit lanes, for the random stream of dropout.
using Wide = __m256i;
constexpr std::int64_t kWideLanes = 4;
FUSEDATTN_INLINE Wide broadcast_wide(std::uint64_t x) { return _mm256_set1_epi64x(static_cast<long long>(x)); }
FUSEDATTN_INLINE Wide upper_half(Wide x) { return _mm256_srli_epi64(x, 32); }
FUSEDATTN_INLINE Wide multiply_lower(Wide a, Wide b) { return _mm256_mul_epu32(a, b); }
FUSEDATTN_INLINE Wide exclusive_or(Wide a, Wide b) { return _mm256_xor_si256(a, b); }
// In the order in which store_blocks() writes: what it unpacks from the even lanes comes first.
FUSEDATTN_INLINE Wide count_from(std::uint64_t first) { return _mm256_add_epi64(broadcast_wide(first), _mm256_setr_epi64x(0, 2, 1, 3)); }
FUSEDATTN_INLINE void store_blocks(std::uint16_t* to, Wide w0, Wide w1, Wide w2, Wide w3) {
  const Wide low = _mm256_blend_epi32(w0, _mm256_slli_epi64(w1, 32), 0xaa), high = _mm256_blend_epi32(w2, _mm256_slli_epi64(w3, 32), 0xaa);
  _mm256_storeu_si256(reinterpret_cast<Wide*>(to), _mm256_unpacklo_epi64(low, high));
  _mm256_storeu_si256(reinterpret_cast<Wide*>(to + 16), _mm256_unpackhi_epi64(low, high));
}

// The first n (0 to 8) elements of x, the rest of `rest`.
FUSEDATTN_INLINE F32 keep_first(F32 x, std::int64_t n, F32 rest) {
  alignas(64) static constexpr std::int32_t kFirst[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
  return _mm256_blendv_ps(rest, x, load(reinterpret_cast<const float*>(kFirst + 8 - n)));
}

// `hidden` where the byte hides, x elsewhere.
FUSEDATTN_INLINE F32 hide(F32 x, const std::uint8_t* bytes, bool nonzero_hides, F32 hidden) {
  const __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes)));
  const F32 is_zero = _mm256_castsi256_ps(_mm256_cmpeq_epi32(wide, _mm256_setzero_si256()));
  return nonzero_hides ? _mm256_blendv_ps(hidden, x, is_zero) : _mm256_blendv_ps(x, hidden, is_zero);
}
