// How a compression is done: which parts of which sequences make an item, for which heads, and the workspace.
#pragma once
#include <vector>

#include "kernel/kernels.h"
#include "plan/arena.h"

namespace fusedattn {

struct CompressPlan {
  Compress problem;
  Direction direction = Direction::forward;
  const Kernels* kernels = nullptr;
  std::int64_t workers = 1;

  std::vector<CompressPiece> pieces;
  std::vector<std::int64_t> chunks;  // first piece of each chunk, and the number of pieces
  std::int64_t heads_per_item = 1, dims_per_item = 1;
  std::int64_t slots = 0;  // 0: there are no windows
  std::size_t workspace_bytes = 0;

  bool wants_weight() const { return direction == Direction::backward && problem.d_weight.data != nullptr && slots > 0; }
  std::int64_t count() const { return static_cast<std::int64_t>(chunks.size()) - 1; }
  std::int64_t head_parts() const { return (problem.heads + heads_per_item - 1) / heads_per_item; }
  std::int64_t dim_parts() const { return (problem.dim + dims_per_item - 1) / dims_per_item; }
  std::int64_t items() const { return count() * head_parts() * dim_parts(); }
};

// For a checked problem. Chunks of the backward depend on the problem alone, so that the order of additions never depends on
// threads.
CompressPlan plan_compress(const Compress& problem, Direction direction, const Kernels& kernels, std::int64_t threads);

// The weights as float32; scratch for each worker; for each chunk its part of d_weight.
struct CompressWorkspace {
  float *weights, *scratch, *d_weight;
  std::size_t stride;  // floats of scratch from one worker to the next
};
CompressWorkspace lay_compress(const CompressPlan& plan, Arena& arena);

}  // namespace fusedattn
