// attention.h: the forward of attention in double, formula by formula. The specification that every kernel is held to.
#ifndef FUSEDATTN_REFERENCE_ATTENTION_H
#define FUSEDATTN_REFERENCE_ATTENTION_H

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <vector>

#include "reference/terms.h"

namespace fusedattn::reference {

// One query head of one sequence with its key head: q [q_len, dim], k [kv_len, dim], v [kv_len, dim_v].
struct Head {
  Matrix q;
  Matrix k;
  Matrix v;
  double scale = 1.0;
  Terms terms;
};

// What the forward leaves behind: out [q_len, dim_v], and for every row the largest score and the sum of exponentials.
struct Forward {
  Matrix out;
  std::vector<double> max;
  std::vector<double> sum;
};

// The statistics of a row that sees no column, where there are columns; without, they are 0. Its output is 0.
inline constexpr double kEmptyMax = -static_cast<double>(FLT_MAX);
inline constexpr double kEmptySum = static_cast<double>(FLT_MAX);

// s[i,j] = sum_d q[i,d] * k[j,d]
inline double scaled_product(const Head& head, std::int64_t i, std::int64_t j) {
  return head.scale * dot(head.q.row(i), head.k.row(j), head.q.cols);
}

// x[i,j] = capped(scale * s[i,j]) + bias[i,j] + alibi[i,j]   or, never with a cap,   scale * (s[i,j] + bias[i,j]) + alibi[i,j]
inline double score(const Head& head, std::int64_t i, std::int64_t j) {
  const double bias = bias_at(head.terms, i, j) * (head.terms.bias_before_scale ? head.scale : 1.0);
  return capped(head.terms, scaled_product(head, i, j)) + bias + alibi_at(head.terms.alibi, i, j);
}

// The columns that row i sees, in order. sees(i, j) is any callable: it is the definition of the mask.
template <class Sees>
std::vector<std::int64_t> visible_columns(const Head& head, std::int64_t i, const Sees& sees) {
  std::vector<std::int64_t> columns;
  for (std::int64_t j = 0; j < head.k.rows; ++j) {
    if (sees(i, j)) columns.push_back(j);
  }
  return columns;
}

//   max[i] = max(sink, max_j x[i,j])
//   sum[i] = exp(sink - max[i]) + sum_j exp(x[i,j] - max[i])
//   out[i] = sum_j keep[i,j] / keep_prob * exp(x[i,j] - max[i]) / sum[i] * v[j]
// A row whose scores are all -infinity is a row that sees nothing.
template <class Sees>
Forward attention(const Head& head, const Sees& sees) {
  const std::int64_t q_len = head.q.rows;
  const bool columns_exist = head.k.rows > 0;
  Forward result{Matrix(q_len, head.v.cols),
                 std::vector<double>(static_cast<std::size_t>(q_len), columns_exist ? kEmptyMax : 0.0),
                 std::vector<double>(static_cast<std::size_t>(q_len), columns_exist ? kEmptySum : 0.0)};
  for (std::int64_t i = 0; columns_exist && i < q_len; ++i) {
    const std::vector<std::int64_t> columns = visible_columns(head, i, sees);
    std::vector<double> x;
    for (const std::int64_t j : columns) x.push_back(score(head, i, j));

    double max = head.terms.sink;
    for (const double value : x) max = std::max(max, value);
    if (max == -INFINITY) continue;
    double sum = std::exp(head.terms.sink - max);
    for (const double value : x) sum += std::exp(value - max);
    for (std::size_t c = 0; c < columns.size(); ++c) {
      const double p = std::exp(x[c] - max) / sum;
      add(result.out.row(i), kept(head.terms, i, columns[c]) * p, head.v.row(columns[c]), head.v.cols);
    }
    result.max[static_cast<std::size_t>(i)] = max;
    result.sum[static_cast<std::size_t>(i)] = sum;
  }
  return result;
}

}  // namespace fusedattn::reference
#endif
