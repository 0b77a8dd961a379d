// The AVX-512 lane: every kernel compiled for AVX-512 F, BW, DQ and VL.
#include "kernel/prelude.h"

#include <immintrin.h>

#include "isa/region.h"

FUSEDATTN_REGION_OPEN("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
namespace fusedattn::avx512 {
#include "isa/avx512/simd.h"
#include "isa/avx512/power.h"
}  // namespace fusedattn::avx512
#define FUSEDATTN_LANE avx512
#include "kernel/all.inl"
FUSEDATTN_REGION_CLOSE
