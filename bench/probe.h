/* probe.h: the C API of the limit probe, which measures what this machine's vector units can do. C99.
 *
 * A limit is the rate of one instruction stream that does nothing else: no loads, no branches that matter, enough
 * independent accumulators to hide the latency. A share of the limit is useful work divided by this number, both taken
 * on the same core within seconds of each other.
 *
 * Every rate is the median of slices of about a millisecond. With several threads the slices start together, every
 * thread has a CPU of its own where the process has that many, and the rates are added up.
 */
#ifndef FUSEDATTN_BENCH_PROBE_H
#define FUSEDATTN_BENCH_PROBE_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define FUSEDATTN_PROBE_API __attribute__((visibility("default")))
#else
#define FUSEDATTN_PROBE_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The streams built into this library, by index. A name is "<instruction set>.<arithmetic>", of "sse2.muladd32",
 * "avx2.fma32", "avx512.fma32", "avx512.bf16dot", "neon.fma32", which are limits; and, for each set, "chains": multiply-adds (SSE2: additions) that
 * wait for one another, whose rate is no limit but tells how many instructions the core keeps in flight for this thread. */
FUSEDATTN_PROBE_API int32_t fusedattn_probe_count(void);
FUSEDATTN_PROBE_API const char* fusedattn_probe_name(int32_t index);
/* "" for a stream that this machine runs, else why not. */
FUSEDATTN_PROBE_API const char* fusedattn_probe_refusal(int32_t index);

/* GFLOP/s of a stream (a multiply-add counts two), measured for about `seconds` on `threads` threads (1..1024).
 * -1 for a stream this machine does not run or an argument out of range. */
FUSEDATTN_PROBE_API double fusedattn_probe_flops(int32_t index, int32_t threads, double seconds);

/* 10^9 exponentials per second: float32, relative error below 4e-6, over a row of 512 in the first-level cache, with
 * the running sum; the widest vectors this machine runs. -1 for an argument out of range. */
FUSEDATTN_PROBE_API double fusedattn_probe_exp(int32_t threads, double seconds);

/* GB/s read from a buffer of `bytes` per thread (at least 4096), the widest loads this machine runs.
 * -1 for an argument out of range or no memory. */
FUSEDATTN_PROBE_API double fusedattn_probe_read(size_t bytes, int32_t threads, double seconds);

#ifdef __cplusplus
}
#endif
#endif
