// streams.h: the loops the probe times. Each runs a number of passes and is compiled for its own instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace fusedattn::probe {

// A pure arithmetic loop: registers only.
struct Stream {
  const char* name;
  const char* refusal;  // "" where this machine runs it
  double flops_per_pass;
  void (*run)(std::uint64_t passes);
};

// Loops over memory, in the widest vectors this machine runs.
struct MemoryLoops {
  // Loads `bytes` (a multiple of 1024) at `data` (64-byte aligned).
  void (*read)(const float* data, std::size_t bytes);
  // y[i] = exp(x[i]) for `count` floats (a multiple of 64) with x in [-80, 0]; returns the sum of y.
  float (*exp)(const float* x, float* y, std::size_t count);
};

std::span<const Stream> streams();
MemoryLoops memory_loops();

}  // namespace fusedattn::probe
