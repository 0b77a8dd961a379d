// The softmax of rows against one block of columns, online, in base 2.
//
//   p[j] = 2^(s[j] - r')      sum' = sum shrink + sum_j p[j]      shrink = 2^(r - r')
//
// with scores in powers of two: queries take scale * log2(e) when they are packed (see Scaling). The reference r is the largest score of the
// first block that a row sees, and is raised to the largest so far when that is more than kSlack above it: p may be as large as 2^kSlack,
// which costs a float nothing, and most blocks leave r, sum and what was accumulated as they are.

// Of several vectors at once, step by step, so that their long chains overlap.
constexpr int kAtOnce = std::max(4, kPanelVectors);
static_assert(kPanelVectors % 2 == 0 && kAtOnce % 2 == 0);
template <int kVectors, int kTerms>
FUSEDATTN_INLINE void evaluate(const float (&polynomial)[kTerms], const F32 (&f)[kVectors], F32 (&p)[kVectors]) {
#pragma GCC unroll 16
  for (int n = 0; n < kVectors; ++n) p[n] = broadcast(polynomial[0]);
#pragma GCC unroll 16
  for (int k = 1; k < kTerms; ++k)
#pragma GCC unroll 16
    for (int n = 0; n < kVectors; ++n) p[n] = fma(p[n], f[n], broadcast(polynomial[k]));
}

// 2^x for x < 128; subnormal results are 0 (see run/arithmetic.h), and so is what lies below -126.5; at 0 exactly 1; NaN stays NaN. What x is a sum
// of, and what is a polynomial, is the lane's business.
constexpr float kMostExponent = 127.5f;
template <int kVectors, int kTerms = std::size(kPower)>
FUSEDATTN_INLINE void exp2(F32 (&x)[kVectors], const float (&polynomial)[kTerms] = kPower) {
  F32 whole[kVectors], p[kVectors];
#pragma GCC unroll 16
  for (int n = 0; n < kVectors; ++n) whole[n] = take_whole(x[n]);
  evaluate(polynomial, x, p);
#pragma GCC unroll 16
  for (int n = 0; n < kVectors; ++n) x[n] = times_power(p[n], whole[n]);
}

// Of one number, which is rare: inlined it would crowd out what is not.
[[gnu::noinline]] inline float exp2(float x) {
  F32 all[1] = {broadcast(x)};
  exp2(all);
  return maximum(all[0]);
}

constexpr float kLog2e = 1.44269504088896340736f, kLn2 = 0.693147180559945309417f;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Where the scale goes. Queries take it when they are packed, except that words of two bfloat16 take only what is exact, its sign or
// 0. What products then are in natural units and in powers of two:
//
//   s = unit * product      e^s = 2^(exponent * product)      dK = keys * sum_i dX[i] packed_q[i]
//
// Where something is added to them (`terms`), products are first multiplied by `rest`. They are natural from there on if it is a bias, whose
// lowest float32 must stay finite; a distance is worth `natural` times as much in their units.
//
// With a soft cap products times `cap_by` are what softcap.inl takes, and `cap_to` times what it gives are scores, in natural units if there
// is a bias.
struct Scaling {
  float queries, rest = 1.0f, natural = 1.0f, unit, exponent, keys, cap_by = 1.0f, cap_to = 1.0f;
  template <class Mac>
  static Scaling of(float scale, bool terms, bool bias) {
    if constexpr (Mac::kDepth == 1) {
      if (bias) return {.queries = scale, .unit = 1.0f, .exponent = kLog2e, .keys = 1.0f};
      return {.queries = scale * kLog2e, .natural = kLog2e, .unit = kLn2, .exponent = 1.0f, .keys = kLn2};
    } else {
      const float sign = scale > 0 ? 1.0f : scale < 0 ? -1.0f : scale, rest = scale != 0 ? std::fabs(scale) : 1.0f;
      if (terms) return {.queries = sign, .rest = rest, .unit = 1.0f, .exponent = kLog2e, .keys = rest};
      return {.queries = sign, .rest = rest, .unit = rest, .exponent = rest * kLog2e, .keys = rest};
    }
  }
  template <class Mac>
  static Scaling capped(float scale, float cap, bool bias) {
    constexpr float kTwice = 2.0f * kLog2e;
    if constexpr (Mac::kDepth == 1) {
      const Scaling natural{.queries = scale / cap * kTwice, .unit = 1.0f, .exponent = kLog2e, .keys = cap / kTwice, .cap_to = cap};
      if (bias) return natural;
      return {.queries = natural.queries, .natural = kLog2e, .unit = kLn2, .exponent = 1.0f, .keys = natural.keys, .cap_to = cap * kLog2e};
    } else {
      const float sign = scale > 0 ? 1.0f : scale < 0 ? -1.0f : scale, rest = scale != 0 ? std::fabs(scale) : 1.0f;
      return {.queries = sign, .unit = 1.0f, .exponent = kLog2e, .keys = rest, .cap_by = rest / cap * kTwice, .cap_to = cap};
    }
  }
};

FUSEDATTN_INLINE void multiply_row(float* row, std::int64_t n, float factor) {
  for (std::int64_t j = 0; j < n; j += kLanes) store(row + j, mul(load(row + j), broadcast(factor)));
}

// Gives what lies outside `seen` a value; `block` consists of whole vectors.
FUSEDATTN_INLINE void hide_outside(float* s, Range block, Range seen, F32 value) {
  std::int64_t j = block.begin;
  for (; j + kLanes <= seen.begin; j += kLanes) store(s + j, value);
  if (j < seen.begin) store(s + j, keep_first(value, seen.begin - j, load(s + j)));
  j = seen.end / kLanes * kLanes;
  if (j < seen.end) store(s + j, keep_first(load(s + j), seen.end - j, value)), j += kLanes;
  for (; j < block.end; j += kLanes) store(s + j, value);
}

// What pads the last vector of some columns, of every row.
inline void hide_padding(float* s, std::int64_t ld, std::int64_t rows, std::int64_t columns) {
  const std::int64_t count = columns % kLanes;
  if (count == 0) return;
  float* last = s + columns - count;
  for (std::int64_t i = 0; i < rows; ++i, last += ld) store(last, keep_first(load(last), count, broadcast(-kInfinity)));
}

// Lane by lane, the largest of some scores and of what was so before.
FUSEDATTN_INLINE F32 largest_scores(const float* s, Range block, F32 before) {
  F32 largest[kAtOnce];
#pragma GCC unroll 16
  for (int n = 0; n < kAtOnce; ++n) largest[n] = before;
  std::int64_t j = block.begin;
  for (; j + kAtOnce * kLanes <= block.end; j += kAtOnce * kLanes)
#pragma GCC unroll 16
    for (int n = 0; n < kAtOnce; ++n) largest[n] = max(load(s + j + n * kLanes), largest[n]);
  for (; j < block.end; j += kLanes) largest[0] = max(load(s + j), largest[0]);
#pragma GCC unroll 16
  for (int n = 1; n < kAtOnce; ++n) largest[0] = max(largest[n], largest[0]);
  return largest[0];
}

// What rows subtract: their reference. A row that has seen nothing but -inf and NaN yet subtracts the lowest number: its -inf stay -inf,
// and NaN is not lost.
FUSEDATTN_INLINE F32 reference_of(F32 row_max) { return max(row_max, broadcast(-FLT_MAX)); }
FUSEDATTN_INLINE float reference_of(float row_max) { return std::max(row_max, -FLT_MAX); }

// Scores x become probabilities, of which dropout keeps some: kVectors vectors from column j on. Their sum is that of all.
template <class Mac, bool kScaled, int kVectors, class Keep>
FUSEDATTN_INLINE void exponentiate(F32 (&x)[kVectors], float* s, std::int64_t j, F32 reference, F32 factor, const Keep& keep, F32 (&total)[2]) {
#pragma GCC unroll 16
  for (int n = 0; n < kVectors; ++n) {
    x[n] = sub(x[n], reference);
    if constexpr (kScaled) x[n] = mul(x[n], factor);
  }
  exp2(x);
#pragma GCC unroll 16
  for (int n = 0; n < kVectors; ++n) {
    total[n % 2] = add(total[n % 2], x[n]);
    x[n] = keep(x[n], j + n * kLanes);
  }
  Mac::store_row(s, j, x);
}

template <class Mac, bool kScaled, int kVectors, class Keep>
FUSEDATTN_INLINE void exponentiate(float* s, std::int64_t j, F32 reference, F32 factor, const Keep& keep, F32 (&total)[2]) {
  F32 x[kVectors];
#pragma GCC unroll 16
  for (int n = 0; n < kVectors; ++n) x[n] = load(s + j + n * kLanes);
  exponentiate<Mac, kScaled>(x, s, j, reference, factor, keep, total);
}

// Turns scores s[block] into probabilities relative to a reference, and adds them up, lane by lane. The block
// begins with a panel, which has an even number of vectors, so which of the two totals a column goes to does not depend on where the block begins.
template <class Mac, bool kScaled, class Keep>
FUSEDATTN_INLINE void exponentiate_row(float* s, Range block, float row_reference, float exponent, const Keep& keep, F32 (&total)[2]) {
  const F32 reference = broadcast(reference_of(row_reference)), factor = broadcast(exponent);
  std::int64_t j = block.begin;
  for (; j + kAtOnce * kLanes <= block.end; j += kAtOnce * kLanes)
    exponentiate<Mac, kScaled, kAtOnce>(s, j, reference, factor, keep, total);
  for (; j + 2 * kLanes <= block.end; j += 2 * kLanes) exponentiate<Mac, kScaled, 2>(s, j, reference, factor, keep, total);
  if (j < block.end) exponentiate<Mac, kScaled, 1>(s, j, reference, factor, keep, total);
}

// A sink, above -inf, is one more score of a row, in natural units. Returns by how much what was accumulated shrinks.
inline float add_sink(float sink, float& row_max, float& row_sum) {
  const float new_max = row_sum == 0.0f ? sink : std::max(row_max, sink);
  const float shrink = row_sum == 0.0f ? 0.0f : std::exp(row_max - new_max);
  row_max = new_max, row_sum = row_sum * shrink + std::exp(sink - new_max);
  return shrink;
}
