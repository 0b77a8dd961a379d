// Products of a few lines with keys and values as they lie in memory, for calls with so few lines that packing would take longer than
// everything else (decoding: one new row per head against all the keys). All read every byte of keys and values once.

// A sequence of at most so many lines is narrow, if its features fill whole vectors. With short vectors eight lines widen 16-bit numbers so
// often that packing them once takes fewer instructions.
constexpr std::int64_t kNarrowLines = std::min(8, kLanes);

inline bool is_narrow(const Problem& p, std::int64_t lines) { return lines <= kNarrowLines && p.dim % kLanes == 0 && p.dim_v % kLanes == 0; }

// Lanes with vectors of 64 bytes have 32 registers, others 16.
constexpr bool kManyRegisters = kLanes == 16;

// One step of a dot product's words, of which the last vector need not be whole.
template <class Mac, bool kWhole, class T, int kLines, int kKeys>
FUSEDATTN_INLINE void dot_step(const float* q, std::int64_t ld_q, const T* const (&key)[kKeys], std::int64_t w, std::int64_t elements,
                               F32 (&sums)[kLines][kKeys]) {
  const auto key_words = [&](int t) { return kWhole ? load_words<Mac>(key[t], w) : load_words<Mac>(key[t], w, elements); };
  // Of the vectors of lines and of keys, the fewer stay in registers.
  if constexpr (kLines < kKeys) {
    F32 line[kLines];
#pragma GCC unroll 16
    for (int m = 0; m < kLines; ++m) line[m] = load(q + m * ld_q + w);
#pragma GCC unroll 16
    for (int t = 0; t < kKeys; ++t) {
      const F32 x = key_words(t);
#pragma GCC unroll 16
      for (int m = 0; m < kLines; ++m) sums[m][t] = Mac::multiply_add(line[m], x, sums[m][t]);
    }
  } else {
    F32 x[kKeys];
#pragma GCC unroll 16
    for (int t = 0; t < kKeys; ++t) x[t] = key_words(t);
#pragma GCC unroll 16
    for (int m = 0; m < kLines; ++m) {
      const F32 line = load(q + m * ld_q + w);
#pragma GCC unroll 16
      for (int t = 0; t < kKeys; ++t) sums[m][t] = Mac::multiply_add(line, x[t], sums[m][t]);
    }
  }
}

// Dot products of kLines lines with kKeys keys, as vectors over whose lanes they are sums. Folded in registers, a vector less is stored and read for
// each key but one of kFolded.
template <class Mac, class T, int kLines, int kKeys>
FUSEDATTN_INLINE void dot_products_of_keys(const float* q, std::int64_t ld_q, const T* const (&key)[kKeys], std::int64_t elements, float* to,
                                           std::int64_t ld_to, Ahead<T>& ahead, bool asks) {
  constexpr std::int64_t kLineWords = kLine<T> / Mac::kDepth;
  F32 sums[kLines][kKeys];
#pragma GCC unroll 16
  for (int m = 0; m < kLines; ++m)
#pragma GCC unroll 16
    for (int t = 0; t < kKeys; ++t) sums[m][t] = zero();
  std::int64_t w = 0;
  for (; (w + kLineWords) * Mac::kDepth <= elements; w += kLineWords) {
    if (asks) ahead.template ask<kKeys>();
#pragma GCC unroll 16
    for (int n = 0; n < kLineWords; n += kLanes) dot_step<Mac, true, T, kLines, kKeys>(q, ld_q, key, w + n, elements, sums);
  }
  if (w * Mac::kDepth < elements && asks) ahead.template ask<kKeys>();
  for (; w * Mac::kDepth < elements; w += kLanes) dot_step<Mac, Mac::kDepth == 1, T, kLines, kKeys>(q, ld_q, key, w, elements, sums);
#pragma GCC unroll 16
  for (int m = 0; m < kLines; ++m)
#pragma GCC unroll 16
    for (int t = 0; t < kKeys; t += kFolded) store(to + m * ld_to + t / kFolded * kLanes, folded(Add{}, sums[m], t));
}

// s[line][j] = q[line] . k[j] for kLines * kTimes lines. Eight accumulators and more hide their latency. Their lanes are summed for a batch
// of keys at once, for between the products of one step and those of the next the sums would be waited for.
template <class Mac, class T, int kLines, int kTimes = 1>
void dot_products(const float* q, std::int64_t ld_q, const Rows<T>& k, float* s, std::int64_t ld_s) {
  constexpr std::int64_t kKeys = kManyRegisters ? std::min(8, 16 / kLines) : 12 / kLines, kBatch = kManyRegisters ? 48 : 24;
  alignas(64) float products[kLines][kBatch * kLanes / kFolded];
  Ahead<T> ahead(k);
  for (std::int64_t begin = 0; begin < k.rows; begin += kBatch) {
    const std::int64_t count = std::min(kBatch, k.rows - begin);
    for (int n = 0; n < kTimes; ++n) {
      for (std::int64_t j = 0; j < count; j += kKeys) {
        const T* key[kKeys];
#pragma GCC unroll 16
        for (int t = 0; t < kKeys; ++t) key[t] = k.row(begin + std::min(j + t, count - 1));
        dot_products_of_keys<Mac, T, kLines, kKeys>(q + n * kLines * ld_q, ld_q, key, k.elements, products[0] + j * kLanes / kFolded,
                                                    kBatch * kLanes / kFolded, ahead, j / kKeys % kTimes == n);
      }
      for (int m = 0; m < kLines; ++m)
        for (std::int64_t j = 0; j < count; j += kLanes)
          store(s + (n * kLines + m) * ld_s + begin + j, across_folded(Add{}, products[m] + j * kLanes / kFolded));
    }
  }
}

// S = Q K^T; lines beyond the last one up to a power of two are computed too, so q and s must have them.
template <class Mac, class T>
void narrow_inner_products(const float* q, std::int64_t ld_q, const Rows<T>& k, std::int64_t lines, float* s, std::int64_t ld_s) {
  if constexpr (kNarrowLines > 4)
    if (lines > 4) return dot_products<Mac, T, 4, 2>(q, ld_q, k, s, ld_s);
  if (lines > 2) return dot_products<Mac, T, 4>(q, ld_q, k, s, ld_s);
  if (lines > 1) return dot_products<Mac, T, 2>(q, ld_q, k, s, ld_s);
  dot_products<Mac, T, 1>(q, ld_q, k, s, ld_s);
}

// A few lines of weights in a sum over rows.
struct WeightedLines {
  const float* p;  // words
  std::int64_t ld_p;
  float* o;
  std::int64_t ld_o;
  bool accumulate;
};

// o[line][d] (+)= sum_j p[line][j] v[j][d] for kLines lines and kVectors vectors of features from d on.
template <class Mac, class T, int kLines, int kVectors>
void weighted_sums(const WeightedLines& w, const Rows<T>& v, Ahead<T>& ahead, bool asks, std::int64_t d) {
  F32 acc[kLines][kVectors];
#pragma GCC unroll 16
  for (int m = 0; m < kLines; ++m)
#pragma GCC unroll 16
    for (int n = 0; n < kVectors; ++n) acc[m][n] = w.accumulate ? load(w.o + m * w.ld_o + d + n * kLanes) : zero();
  constexpr std::int64_t kRows = kLine<T> / kLanes;  // of which kVectors vectors are as many lines
  const std::int64_t asking = asks ? 0 : -1;
  const T* row = v.data + d;
  for (std::int64_t j = 0; j < v.rows; j += Mac::kDepth, row += Mac::kDepth * v.stride) {
    if (j % kRows == asking) ahead.template ask<kVectors>();
    F32 x[kVectors];
    load_along_rows<Mac>(row, j + 1 < v.rows ? row + v.stride : nullptr, kVectors * kLanes, x);
#pragma GCC unroll 16
    for (int m = 0; m < kLines; ++m) {
      const F32 weight = broadcast(w.p[m * w.ld_p + j / Mac::kDepth]);
#pragma GCC unroll 16
      for (int n = 0; n < kVectors; ++n) acc[m][n] = Mac::multiply_add(weight, x[n], acc[m][n]);
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < kLines; ++m)
#pragma GCC unroll 16
    for (int n = 0; n < kVectors; ++n) store(w.o + m * w.ld_o + d + n * kLanes, acc[m][n]);
}

// All features. Of several passes over the same rows, each asks for its share of what comes: beside every `passes`-th stripe of features.
template <class Mac, class T, int kLines, int kVectors>
void weighted_sums(const WeightedLines& w, const Rows<T>& v, Ahead<T>& ahead, int pass, int passes) {
  for (std::int64_t d = 0, left; (left = (v.elements - d) / kLanes) > 0; ++pass) {
    const bool asks = pass % passes == 0;
    if (left >= kVectors && left != kVectors + 1)
      weighted_sums<Mac, T, kLines, kVectors>(w, v, ahead, asks, d), d += kVectors * kLanes;
    else if (left >= 2)
      weighted_sums<Mac, T, kLines, 2>(w, v, ahead, asks, d), d += 2 * kLanes;
    else
      weighted_sums<Mac, T, kLines, 1>(w, v, ahead, asks, d), d += kLanes;
  }
}

// O (+)= P V. Each few lines have their turn with a few rows of V, that lie in the first-level cache while the next ones come. Eight
// accumulators and more hide their latency.
template <class Mac, class T>
void narrow_sum_products(const float* p, std::int64_t ld_p, const Rows<T>& v, std::int64_t lines, float* o, std::int64_t ld_o, bool accumulate) {
  constexpr int kMost = kManyRegisters ? 8 : 4;  // lines of a pass
  const std::int64_t few_rows = lines == 1 && v.elements <= 8 * kLanes ? v.rows : kManyRegisters ? 32 : 16;  // one pass need not come back
  const int passes = static_cast<int>(lines / kMost + lines % kMost / 4 + lines % 4 / 2 + lines % 2);
  Ahead<T> ahead(v);
  for (std::int64_t j = 0; j < v.rows; j += few_rows, accumulate = true) {
    const Rows<T> few{v.row(j), v.stride, std::min(few_rows, v.rows - j), v.elements};
    int pass = 0;
    std::int64_t i = 0;
    const auto w = [&] { return WeightedLines{p + i * ld_p + j / Mac::kDepth, ld_p, o + i * ld_o, ld_o, accumulate}; };
    if constexpr (kMost == 8)
      for (; i + 8 <= lines; i += 8) weighted_sums<Mac, T, 8, 2>(w(), few, ahead, pass++, passes);
    for (; i + 4 <= lines; i += 4) weighted_sums<Mac, T, 4, kManyRegisters ? 4 : 3>(w(), few, ahead, pass++, passes);
    for (; i + 2 <= lines; i += 2) weighted_sums<Mac, T, 2, 4>(w(), few, ahead, pass++, passes);
    if (i < lines) weighted_sums<Mac, T, 1, 8>(w(), few, ahead, pass++, passes);
  }
}

// to[j] = factor * sum_line w[line][j] x[line], for kLines lines and the rows j of `to`.
template <class To, int kLines>
void weighted_lines(const float* w, std::int64_t ld_w, const float* x, std::int64_t ld_x, float factor, To* to, std::int64_t stride,
                    std::int64_t rows, std::int64_t elements) {
  for (std::int64_t j = 0; j < rows; ++j, to += stride) {
    F32 weight[kLines];
#pragma GCC unroll 16
    for (int m = 0; m < kLines; ++m) weight[m] = broadcast(w[m * ld_w + j] * factor);
    for (std::int64_t d = 0; d < elements; d += kLanes) {
      F32 sum = mul(weight[0], load(x + d));
#pragma GCC unroll 16
      for (int m = 1; m < kLines; ++m) sum = fma(weight[m], load(x + m * ld_x + d), sum);
      store(to + d, sum);
    }
  }
}

// The same for `lines` of them; beyond these up to a power of two, w and x are read too and must hold zeros.
template <class To>
void narrow_outer_products(const float* w, std::int64_t ld_w, const float* x, std::int64_t ld_x, std::int64_t lines, float factor, To* to,
                           std::int64_t stride, std::int64_t rows, std::int64_t elements) {
  if constexpr (kNarrowLines > 4)
    if (lines > 4) return weighted_lines<To, 8>(w, ld_w, x, ld_x, factor, to, stride, rows, elements);
  if (lines > 2) return weighted_lines<To, 4>(w, ld_w, x, ld_x, factor, to, stride, rows, elements);
  if (lines > 1) return weighted_lines<To, 2>(w, ld_w, x, ld_x, factor, to, stride, rows, elements);
  weighted_lines<To, 1>(w, ld_w, x, ld_x, factor, to, stride, rows, elements);
}
