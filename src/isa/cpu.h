// What this CPU has and the operating system has enabled.
#pragma once

namespace fusedattn {

struct Cpu {
  bool avx2 = false;         // AVX2, FMA, F16C
  bool avx512 = false;       // AVX-512 F, BW, DQ, VL, and all of avx2
  bool avx512_bf16 = false;  // AVX-512 BF16, and all of avx512
  bool intel = false;        // who made it: what is fast differs
};

const Cpu& cpu();

}  // namespace fusedattn
