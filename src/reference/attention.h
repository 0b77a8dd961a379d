// attention.h: the forward of attention in double, formula by formula. The specification that every kernel is held to.
#ifndef FUSEDATTN_REFERENCE_ATTENTION_H
#define FUSEDATTN_REFERENCE_ATTENTION_H

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace fusedattn::reference {

// A dense matrix, row after row.
struct Matrix {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::vector<double> values;

  Matrix() = default;
  Matrix(std::int64_t rows, std::int64_t cols)
      : rows(rows), cols(cols), values(static_cast<std::size_t>(rows * cols), 0.0) {}
  double* row(std::int64_t i) { return values.data() + i * cols; }
  const double* row(std::int64_t i) const { return values.data() + i * cols; }
};

// One query head of one sequence with its key head: q [q_len, dim], k [kv_len, dim], v [kv_len, dim_v].
struct Head {
  Matrix q;
  Matrix k;
  Matrix v;
  double scale = 1.0;
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

inline double dot(const double* a, const double* b, std::int64_t count) {
  double total = 0.0;
  for (std::int64_t d = 0; d < count; ++d) total += a[d] * b[d];
  return total;
}

// to += weight * from
inline void add(double* to, double weight, const double* from, std::int64_t count) {
  for (std::int64_t d = 0; d < count; ++d) to[d] += weight * from[d];
}

// x[i,j] = scale * sum_d q[i,d] * k[j,d]
inline double score(const Head& head, std::int64_t i, std::int64_t j) {
  return head.scale * dot(head.q.row(i), head.k.row(j), head.q.cols);
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

//   max[i] = max_j x[i,j]
//   sum[i] = sum_j exp(x[i,j] - max[i])
//   out[i] = sum_j exp(x[i,j] - max[i]) / sum[i] * v[j]
template <class Sees>
Forward attention(const Head& head, const Sees& sees) {
  const std::int64_t q_len = head.q.rows;
  const bool columns_exist = head.k.rows > 0;
  Forward result{Matrix(q_len, head.v.cols),
                 std::vector<double>(static_cast<std::size_t>(q_len), columns_exist ? kEmptyMax : 0.0),
                 std::vector<double>(static_cast<std::size_t>(q_len), columns_exist ? kEmptySum : 0.0)};
  for (std::int64_t i = 0; i < q_len; ++i) {
    const std::vector<std::int64_t> columns = visible_columns(head, i, sees);
    if (columns.empty()) continue;
    std::vector<double> x;
    for (const std::int64_t j : columns) x.push_back(score(head, i, j));

    const double max = *std::max_element(x.begin(), x.end());
    double sum = 0.0;
    for (const double value : x) sum += std::exp(value - max);
    for (std::size_t c = 0; c < columns.size(); ++c) {
      add(result.out.row(i), std::exp(x[c] - max) / sum, head.v.row(columns[c]), head.v.cols);
    }
    result.max[static_cast<std::size_t>(i)] = max;
    result.sum[static_cast<std::size_t>(i)] = sum;
  }
  return result;
}

}  // namespace fusedattn::reference
#endif
