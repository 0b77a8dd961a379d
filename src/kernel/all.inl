// Compiles every kernel into the namespace of a lane and publishes them as one table. The lane's file has opened its target
// region, defined its vector type in that namespace, and named the namespace FUSEDATTN_LANE.
namespace fusedattn::FUSEDATTN_LANE {
namespace {
#include "kernel/gemm.inl"
#include "kernel/seen.inl"
#include "kernel/nonfinite.inl"
#include "kernel/pack.inl"
#include "kernel/softmax.inl"
#include "kernel/products.inl"
#include "kernel/forward_scratch.inl"
#include "kernel/forward.inl"
#include "kernel/backward_scratch.inl"
#include "kernel/backward.inl"
#include "kernel/reduce.inl"
#include "kernel/merge.inl"

#ifdef FUSEDATTN_LANE_HAS_DOT
using MacOfBf16 = Dot;
#else
using MacOfBf16 = Fma;
#endif

Tile forward_tile(const Problem& p) {
  return p.dtype == Dtype::bf16 ? forward_tile_of<MacOfBf16>(p) : forward_tile_of<Fma>(p);
}
Tile backward_tile(const Problem& p) {
  return p.dtype == Dtype::bf16 ? backward_tile_of<MacOfBf16>(p) : backward_tile_of<Fma>(p);
}

template <class Mac>
std::size_t forward_bytes(const Problem& p, std::int64_t lines) {
  Arena arena;
  ForwardSizes<Mac>(p, forward_tile_of<Mac>(p), lines).lay(arena);
  return arena.used();
}
template <class Mac>
std::size_t backward_bytes(const Problem& p, std::int64_t q_len) {
  Arena arena;
  BackwardSizes<Mac>(p, q_len, backward_tile_of<Mac>(p)).lay(arena);
  return arena.used();
}
std::size_t forward_scratch(const Problem& p, std::int64_t lines) {
  return p.dtype == Dtype::bf16 ? forward_bytes<MacOfBf16>(p, lines) : forward_bytes<Fma>(p, lines);
}
std::size_t backward_scratch(const Problem& p, std::int64_t q_len) {
  return p.dtype == Dtype::bf16 ? backward_bytes<MacOfBf16>(p, q_len) : backward_bytes<Fma>(p, q_len);
}

void forward_any(const Problem& p, const ForwardItem& item, void* scratch) {
  switch (p.dtype) {
    case Dtype::f32: return Forward<float, Fma>(p, item, scratch).run();
    case Dtype::bf16: return Forward<bf16, MacOfBf16>(p, item, scratch).run();
    case Dtype::f16: return Forward<f16, Fma>(p, item, scratch).run();
  }
}
void backward_any(const Problem& p, const BackwardItem& item, void* scratch) {
  switch (p.dtype) {
    case Dtype::f32: return Backward<float, Fma>(p, item, scratch).run();
    case Dtype::bf16: return Backward<bf16, MacOfBf16>(p, item, scratch).run();
    case Dtype::f16: return Backward<f16, Fma>(p, item, scratch).run();
  }
}
void reduce_any(Dtype dtype, const ReduceItem& item) {
  switch (dtype) {
    case Dtype::f32: return reduce_rows<float>(item);
    case Dtype::bf16: return reduce_rows<bf16>(item);
    case Dtype::f16: return reduce_rows<f16>(item);
  }
}
void merge_any(Dtype dtype, const MergeRows& rows) {
  switch (dtype) {
    case Dtype::f32: return merge_rows<float>(rows);
    case Dtype::bf16: return merge_rows<bf16>(rows);
    case Dtype::f16: return merge_rows<f16>(rows);
  }
}
}  // namespace

#define FUSEDATTN_TEXT(name) #name
#define FUSEDATTN_NAME(name) FUSEDATTN_TEXT(name)
extern const Kernels kernels;
const Kernels kernels{FUSEDATTN_NAME(FUSEDATTN_LANE),
                      &forward_tile,
                      &forward_scratch,
                      &forward_any,
                      &backward_tile,
                      &backward_scratch,
                      &backward_any,
                      &reduce_any,
                      &weigh_rows,
                      &merge_any};
}  // namespace fusedattn::FUSEDATTN_LANE
