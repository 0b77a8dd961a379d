// matrix.h: dense matrices in double, and the two sums over them that everything else is made of.
#ifndef FUSEDATTN_REFERENCE_MATRIX_H
#define FUSEDATTN_REFERENCE_MATRIX_H

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

inline double dot(const double* a, const double* b, std::int64_t count) {
  double total = 0.0;
  for (std::int64_t d = 0; d < count; ++d) total += a[d] * b[d];
  return total;
}

// to += weight * from
inline void add(double* to, double weight, const double* from, std::int64_t count) {
  for (std::int64_t d = 0; d < count; ++d) to[d] += weight * from[d];
}

}  // namespace fusedattn::reference
#endif
