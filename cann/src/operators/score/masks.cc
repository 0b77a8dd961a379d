#include "operators/score/masks.h"

#include <algorithm>

namespace fusedattn::cann::score {
namespace {

bool legal_prefix(const Facts& f) {
  if (!f.r.prefix || static_cast<std::int64_t>(f.r.prefix->size()) != f.B()) return false;
  return std::all_of(f.r.prefix->begin(), f.r.prefix->end(), [&](std::int64_t length) {
    return std::max<std::int64_t>(f.Skv() - f.Sq(), 0) <= length && length <= f.Skv();
  });
}

// Local to each sequence, or over all rows; per sequence and head where all lengths are equal.
std::vector<Dims> packed_masks(const Facts& f) {
  const std::int64_t rows = f.longest().rows, columns = f.longest().columns;
  std::vector<Dims> shapes = {{rows, columns}, {1, 1, rows, columns}, {f.totals().rows, f.totals().columns}};
  if (!f.equal_lengths()) return shapes;
  for (const std::int64_t b : {std::int64_t{1}, f.B()})
    for (const std::int64_t n : {std::int64_t{1}, f.N1()}) shapes.push_back({b, n, rows, columns});
  return shapes;
}

fusedattn_band band(std::int64_t pre, std::int64_t next) {
  const auto edge = [](std::int64_t tokens) { return tokens == kIntMax ? FUSEDATTN_UNBOUNDED : tokens; };
  return {edge(pre), edge(next)};
}

// One band per sequence, from the top left. pre is at least the columns, so that it never hides one.
void cut_bands(const Facts& f, fusedattn_mask& mask, MaskArrays& arrays) {
  const std::int64_t cut = f.band_sequence();
  for (std::int64_t b = 0; b < f.B(); ++b) {
    const Lengths& one = f.lengths()[static_cast<std::size_t>(b)];
    const std::int64_t others = f.mode() == 7 ? FUSEDATTN_UNBOUNDED : 0;
    arrays.bands.push_back({FUSEDATTN_UNBOUNDED, b == cut ? one.columns - one.rows + f.next() : others});
  }
  mask.bands = arrays.bands.data();
}

}  // namespace

Dims compressed_mask(std::int64_t mode) {
  if (mode == 6) return {3072, 2048};
  const bool compressed = mode == 2 || mode == 3 || mode == 4 || mode == 7 || mode == 8;
  return compressed ? Dims{2048, 2048} : Dims{};
}

std::vector<Dims> full_masks(const Facts& f) {
  if (f.packed) return packed_masks(f);
  const std::int64_t b = f.B(), rows = f.Sq(), columns = f.Skv();
  std::vector<Dims> shapes = {{b, 1, rows, columns}, {b, f.N1(), rows, columns}};
  if (!(f.mode() == 5 && b != 1 && legal_prefix(f))) shapes.insert(shapes.begin(), {{rows, columns}, {1, 1, rows, columns}});
  return shapes;
}

void fill_mask(const Facts& f, fusedattn_mask& mask, MaskArrays& arrays) {
  if (!f.masked) return;
  mask.meaning = FUSEDATTN_NONZERO_HIDES;
  switch (f.mode()) {
    case 0: mask.top_left = band(f.pre(), f.next()); break;
    case 2: mask.top_left.right = 0; break;
    case 4: mask.bottom_right = band(f.pre(), f.next()); break;
    case 6:
      arrays.prefix = *f.r.prefix;
      mask.prefix = arrays.prefix.data();
      [[fallthrough]];
    case 3: mask.bottom_right.right = 0; break;
    case 7: mask.bottom_right.right = 0; [[fallthrough]];
    case 8: cut_bands(f, mask, arrays); break;
    default: break;
  }
}

void lay_mask(const Facts& f, const Dims& strides, fusedattn_mask& mask) {
  const Dims& shape = f[Role::atten_mask]->shape;
  const auto step = [&](std::size_t axis) { return shape[axis] == 1 ? 0 : strides[axis]; };
  const std::size_t row = shape.size() - 2;
  if (shape.size() == 4) mask.batch_stride = step(0), mask.head_stride = step(1);
  mask.row_stride = strides[row];
  mask.whole = f.packed && shape.size() == 2 && shape != Dims{f.longest().rows, f.longest().columns};
}

}  // namespace fusedattn::cann::score
