// The softmax of one row against one block of columns, online, in base 2.
//
//   max' = max(max, max_j s[j])      shrink = 2^((max - max') c)      p[j] = 2^((s[j] - max') c)      sum' = sum shrink + sum_j p[j]
//
// c = scale * log2(e); scaled scores are never stored. The maximum is subtracted before the multiplication: with max' c folded into a
// multiply-add its rounding would leave the domain of 2^x once scores are large.

// 2^x for x < 128; below -126.5 the result is exactly 0, at 0 exactly 1; NaN stays NaN. Largest relative error 1.7e-7.
// x = n + f with |f| <= 1/2: adding 1.5 * 2^23 + 127 leaves n + 127 in the lowest bits of the sum; shifted there, they are
// the exponent of 2^n (and of 0 for n = -127). 2^f is the polynomial of least relative error among those that are 1 at 0.
//
// Several vectors at once, step by step, so that their long chains overlap: 6.2 cycles a vector instead of 6.9 on Zen 3.
template <int kVectors>
FUSEDATTN_INLINE void exp2(F32 (&x)[kVectors]) {
  constexpr float kPolynomial[] = {0x1.5bba14p-10f, 0x1.3cea88p-7f, 0x1.c6b752p-5f, 0x1.ebf9bcp-3f, 0x1.62e42ap-1f, 1.0f};
  const F32 magic = broadcast(12582912.0f + 127.0f);
  F32 shifted[kVectors], p[kVectors];
#pragma GCC unroll 16
  for (int n = 0; n < kVectors; ++n) x[n] = max(broadcast(-127.0f), x[n]);
#pragma GCC unroll 16
  for (int n = 0; n < kVectors; ++n) shifted[n] = add(x[n], magic);
#pragma GCC unroll 16
  for (int n = 0; n < kVectors; ++n) x[n] = sub(x[n], sub(shifted[n], magic));
#pragma GCC unroll 16
  for (int n = 0; n < kVectors; ++n) p[n] = broadcast(kPolynomial[0]);
#pragma GCC unroll 16
  for (int k = 1; k < 6; ++k)
#pragma GCC unroll 16
    for (int n = 0; n < kVectors; ++n) p[n] = fma(p[n], x[n], broadcast(kPolynomial[k]));
#pragma GCC unroll 16
  for (int n = 0; n < kVectors; ++n) x[n] = mul(p[n], shift_to_exponent(shifted[n]));
}

constexpr float kLog2e = 1.44269504088896340736f;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A scale apart in what multiplies the queries exactly (its sign, or 0) and a positive rest, so that the largest score of
// a row is always the largest product.
struct Scaling {
  float sign, rest, exponent;
  explicit Scaling(float scale)
      : sign(scale > 0 ? 1.0f : scale < 0 ? -1.0f : scale), rest(scale != 0 ? std::fabs(scale) : 1.0f), exponent(rest * kLog2e) {}
};

FUSEDATTN_INLINE void multiply_row(float* row, std::int64_t n, float factor) {
  for (std::int64_t j = 0; j < n; j += kLanes) store(row + j, mul(load(row + j), broadcast(factor)));
}

// Scores become probabilities, of which dropout keeps some: kVectors vectors from column j on. Their sum is that of all.
template <class Mac, int kVectors, class Keep>
FUSEDATTN_INLINE void exponentiate(float* s, std::int64_t j, F32 factor, F32 subtrahend, const Keep& keep, F32 (&total)[kPanelVectors]) {
  F32 x[kVectors];
#pragma GCC unroll 16
  for (int n = 0; n < kVectors; ++n) x[n] = mul(sub(load(s + j + n * kLanes), subtrahend), factor);
  exp2(x);
#pragma GCC unroll 16
  for (int n = 0; n < kVectors; ++n) {
    total[n % kPanelVectors] = add(total[n % kPanelVectors], x[n]);
    Mac::store_probabilities(s, j + n * kLanes, keep(x[n], j + n * kLanes));
  }
}

FUSEDATTN_INLINE float largest_score(const float* s, Range block, float row_max) {
  F32 largest[kPanelVectors];
#pragma GCC unroll 16
  for (int n = 0; n < kPanelVectors; ++n) largest[n] = broadcast(row_max);
  for (std::int64_t j = block.begin; j < block.end; j += kPanel)
#pragma GCC unroll 16
    for (int n = 0; n < kPanelVectors; ++n) largest[n] = max(load(s + j + n * kLanes), largest[n]);
#pragma GCC unroll 16
  for (int n = 1; n < kPanelVectors; ++n) largest[0] = max(largest[n], largest[0]);
  return maximum(largest[0]);
}

// Turns scores s[block] into probabilities, of which those outside `seen` are 0; updates max and sum of the row.
// Returns by how much what was accumulated before must shrink.
template <class Mac, class Keep>
float softmax_row(float* s, Range block, Range seen, float c, const Keep& keep, float& row_max, float& row_sum) {
  std::fill(s + block.begin, s + seen.begin, -kInfinity);
  std::fill(s + seen.end, s + block.end, -kInfinity);
  const float new_max = largest_score(s, block, row_max);
  // A row that has seen nothing but -inf and NaN yet subtracts 0: its zeros stay zeros, and NaN is not lost.
  const float reference = new_max == -kInfinity ? 0.0f : new_max;
  const F32 factor = broadcast(c), subtrahend = broadcast(reference);
  F32 total[kPanelVectors];
#pragma GCC unroll 16
  for (int n = 0; n < kPanelVectors; ++n) total[n] = zero();
  std::int64_t j = block.begin;
  constexpr int kAtOnce = std::max(4, kPanelVectors);
  for (; j + kAtOnce * kLanes <= block.end; j += kAtOnce * kLanes) exponentiate<Mac, kAtOnce>(s, j, factor, subtrahend, keep, total);
  for (; j < block.end; j += kPanel) exponentiate<Mac, kPanelVectors>(s, j, factor, subtrahend, keep, total);
#pragma GCC unroll 16
  for (int n = 1; n < kPanelVectors; ++n) total[0] = add(total[0], total[n]);
  F32 shrink[1] = {broadcast((row_max - reference) * c)};
  exp2(shrink);
  const float factor_before = row_max == new_max ? 1.0f : maximum(shrink[0]);
  row_max = new_max;
  row_sum = row_sum * factor_before + sum(total[0]);
  return factor_before;
}
