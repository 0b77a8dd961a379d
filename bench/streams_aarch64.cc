// streams_aarch64.cc: the probe's loops for 64-bit Arm, whose baseline has fma in 128-bit vectors.
#include "streams.h"

namespace fusedattn::probe {
namespace {

// 24 accumulators hide a latency of 4 at up to four per cycle; one half times one half is never denormal or infinite.
void neon_fma32(std::uint64_t passes) {
  asm volatile(
      "fmov v30.4s, #0.5\n\t"
      "fmov v31.4s, #0.5\n\t"
      ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23\n\t"
      "movi v\\r\\().4s, #0\n\t"
      ".endr\n"
      "1:\n\t"
      ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23\n\t"
      "fmla v\\r\\().4s, v30.4s, v31.4s\n\t"
      ".endr\n\t"
      "subs %[passes], %[passes], #1\n\t"
      "b.ne 1b\n\t"
      : [passes] "+r"(passes)
      :
      : "cc", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15",
        "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v30", "v31");
}

// Chains that wait for themselves, one behind the other: what a core keeps in flight is how many of them overlap (see streams_x86.cc).
void neon_chains(std::uint64_t passes) {
  asm volatile(
      "fmov v30.4s, #0.5\n\t"
      "fmov v31.4s, #0.5\n\t"
      ".irp r,0,1,2,3,4,5,6,7,8,9,10,11\n\t"
      "movi v\\r\\().4s, #0\n\t"
      ".endr\n"
      "1:\n\t"
      ".irp r,0,1,2,3,4,5,6,7,8,9,10,11\n\t"
      ".rept 48\n\t"
      "fmla v\\r\\().4s, v30.4s, v31.4s\n\t"
      ".endr\n\t"
      ".endr\n\t"
      "subs %[passes], %[passes], #1\n\t"
      "b.ne 1b\n\t"
      : [passes] "+r"(passes)
      :
      : "cc", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v30", "v31");
}

#define FUSEDATTN_PROBE_TARGET
#define FUSEDATTN_PROBE_REGISTER(value) "w"(value)
namespace neon {
constexpr int kBytes = 16;
#include "memory_loops.inl"
}  // namespace neon

}  // namespace

std::span<const Stream> streams() {
  static const Stream list[] = {{"neon.fma32", "", 24 * 4 * 2, neon_fma32}, {"neon.chains", "", 12 * 48 * 4 * 2, neon_chains}};
  return list;
}

MemoryLoops memory_loops() { return {neon::read, neon::exp}; }

}  // namespace fusedattn::probe
