// merge.h: attention over disjoint sets of columns joined into attention over all of them, in double.
#ifndef FUSEDATTN_REFERENCE_MERGE_H
#define FUSEDATTN_REFERENCE_MERGE_H

#include <cfloat>

#include "reference/attention.h"

namespace fusedattn::reference {

struct Weighed {
  double max, sum;
  std::vector<double> weights;  // of the outputs
};

//   max = max_p max_p
//   sum = min(sum_p sum_p * exp(max_p - max), FLT_MAX)
//   weight_p = sum_p * exp(max_p - max) / sum
// An exponential that is 0 in float32 is 0 here: 0 times infinity and 0 / 0 depend on it.
inline Weighed weigh_by_formula(const std::vector<double>& maxima, const std::vector<double>& sums) {
  Weighed row{maxima.front(), 0.0, {}};
  for (const double max : maxima) row.max = max > row.max || std::isnan(max) ? max : row.max;
  for (std::size_t p = 0; p < maxima.size(); ++p) {
    const double shrunk = std::exp(maxima[p] - row.max);
    row.weights.push_back(sums[p] * (shrunk <= 0x1p-150 ? 0.0 : shrunk));
    row.sum += row.weights.back();
  }
  if (row.sum > FLT_MAX) row.sum = FLT_MAX;
  for (double& weight : row.weights) weight /= row.sum;
  return row;
}

// Whether a part saw a column: not if max is at most the lowest float or sum is 0. NaN is not forgotten.
inline bool saw_a_column(double max, double sum) {
  if (std::isnan(max) || std::isnan(sum)) return true;
  return max > -FLT_MAX && sum != 0.0;
}

// The same, but a part that saw no column is the neutral element. Where all are, the
// weights are 0, max is the largest of those with a sum, and sum is FLT_MAX; if all sums are 0, so is the sum.
inline Weighed weigh(const std::vector<double>& maxima, const std::vector<double>& sums) {
  std::vector<double> seen_maxima, seen_sums, with_a_sum;
  for (std::size_t p = 0; p < maxima.size(); ++p) {
    if (sums[p] != 0.0) with_a_sum.push_back(maxima[p]);
    if (!saw_a_column(maxima[p], sums[p])) continue;
    seen_maxima.push_back(maxima[p]), seen_sums.push_back(sums[p]);
  }
  if (seen_maxima.empty()) {
    const std::vector<double>& of = with_a_sum.empty() ? maxima : with_a_sum;
    return {*std::max_element(of.begin(), of.end()), with_a_sum.empty() ? 0.0 : FLT_MAX, std::vector<double>(maxima.size(), 0.0)};
  }
  Weighed row = weigh_by_formula(seen_maxima, seen_sums);
  for (std::size_t p = 0; p < maxima.size(); ++p)
    if (!saw_a_column(maxima[p], sums[p])) row.weights.insert(row.weights.begin() + static_cast<std::ptrdiff_t>(p), 0.0);
  return row;
}

//   out = sum_p out_p * weight_p
// All parts have the same shape; there is at least one.
inline Forward merge(const std::vector<Forward>& parts) {
  Forward whole = parts.front();
  for (std::size_t i = 0; i < whole.max.size(); ++i) {
    std::vector<double> maxima, sums;
    for (const Forward& part : parts) maxima.push_back(part.max[i]), sums.push_back(part.sum[i]);
    const Weighed row = weigh(maxima, sums);
    std::fill_n(whole.out.row(static_cast<std::int64_t>(i)), whole.out.cols, 0.0);
    for (std::size_t p = 0; p < parts.size(); ++p)
      if (row.weights[p] != 0.0) add(whole.out.row(static_cast<std::int64_t>(i)), row.weights[p], parts[p].out.row(static_cast<std::int64_t>(i)), whole.out.cols);
    whole.max[i] = row.max;
    whole.sum[i] = row.sum;
  }
  return whole;
}

}  // namespace fusedattn::reference
#endif
