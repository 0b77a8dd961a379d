// The AVX-512 BF16 lane: as AVX-512, with bfloat16 tensors multiplied by dot products of pairs.
#include "kernel/prelude.h"

#include <immintrin.h>

#include "isa/region.h"

FUSEDATTN_REGION_OPEN("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")
namespace fusedattn::avx512_bf16 {
#include "isa/avx512/simd.h"
#include "isa/power_of_fraction.h"
#include "isa/avx512_bf16/power.h"
#include "isa/avx512_bf16/dot.h"
}  // namespace fusedattn::avx512_bf16
#define FUSEDATTN_LANE avx512_bf16
#include "kernel/all.inl"
FUSEDATTN_REGION_CLOSE
