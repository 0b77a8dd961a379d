// The baseline lane: every kernel compiled for what any machine of the architecture has.
#include "kernel/prelude.h"

namespace fusedattn::baseline {
#include "isa/baseline/simd.h"
#include "isa/power_of_fraction.h"
#include "isa/power_by_shift.h"
#include "kernel/partial.inl"
}  // namespace fusedattn::baseline
#define FUSEDATTN_LANE baseline
#include "kernel/all.inl"
