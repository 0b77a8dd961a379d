// The AVX2 lane: every kernel compiled for AVX2, FMA and F16C.
#include "kernel/prelude.h"

#include <immintrin.h>

#include "isa/region.h"

FUSEDATTN_REGION_OPEN("avx2,fma,f16c")
namespace fusedattn::avx2 {
#include "isa/avx2/simd.h"
#include "isa/power_of_fraction.h"
#include "isa/power_by_shift.h"
#include "kernel/partial.inl"
}  // namespace fusedattn::avx2
#define FUSEDATTN_LANE avx2
#include "kernel/all.inl"
FUSEDATTN_REGION_CLOSE
