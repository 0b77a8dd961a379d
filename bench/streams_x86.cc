// streams_x86.cc: the probe's loops for x86-64: SSE2, AVX2+FMA, AVX-512, AVX-512 with bf16 dot products.
#include "streams.h"

namespace fusedattn::probe {
namespace {

// Each loop zeroes its accumulators and multiplies one half by one half, so that no value is ever denormal or infinite.
// 24 accumulators of 512 bits and 12 narrower ones hide a latency of 6 at two per cycle.
constexpr float kHalf = 0.5f;
constexpr std::uint32_t kHalfPairBf16 = 0x3f003f00u;

// mul + add: what a CPU without fma can do. The copy stands for the load that a real kernel needs at that place.
void sse2_muladd32(std::uint64_t passes) {
  asm volatile(
      "movss %[half], %%xmm15\n\t"
      "shufps $0, %%xmm15, %%xmm15\n\t"
      "movaps %%xmm15, %%xmm14\n\t"
      ".irp r,0,1,2,3,4,5,6,7,8,9,10,11\n\t"
      "xorps %%xmm\\r, %%xmm\\r\n\t"
      ".endr\n"
      "1:\n\t"
      ".irp r,0,1,2,3,4,5,6,7,8,9,10,11\n\t"
      "movaps %%xmm14, %%xmm13\n\t"
      "mulps %%xmm15, %%xmm13\n\t"
      "addps %%xmm13, %%xmm\\r\n\t"
      ".endr\n\t"
      "dec %[passes]\n\t"
      "jnz 1b\n\t"
      : [passes] "+r"(passes)
      : [half] "m"(kHalf)
      : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
        "xmm13", "xmm14", "xmm15");
}

__attribute__((target("avx2,fma"))) void avx2_fma32(std::uint64_t passes) {
  asm volatile(
      "vbroadcastss %[half], %%ymm15\n\t"
      "vmovaps %%ymm15, %%ymm14\n\t"
      ".irp r,0,1,2,3,4,5,6,7,8,9,10,11\n\t"
      "vxorps %%ymm\\r, %%ymm\\r, %%ymm\\r\n\t"
      ".endr\n"
      "1:\n\t"
      ".irp r,0,1,2,3,4,5,6,7,8,9,10,11\n\t"
      "vfmadd231ps %%ymm14, %%ymm15, %%ymm\\r\n\t"
      ".endr\n\t"
      "dec %[passes]\n\t"
      "jnz 1b\n\t"
      "vzeroupper\n\t"
      : [passes] "+r"(passes)
      : [half] "m"(kHalf)
      : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
        "xmm13", "xmm14", "xmm15");
}

// Chains of multiply-adds that wait for one another, a chain behind the other in the program: what a core keeps in flight is how many of them
// overlap, and of that a busy second hyperthread takes its part, while it leaves the other loops as they are.
#define FUSEDATTN_PROBE_CHAINS(setup, clear, step)                                                                   \
  asm volatile(setup ".irp r,0,1,2,3,4,5,6,7,8,9,10,11\n\t" clear                                                    \
                     ".endr\n"                                                                                       \
                     "1:\n\t"                                                                                        \
                     ".irp r,0,1,2,3,4,5,6,7,8,9,10,11\n\t"                                                          \
                     ".rept 48\n\t" step                                                                             \
                     ".endr\n\t"                                                                                     \
                     ".endr\n\t"                                                                                     \
                     "dec %[passes]\n\t"                                                                             \
                     "jnz 1b\n\t"                                                                                    \
               : [passes] "+r"(passes)                                                                               \
               : [half] "m"(kHalf)                                                                                   \
               : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", \
                 "xmm14", "xmm15")

void sse2_chains(std::uint64_t passes) {
  FUSEDATTN_PROBE_CHAINS("movss %[half], %%xmm15\n\tshufps $0, %%xmm15, %%xmm15\n\t", "xorps %%xmm\\r, %%xmm\\r\n\t",
                         "addps %%xmm15, %%xmm\\r\n\t");
}

__attribute__((target("avx2,fma"))) void avx2_chains(std::uint64_t passes) {
  FUSEDATTN_PROBE_CHAINS("vbroadcastss %[half], %%ymm15\n\tvmovaps %%ymm15, %%ymm14\n\t", "vxorps %%ymm\\r, %%ymm\\r, %%ymm\\r\n\t",
                         "vfmadd231ps %%ymm14, %%ymm15, %%ymm\\r\n\t");
  asm volatile("vzeroupper");
}

__attribute__((target("avx512f"))) void avx512_chains(std::uint64_t passes) {
  FUSEDATTN_PROBE_CHAINS("vbroadcastss %[half], %%zmm15\n\tvmovaps %%zmm15, %%zmm14\n\t", "vpxord %%zmm\\r, %%zmm\\r, %%zmm\\r\n\t",
                         "vfmadd231ps %%zmm14, %%zmm15, %%zmm\\r\n\t");
  asm volatile("vzeroupper");
}

#undef FUSEDATTN_PROBE_CHAINS

// The AVX-512 loops differ in one instruction.
#define FUSEDATTN_PROBE_LOOP_512(instruction, one_value)                                                            \
  asm volatile(                                                                                                     \
      "vpbroadcastd %[value], %%zmm31\n\t"                                                                          \
      "vmovaps %%zmm31, %%zmm30\n\t"                                                                                \
      ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23\n\t"                                    \
      "vpxord %%zmm\\r, %%zmm\\r, %%zmm\\r\n\t"                                                                     \
      ".endr\n"                                                                                                     \
      "1:\n\t"                                                                                                      \
      ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23\n\t" instruction                        \
      " %%zmm30, %%zmm31, %%zmm\\r\n\t"                                                                             \
      ".endr\n\t"                                                                                                   \
      "dec %[passes]\n\t"                                                                                           \
      "jnz 1b\n\t"                                                                                                  \
      "vzeroupper\n\t"                                                                                              \
      : [passes] "+r"(passes)                                                                                       \
      : [value] "m"(one_value)                                                                                      \
      : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",     \
        "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", \
        "xmm30", "xmm31")

__attribute__((target("avx512f"))) void avx512_fma32(std::uint64_t passes) {
  FUSEDATTN_PROBE_LOOP_512("vfmadd231ps", kHalf);
}

__attribute__((target("avx512f,avx512bf16"))) void avx512_bf16dot(std::uint64_t passes) {
  FUSEDATTN_PROBE_LOOP_512("vdpbf16ps", kHalfPairBf16);
}

#undef FUSEDATTN_PROBE_LOOP_512

#define FUSEDATTN_PROBE_TARGET
#define FUSEDATTN_PROBE_REGISTER(value) "x"(value)
namespace sse2 {
constexpr int kBytes = 16;
#include "memory_loops.inl"
}  // namespace sse2

#undef FUSEDATTN_PROBE_TARGET
#define FUSEDATTN_PROBE_TARGET __attribute__((target("avx2,fma")))
namespace avx2 {
constexpr int kBytes = 32;
#include "memory_loops.inl"
}  // namespace avx2

#undef FUSEDATTN_PROBE_TARGET
#undef FUSEDATTN_PROBE_REGISTER
#define FUSEDATTN_PROBE_TARGET __attribute__((target("avx512f,avx512dq,avx2,fma")))
#define FUSEDATTN_PROBE_REGISTER(value) "v"(value)
namespace avx512 {
constexpr int kBytes = 64;
#include "memory_loops.inl"
}  // namespace avx512

// __builtin_cpu_supports asks the CPU and, through xgetbv, whether the operating system saves the registers.
bool runs_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool runs_avx512() { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"); }
bool runs_bf16() { return runs_avx512() && __builtin_cpu_supports("avx512bf16"); }

const char* unless(bool runs, const char* reason) { return runs ? "" : reason; }

}  // namespace

std::span<const Stream> streams() {
  constexpr const char *kNoAvx2 = "the CPU or the operating system lacks AVX2 or FMA", *kNoAvx512 = "the CPU or the operating system lacks AVX-512 F or DQ";
  static const Stream list[] = {
      {"sse2.muladd32", "", 12 * 4 * 2, sse2_muladd32},
      {"sse2.chains", "", 12 * 48 * 4, sse2_chains},
      {"avx2.fma32", unless(runs_avx2(), kNoAvx2), 12 * 8 * 2, avx2_fma32},
      {"avx2.chains", unless(runs_avx2(), kNoAvx2), 12 * 48 * 8 * 2, avx2_chains},
      {"avx512.fma32", unless(runs_avx512(), kNoAvx512), 24 * 16 * 2, avx512_fma32},
      {"avx512.chains", unless(runs_avx512(), kNoAvx512), 12 * 48 * 16 * 2, avx512_chains},
      {"avx512.bf16dot", unless(runs_bf16(), "the CPU or the operating system lacks AVX-512 BF16"), 24 * 32 * 2,
       avx512_bf16dot},
  };
  return list;
}

MemoryLoops memory_loops() {
  if (runs_avx512()) return {avx512::read, avx512::exp};
  if (runs_avx2()) return {avx2::read, avx2::exp};
  return {sse2::read, sse2::exp};
}

}  // namespace fusedattn::probe
