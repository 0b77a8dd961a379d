// Positional shift of the scores: pse types 0 to 3 as a bias or as ALiBi.
//
//   type 0: scale * s + pse          type 2: scale * s - slope * |d|
//   type 1: scale * (s + pse)        type 3: scale * s - slope * sqrt|d|        d = column + kv_start - row - q_start
//
// A tensor of 1024 rows for longer sequences is a compressed ALiBi: the last rows of a bias that depends on column - row alone. Its
// last row holds every distance that a causal mask shows, from the last column (0) backwards; a bias of row stride -1 whose first
// element is that last one reads it.
#pragma once
#include <utility>

#include "fusedattn/fusedattn.h"
#include "operators/score/facts.h"

namespace fusedattn::cann::score {

inline constexpr std::int64_t kSuppliedRows = 1024;

// How an outer pse lies in memory. Preconditions are not looked at.
enum class PseForm { none, full, one_row, last_rows, packed_full, packed_rows };
PseForm pse_form(const Facts& f);

// Element 0 of both lists of start indices; zeros unless both are given.
std::pair<std::int64_t, std::int64_t> starts(const Facts& f);

// Whether the library reads it as it lies; otherwise it takes a contiguous copy.
bool pse_as_it_lies(const Facts& f);
// Writes bias or alibi but for the address; returns the elements by which that lies past the tensor's first.
std::int64_t fill_pse(const Facts& f, const Dims& strides, fusedattn_problem& problem);

}  // namespace fusedattn::cann::score
