// Sparse modes 0 to 8 as bands, prefixes and bytes: which columns a row sees.
//
// delta = columns - rows of a sequence. Without a mask nothing is masked, whatever the mode.
//
//   0  what the mask shows, -pre <= column - row <= next
//   1  what the mask shows
//   2  column <= row
//   3  column <= row + delta
//   4  -pre <= column - row - delta <= next
//   5  what the mask shows (the prefix is a hint alone)
//   6  column <= row + delta, or column < prefix
//   7  as 3; in the last sequence with rows <= row + delta + next
//   8  as 2; in the first sequence with rows <= row + delta + next
//
// Modes 2 to 4 and 6 to 8 take a compressed mask of one shape and evaluate their rule whatever it holds.
#pragma once
#include <vector>

#include "fusedattn/fusedattn.h"
#include "operators/score/facts.h"

namespace fusedattn::cann::score {

// The shape that this mode's mask must end with; empty for modes that take a full mask.
Dims compressed_mask(std::int64_t mode);
// The shapes that a full mask may have.
std::vector<Dims> full_masks(const Facts& f);

// Arrays that a mask points to and that must outlive it.
struct MaskArrays {
  std::vector<std::int64_t> prefix;
  std::vector<fusedattn_band> bands;
};
// Writes all of a mask but the bytes, their address and their strides.
void fill_mask(const Facts& f, fusedattn_mask& mask, MaskArrays& arrays);
// Writes the strides of the bytes, which lie by `strides`.
void lay_mask(const Facts& f, const Dims& strides, fusedattn_mask& mask);

}  // namespace fusedattn::cann::score
