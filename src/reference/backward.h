// backward.h: the gradients of attention in double, each next to the line of the forward that it differentiates.
#ifndef FUSEDATTN_REFERENCE_BACKWARD_H
#define FUSEDATTN_REFERENCE_BACKWARD_H

#include "reference/attention.h"

namespace fusedattn::reference {

// Gradients of sum(out * d_out): dq [q_len, dim], dk [kv_len, dim], dv [kv_len, dim_v].
// A key head shared by several query heads receives the sum of their dk and dv.
struct Gradients {
  Matrix dq;
  Matrix dk;
  Matrix dv;
};

// Probabilities are recomputed from the statistics that the forward saved: p[i,j] = exp(x[i,j] - max[i]) / sum[i].
// A row that sees no column contributes nothing and has dq = 0.
template <class Sees>
Gradients backward(const Head& head, const Forward& saved, const Matrix& d_out, const Sees& sees) {
  Gradients grad{Matrix(head.q.rows, head.q.cols), Matrix(head.k.rows, head.k.cols), Matrix(head.v.rows, head.v.cols)};
  for (std::int64_t i = 0; i < head.q.rows; ++i) {
    const double max = saved.max[static_cast<std::size_t>(i)];
    const double sum = saved.sum[static_cast<std::size_t>(i)];
    const double delta = dot(d_out.row(i), saved.out.row(i), head.v.cols);
    for (const std::int64_t j : visible_columns(head, i, sees)) {
      const double p = std::exp(score(head, i, j) - max) / sum;

      // forward: out[i] = sum_j p[i,j] * v[j]
      add(grad.dv.row(j), p, d_out.row(i), head.v.cols);
      const double dp = dot(d_out.row(i), head.v.row(j), head.v.cols);

      // forward: p[i,j] = exp(x[i,j]) / sum_l exp(x[i,l]), whose derivative needs sum_l p[i,l] * dp[i,l],
      // and that sum is d_out[i] . out[i] = delta
      const double dx = p * (dp - delta);

      // forward: x[i,j] = scale * q[i] . k[j]
      add(grad.dq.row(i), head.scale * dx, head.k.row(j), head.q.cols);
      add(grad.dk.row(j), head.scale * dx, head.q.row(i), head.q.cols);
    }
  }
  return grad;
}

}  // namespace fusedattn::reference
#endif
