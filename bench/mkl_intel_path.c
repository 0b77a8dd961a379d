/* mkl_intel_path.c: preloaded, it makes MKL take the code path it keeps for Intel CPUs on any CPU with the
 * instructions. MKL asks this function which vendor it runs on; with the answer 1 it chooses by instruction set alone.
 * It is used only by the benchmark's second torch peer, so that torch is also measured with the fastest matrix products
 * it has here. */
__attribute__((visibility("default"))) int mkl_serv_intel_cpu_true(void) { return 1; }
