// backward.h: the gradients of attention in double, each next to the line of the forward that it differentiates.
#ifndef FUSEDATTN_REFERENCE_BACKWARD_H
#define FUSEDATTN_REFERENCE_BACKWARD_H

#include "reference/attention.h"

namespace fusedattn::reference {

// Gradients of sum(out * d_out): dq [q_len, dim], dk [kv_len, dim], dv [kv_len, dim_v], d_bias [q_len, kv_len] where there
// is a bias, d_sink. A key head shared by several query heads receives the sum of their dk and dv, an element of a bias
// that is repeated the sum over all that it is added to.
struct Gradients {
  Matrix dq;
  Matrix dk;
  Matrix dv;
  Matrix d_bias;
  double d_sink = 0.0;
};

// The probability of a score of row i, recomputed from the statistics that the forward saved: those of these columns, or
// of more columns than these, whose gradients are then parts of a sum.
inline double probability(const Forward& saved, std::int64_t i, double x) {
  return std::exp(x - saved.max[static_cast<std::size_t>(i)]) / saved.sum[static_cast<std::size_t>(i)];
}

// A row that sees no column contributes nothing and has dq = 0.
template <class Sees>
Gradients backward(const Head& head, const Forward& saved, const Matrix& d_out, const Sees& sees) {
  Gradients grad{Matrix(head.q.rows, head.q.cols), Matrix(head.k.rows, head.k.cols), Matrix(head.v.rows, head.v.cols),
                 Matrix(head.terms.bias.rows, head.terms.bias.cols)};
  for (std::int64_t i = 0; head.k.rows > 0 && i < head.q.rows; ++i) {
    const double delta = dot(d_out.row(i), saved.out.row(i), head.v.cols);
    for (const std::int64_t j : visible_columns(head, i, sees)) {
      const double p = probability(saved, i, score(head, i, j));

      // forward: out[i] = sum_j kept[i,j] * p[i,j] * v[j]
      add(grad.dv.row(j), kept(head.terms, i, j) * p, d_out.row(i), head.v.cols);
      const double dp = kept(head.terms, i, j) * dot(d_out.row(i), head.v.row(j), head.v.cols);

      // forward: p[i,j] = exp(x[i,j]) / sum_l exp(x[i,l]), whose derivative needs sum_l p[i,l] * dp[i,l],
      // and that sum is d_out[i] . out[i] = delta
      const double dx = p * (dp - delta);

      // forward: x[i,j] = capped(scale * q[i] . k[j])
      const double ds = head.scale * dx * cap_slope(head.terms, scaled_product(head, i, j));
      add(grad.dq.row(i), ds, head.k.row(j), head.q.cols);
      add(grad.dk.row(j), ds, head.q.row(i), head.q.cols);

      // forward: x[i,j] = ... + bias[i,j]   or   ... + scale * bias[i,j]
      if (grad.d_bias.rows > 0) grad.d_bias.row(i)[j] = head.terms.bias_before_scale ? head.scale * dx : dx;
    }

    // forward: the sink is one more score, whose value is zero: dp = 0
    grad.d_sink += probability(saved, i, head.terms.sink) * (0.0 - delta);
  }
  return grad;
}

}  // namespace fusedattn::reference
#endif
