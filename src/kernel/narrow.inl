// Products of a few lines with keys and values as they lie in memory, for calls with so few lines that packing would take longer than
// everything else (decoding: one new row per head against all the keys). Both read every byte of keys and values once.

// A sequence of at most so many lines is narrow, if its features fill whole vectors. With short vectors eight lines widen 16-bit numbers so
// often that packing them once takes fewer instructions.
constexpr std::int64_t kNarrowLines = std::min(8, kLanes);

inline bool is_narrow(const Problem& p, const Sequence& seq) {
  return seq.q_len * p.group() <= kNarrowLines && p.dim % kLanes == 0 && p.dim_v % kLanes == 0;
}

// Asks for the cache lines of a row of keys or values that will be read soon.
template <class T>
FUSEDATTN_INLINE void prefetch_row(const T* row, std::int64_t elements) {
  for (std::int64_t d = 0; d < elements; d += 64 / static_cast<std::int64_t>(sizeof(T))) __builtin_prefetch(row + d, 0, 2);
}

// A matrix [rows, elements].
template <class T>
struct Rows {
  const T* data;
  std::int64_t stride, rows, elements;
  const T* row(std::int64_t i) const { return data + std::min(i, rows - 1) * stride; }
  void prefetch(std::int64_t begin, std::int64_t end) const {
    for (std::int64_t i = begin; i < std::min(end, rows); ++i) prefetch_row(data + i * stride, elements);
  }
};

// s[line][j] = q[line] . k[j] for kLines lines; kLanes dot products at a time, of which the sums over the lanes end in one vector. Asks for
// rows a little ahead, so that what stands in memory is read in its order without a pause.
constexpr std::int64_t kRowsAhead = 16;
template <class T, int kLines>
FUSEDATTN_INLINE void dot_products_of_keys(const float* q, std::int64_t ld_q, const Rows<T>& k, std::int64_t j, float* s, std::int64_t ld_s) {
  constexpr int kKeys = kLanes / kLines;
  const T* key[kKeys];
#pragma GCC unroll 16
  for (int t = 0; t < kKeys; ++t) key[t] = k.row(j + t);
  F32 sums[kLanes];
#pragma GCC unroll 16
  for (int n = 0; n < kLanes; ++n) sums[n] = zero();
  for (std::int64_t d = 0; d < k.elements; d += kLanes) {
    F32 x[kKeys];
#pragma GCC unroll 16
    for (int t = 0; t < kKeys; ++t) x[t] = load(key[t] + d);
#pragma GCC unroll 16
    for (int m = 0; m < kLines; ++m) {
      const F32 line = load(q + m * ld_q + d);
#pragma GCC unroll 16
      for (int t = 0; t < kKeys; ++t) sums[m * kKeys + t] = fma(line, x[t], sums[m * kKeys + t]);
    }
  }
  transpose(sums);
#pragma GCC unroll 16
  for (int width = kLanes / 2; width > 0; width /= 2)
#pragma GCC unroll 16
    for (int n = 0; n < width; ++n) sums[n] = add(sums[n], sums[n + width]);
  float all[kLanes];
  store(all, sums[0]);
  for (int m = 0; m < kLines; ++m)
    for (std::int64_t t = 0; t < std::min<std::int64_t>(kKeys, k.rows - j); ++t) s[m * ld_s + j + t] = all[m * kKeys + t];
}

// The same for kTimes as many lines.
template <class T, int kLines, int kTimes = 1>
void dot_products(const float* q, std::int64_t ld_q, const Rows<T>& k, float* s, std::int64_t ld_s) {
  constexpr int kKeys = kLanes / kLines;
  for (std::int64_t j = 0; j < k.rows; j += kKeys) {
    k.prefetch(j + kRowsAhead, j + kRowsAhead + kKeys);
    for (int n = 0; n < kTimes; ++n) dot_products_of_keys<T, kLines>(q + n * kLines * ld_q, ld_q, k, j, s + n * kLines * ld_s, ld_s);
  }
}

// S = Q K^T; lines beyond the last one up to a power of two are computed too, so q and s must have them.
template <class T>
void narrow_inner_products(const float* q, std::int64_t ld_q, const Rows<T>& k, std::int64_t lines, float* s, std::int64_t ld_s) {
  if constexpr (kNarrowLines > 4)
    if (lines > 4) return dot_products<T, 4, 2>(q, ld_q, k, s, ld_s);
  if (lines > 2) return dot_products<T, 4>(q, ld_q, k, s, ld_s);
  if (lines > 1) return dot_products<T, 2>(q, ld_q, k, s, ld_s);
  dot_products<T, 1>(q, ld_q, k, s, ld_s);
}

// o[line][d] (+)= sum_j p[line][j] v[j][d] for kLines lines and kVectors vectors of features from d on; asks for what lies `ahead`
// elements behind what it reads.
template <class T, int kLines, int kVectors>
void weighted_sums(const float* p, std::int64_t ld_p, const Rows<T>& v, std::int64_t ahead, std::int64_t d, float* o, std::int64_t ld_o, bool accumulate) {
  F32 acc[kLines][kVectors];
#pragma GCC unroll 16
  for (int m = 0; m < kLines; ++m)
#pragma GCC unroll 16
    for (int n = 0; n < kVectors; ++n) acc[m][n] = accumulate ? load(o + m * ld_o + d + n * kLanes) : zero();
  const T* row = v.data + d;
  for (std::int64_t j = 0; j < v.rows; ++j, row += v.stride) {
    prefetch_row(row + ahead, kVectors * kLanes);
    F32 x[kVectors];
#pragma GCC unroll 16
    for (int n = 0; n < kVectors; ++n) x[n] = load(row + n * kLanes);
#pragma GCC unroll 16
    for (int m = 0; m < kLines; ++m) {
      const F32 weight = broadcast(p[m * ld_p + j]);
#pragma GCC unroll 16
      for (int n = 0; n < kVectors; ++n) acc[m][n] = fma(weight, x[n], acc[m][n]);
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < kLines; ++m)
#pragma GCC unroll 16
    for (int n = 0; n < kVectors; ++n) store(o + m * ld_o + d + n * kLanes, acc[m][n]);
}

template <class T, int kLines, int kVectors>
void weighted_sums(const float* p, std::int64_t ld_p, const Rows<T>& v, std::int64_t ahead, float* o, std::int64_t ld_o, bool accumulate) {
  for (std::int64_t d = 0, left; (left = (v.elements - d) / kLanes) > 0;) {
    if (left >= kVectors && left != kVectors + 1)
      weighted_sums<T, kLines, kVectors>(p, ld_p, v, ahead, d, o, ld_o, accumulate), d += kVectors * kLanes;
    else if (left >= 2)
      weighted_sums<T, kLines, 2>(p, ld_p, v, ahead, d, o, ld_o, accumulate), d += 2 * kLanes;
    else
      weighted_sums<T, kLines, 1>(p, ld_p, v, ahead, d, o, ld_o, accumulate), d += kLanes;
  }
}

// O (+)= P V. Of several lines, each has its turn with a few rows of V that lie in the first-level cache while the next ones come; of one,
// the rows are read in their order anyway, which the processor foresees better. Eight accumulators and more hide their latency.
template <class T>
void narrow_sum_products(const float* p, std::int64_t ld_p, const Rows<T>& v, std::int64_t lines, float* o, std::int64_t ld_o, bool accumulate) {
  if (lines == 1) return weighted_sums<T, 1, 8>(p, ld_p, v, 0, o, ld_o, accumulate);
  constexpr std::int64_t kFew = 8;
  for (std::int64_t j = 0; j < v.rows; j += kFew, accumulate = true) {
    const Rows<T> few{v.row(j), v.stride, std::min(kFew, v.rows - j), v.elements};
    std::int64_t i = 0, ahead = kFew * v.stride;
    for (; i + 4 <= lines; i += 4, ahead = 0) weighted_sums<T, 4, 3>(p + i * ld_p + j, ld_p, few, ahead, o + i * ld_o, ld_o, accumulate);
    for (; i + 2 <= lines; i += 2, ahead = 0) weighted_sums<T, 2, 4>(p + i * ld_p + j, ld_p, few, ahead, o + i * ld_o, ld_o, accumulate);
    if (i < lines) weighted_sums<T, 1, 8>(p + i * ld_p + j, ld_p, few, ahead, o + i * ld_o, ld_o, accumulate);
  }
}
