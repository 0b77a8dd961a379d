// The softmax of one row against one block of columns, online, in base 2.
//
//   max' = max(max, max_j s[j])      shrink = 2^((max - max') c)      p[j] = 2^((s[j] - max') c)      sum' = sum shrink + sum_j p[j]
//
// c = scale * log2(e); scaled scores are never stored. The maximum is subtracted before the multiplication: the largest
// probability is then exactly 1, however large the score.

// 2^x for x <= 127; below -126.5 the result is exactly 0, at 0 exactly 1; NaN stays NaN. Largest relative error 1.7e-7.
// x = n + f with |f| <= 1/2: adding 1.5 * 2^23 + 127 leaves n + 127 in the lowest bits of the sum; shifted there, they are
// the exponent of 2^n (and of 0 for n = -127). 2^f is the polynomial of least relative error among those that are 1 at 0.
FUSEDATTN_INLINE F32 exp2(F32 x) {
  const F32 magic = broadcast(12582912.0f + 127.0f);
  x = min(broadcast(127.0f), max(broadcast(-127.0f), x));
  const F32 shifted = add(x, magic);
  const F32 f = sub(x, sub(shifted, magic));
  F32 p = broadcast(0x1.5bba14p-10f);
  p = fma(p, f, broadcast(0x1.3cea88p-7f));
  p = fma(p, f, broadcast(0x1.c6b752p-5f));
  p = fma(p, f, broadcast(0x1.ebf9bcp-3f));
  p = fma(p, f, broadcast(0x1.62e42ap-1f));
  p = fma(p, f, broadcast(1.0f));
  return mul(p, shift_to_exponent(shifted));
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

// Turns scores s[block] into probabilities, of which those outside `seen` are 0; updates max and sum of the row.
// Returns by how much what was accumulated before must shrink.
template <class Mac>
float softmax_row(float* s, Range block, Range seen, float c, float& row_max, float& row_sum) {
  std::fill(s + block.begin, s + seen.begin, -kInfinity);
  std::fill(s + seen.end, s + block.end, -kInfinity);
  F32 largest[kPanelVectors];
  for (int n = 0; n < kPanelVectors; ++n) largest[n] = broadcast(row_max);
  for (std::int64_t j = block.begin; j < block.end; j += kPanel)
    for (int n = 0; n < kPanelVectors; ++n) largest[n] = max(load(s + j + n * kLanes), largest[n]);
  for (int n = 1; n < kPanelVectors; ++n) largest[0] = max(largest[n], largest[0]);
  const float new_max = maximum(largest[0]);
  // A row that has seen nothing but -inf and NaN yet subtracts 0: its zeros stay zeros, and NaN is not lost.
  const float reference = new_max == -kInfinity ? 0.0f : new_max;
  const F32 factor = broadcast(c), subtrahend = broadcast(reference);
  F32 total[kPanelVectors];
  for (int n = 0; n < kPanelVectors; ++n) total[n] = zero();
  for (std::int64_t j = block.begin; j < block.end; j += kPanel)
    for (int n = 0; n < kPanelVectors; ++n) {
      const F32 p = exp2(mul(sub(load(s + j + n * kLanes), subtrahend), factor));
      total[n] = add(total[n], p);
      Mac::store_probabilities(s, j + n * kLanes, p);
    }
  for (int n = 1; n < kPanelVectors; ++n) total[0] = add(total[0], total[n]);
  const float shrink = row_max == new_max ? 1.0f : maximum(exp2(broadcast((row_max - reference) * c)));
  row_max = new_max;
  row_sum = row_sum * shrink + sum(total[0]);
  return shrink;
}
