// Overlaps within one array.
#include "problem/check_memory.h"

#include <algorithm>

namespace fusedattn {

// Elements of what is written must not lie on one another: sorted by size, each stride steps over all that the smaller ones reach.
Status check_steps(const std::string& name, const Strides& strides, const Strides& counts, std::int64_t width) {
  constexpr const char* kNames[] = {"batch_stride", "head_stride", "row_stride"};
  std::array<std::size_t, 3> order = {0, 1, 2};
  const auto size = [&](std::size_t i) { return std::fabs(static_cast<double>(strides[i])); };
  std::sort(order.begin(), order.end(), [&](std::size_t i, std::size_t j) { return size(i) < size(j); });
  double reach = static_cast<double>(width);
  for (const std::size_t i : order) {
    if (counts[i] <= 1) continue;
    if (size(i) < reach)
      return refuse(name + "." + kNames[i], strides[i],
                    "at least " + text(static_cast<std::int64_t>(reach)) + " beside the other strides, for it is written and must not overlap itself");
    reach += size(i) * static_cast<double>(counts[i] - 1);
  }
  return {};
}

}  // namespace fusedattn
