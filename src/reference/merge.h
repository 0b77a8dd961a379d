// merge.h: attention over disjoint sets of columns joined into attention over all of them, in double.
#ifndef FUSEDATTN_REFERENCE_MERGE_H
#define FUSEDATTN_REFERENCE_MERGE_H

#include "reference/attention.h"

namespace fusedattn::reference {

//   max = max_p max_p
//   sum = sum_p sum_p * exp(max_p - max)
//   out = sum_p out_p * sum_p * exp(max_p - max) / sum
// A part that saw no column is the neutral element. All parts have the same shape; there is at least one.
inline Forward merge(const std::vector<Forward>& parts) {
  Forward whole = parts.front();
  for (std::size_t i = 0; i < whole.max.size(); ++i) {
    double max = kEmptyMax;
    for (const Forward& part : parts)
      if (part.sum[i] != 0.0) max = std::max(max, part.max[i]);

    std::fill_n(whole.out.row(static_cast<std::int64_t>(i)), whole.out.cols, 0.0);
    whole.max[i] = max;
    whole.sum[i] = kEmptySum;
    if (max == kEmptyMax) continue;

    double sum = 0.0;
    for (const Forward& part : parts) sum += part.sum[i] * std::exp(part.max[i] - max);
    for (const Forward& part : parts) {
      const double weight = part.sum[i] * std::exp(part.max[i] - max) / sum;
      add(whole.out.row(static_cast<std::int64_t>(i)), weight, part.out.row(static_cast<std::int64_t>(i)),
          whole.out.cols);
    }
    whole.sum[i] = sum;
  }
  return whole;
}

}  // namespace fusedattn::reference
#endif
