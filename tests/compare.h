// compare.h: results compared with expected numbers, and what a complaint says.
#ifndef FUSEDATTN_TESTS_COMPARE_H
#define FUSEDATTN_TESTS_COMPARE_H

#include "check.h"
#include "reference/matrix.h"
#include "tensors.h"

namespace fusedattn::tests {

inline double largest(const std::vector<double>& values) {
  double result = 0.0;
  for (const double value : values) result = std::max(result, std::abs(value));
  return result;
}

// The error of one element, relative to what is allowed; infinite if it is NaN.
inline double excess_of(double have, double want, double allowed) {
  const double excess = have == want ? 0.0 : std::abs(have - want) / allowed;
  return std::isnan(excess) ? INFINITY : excess;
}

inline std::string complaint(const char* what, const std::array<int64_t, 4>& at, double have, double want, double allowed) {
  std::ostringstream text;
  text << what << "[" << at[0] << "," << at[1] << "," << at[2] << "," << at[3] << "] is " << have << ", expected " << want
       << " (error " << std::abs(have - want) << ", " << excess_of(have, want, allowed) << " times what is allowed)";
  return text.str();
}

inline void compare_one(const char* what, const std::array<int64_t, 4>& at, double have, double want, double allowed) {
  if (excess_of(have, want, allowed) > 1.0) check::complain(__FILE__, __LINE__, complaint(what, at, have, want, allowed));
}

// Compares rows [begin, begin + expected.rows) of one head; `what` names the tensor in a complaint, of which there is one.
inline void compare(const char* what, const Tensor& got, int64_t b, int64_t head, int64_t begin,
                    const reference::Matrix& expected, double allowance) {
  double worst = 1.0;
  std::string where;
  for (int64_t i = 0; i < expected.rows; ++i)
    for (int64_t d = 0; d < expected.cols; ++d) {
      const double want = expected.row(i)[d], have = got.get(b, head, begin + i, d);
      const double allowed = half_ulp(got.dtype, want) + allowance, excess = excess_of(have, want, allowed);
      if (excess <= worst) continue;
      worst = excess;
      where = complaint(what, {b, head, begin + i, d}, have, want, allowed);
    }
  if (!where.empty()) check::complain(__FILE__, __LINE__, where);
}

// Rows [begin, end) of every head must be exactly zero: they belong to no sequence.
inline void compare_zero(const char* what, const Tensor& got, int64_t begin, int64_t end) {
  for (int64_t n = 0; n < got.heads; ++n)
    for (int64_t i = begin; i < end; ++i)
      for (int64_t d = 0; d < got.dim; ++d)
        if (got.get(0, n, i, d) != 0.0)
          return check::complain(__FILE__, __LINE__, std::string(what) + ": tail is not 0");
}

}  // namespace fusedattn::tests
#endif
