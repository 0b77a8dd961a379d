// Scores that become probabilities where they are made, in the registers of a micro-kernel: memory sees neither S nor the passes over it.
// That takes a reference that the rows already have, and columns that all of them see. The operations and their order are those of a row
// (softmax.inl), so that bits do not tell. Where the reference rises after all, S is computed again: always where it was -inf, so what that
// makes of a score does not matter.

// The largest scores and the sums of rows, lane by lane.
struct Running {
  float *lanes, *sums;  // of every row a vector of the largest scores, later of the whole sum; and two of the sum so far
  void start(std::int64_t i, float top) const {
    store(lanes + i * kLanes, broadcast(top));
    store(sums + 2 * i * kLanes, zero()), store(sums + (2 * i + 1) * kLanes, zero());
  }
  FUSEDATTN_INLINE void load_sums(std::int64_t i, F32 (&to)[2]) const { to[0] = load(sums + 2 * i * kLanes), to[1] = load(sums + (2 * i + 1) * kLanes); }
};

// Scores of rows i and columns j on. Without terms those of float32 are powers of two, those of pairs are not (see Scaling).
template <class Mac>
struct FinishScores {
  float* scores;
  std::int64_t ld;
  const float* references;
  float exponent;
  Running running;
  FUSEDATTN_INLINE void operator()(std::int64_t i, std::int64_t j, Sums& s) const {
    float *const to = scores + i * ld, *const tops = running.lanes + i * kLanes, *const sums = running.sums + 2 * i * kLanes;
    const float* const reference = references + i;
    const std::int64_t stride = ld;
    const F32 factor = broadcast(exponent);
#pragma GCC unroll 16
    for (int m = 0; m < kStripRows; ++m) {
      F32 top = load(tops + m * kLanes), total[2] = {load(sums + 2 * m * kLanes), load(sums + (2 * m + 1) * kLanes)};
#pragma GCC unroll 16
      for (int n = 0; n < kPanelVectors; ++n) top = max(s[m][n], top);
      store(tops + m * kLanes, top);
      exponentiate<Mac, (Mac::kDepth > 1)>(s[m], to + m * stride, j, broadcast(reference[m]), factor, KeepAll{}, total);
      store(sums + 2 * m * kLanes, total[0]), store(sums + (2 * m + 1) * kLanes, total[1]);
    }
  }
};
