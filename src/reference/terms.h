// terms.h: what caps the scores of one query head of one sequence, what is added to them, and what dropout keeps of its probabilities.
#ifndef FUSEDATTN_REFERENCE_TERMS_H
#define FUSEDATTN_REFERENCE_TERMS_H

#include <cmath>
#include <cstdlib>

#include "reference/matrix.h"

namespace fusedattn::reference {

// -slope * |d| or -slope * sqrt|d|, d = j + kv_start - i - q_start - shift. The shift is kv_len - q_len where the
// distance is counted from the bottom right, else 0.
struct Alibi {
  double slope = 0.0;  // 0: none
  std::int64_t q_start = 0;
  std::int64_t kv_start = 0;
  std::int64_t shift = 0;
  bool square_root = false;
};

struct Terms {
  double softcap = 0.0;  // 0: none
  Matrix bias;  // [q_len, kv_len]; without rows: none
  bool bias_before_scale = false;
  Alibi alibi;
  Matrix keep;  // [q_len, kv_len], 1 where a probability is kept, 0 where it is dropped; without rows: all are kept
  double keep_prob = 1.0;
  double sink = -INFINITY;  // -infinity: none
};

// y, softly capped: softcap * tanh(y / softcap); and its derivative, 1 / cosh(y / softcap)^2.
inline double capped(const Terms& terms, double y) {
  return terms.softcap == 0.0 ? y : terms.softcap * std::tanh(y / terms.softcap);
}
inline double cap_slope(const Terms& terms, double y) {
  const double cosh = terms.softcap == 0.0 ? 1.0 : std::cosh(y / terms.softcap);
  return 1.0 / (cosh * cosh);
}

inline double bias_at(const Terms& terms, std::int64_t i, std::int64_t j) {
  return terms.bias.rows == 0 ? 0.0 : terms.bias.row(i)[j];
}

inline double alibi_at(const Alibi& alibi, std::int64_t i, std::int64_t j) {
  const auto d = static_cast<double>(std::abs(j + alibi.kv_start - i - alibi.q_start - alibi.shift));
  return -alibi.slope * (alibi.square_root ? std::sqrt(d) : d);
}

// What a probability is multiplied by before it weighs a value: keep[i,j] / keep_prob.
inline double kept(const Terms& terms, std::int64_t i, std::int64_t j) {
  return terms.keep.rows == 0 ? 1.0 : terms.keep.row(i)[j] / terms.keep_prob;
}

}  // namespace fusedattn::reference
#endif
