// How many pairs of rows and columns a mask's bands and prefix show: what work is counted in.
#pragma once
#include <algorithm>
#include <cstdint>

#include "problem/mask.h"

namespace fusedattn {

// The sum of clamp(i + offset, least, most) over the rows i.
inline std::int64_t sum_of_ramp(Range rows, std::int64_t offset, std::int64_t least, std::int64_t most) {
  const std::int64_t n = rows.size();
  const std::int64_t below = std::clamp<std::int64_t>(least - offset - rows.begin, 0, n);
  const std::int64_t above = std::clamp<std::int64_t>(rows.end - (most - offset), 0, n - below), between = n - below - above;
  return below * least + above * most + between * (rows.begin + below + offset) + between * (between - 1) / 2;
}

// Every row's interval is clamp(i - left), clamp(i + right + 1): no row is looked at by itself.
inline std::int64_t visible_area(const Sight& sight, Range rows, std::int64_t kv_len) {
  if (rows.empty() || kv_len == 0) return 0;
  const Band& band = sight.band;
  if (sight.prefix > 0) {
    const std::int64_t least = std::min(sight.prefix, kv_len);
    return band.nowhere() ? rows.size() * least : sum_of_ramp(rows, band.right + 1, least, kv_len);
  }
  if (band.nowhere()) return 0;
  const Range seeing = meet(rows, {-band.right, kv_len + band.left});
  if (seeing.empty()) return 0;
  return sum_of_ramp(seeing, band.right + 1, 0, kv_len) - sum_of_ramp(seeing, -band.left, 0, kv_len);
}

}  // namespace fusedattn
