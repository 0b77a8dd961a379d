// Compiles every kernel into the namespace of a lane and publishes them as one table. The lane's file has opened its target
// region, defined its vector type in that namespace, and named the namespace FUSEDATTN_LANE.
namespace fusedattn::FUSEDATTN_LANE {
namespace {
#include "kernel/stages.inl"
#include "kernel/across.inl"
#include "kernel/gemm.inl"
#include "kernel/seen.inl"
#include "kernel/nonfinite.inl"
#include "kernel/ahead.inl"
#include "kernel/pack.inl"
#include "kernel/dropout.inl"
#include "kernel/softmax.inl"
#include "kernel/softcap.inl"
#include "kernel/terms.inl"
#include "kernel/products.inl"
#include "kernel/narrow.inl"
#include "kernel/finish.inl"
#include "kernel/forward_scratch.inl"
#include "kernel/forward.inl"
#include "kernel/backward_scratch.inl"
#include "kernel/score_gradients.inl"
#include "kernel/backward.inl"
#include "kernel/bias_gradient.inl"
#include "kernel/reduce.inl"
#include "kernel/compress.inl"
#include "kernel/compress_backward.inl"
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
  const ForwardSizes<Mac> sizes(p, forward_tile_of<Mac>(p), lines);
  sizes.lay(arena);
  sizes.lay_sums(arena);
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
std::size_t forward_part(const Problem& p, std::int64_t lines) {
  Arena arena;
  ForwardSizes<Fma>(p, forward_tile_of<Fma>(p), lines).lay_sums(arena);
  return arena.used();
}
// Few rows take float32 words whatever the lane has: their gradients need not be summed up in blocks (see narrow.inl).
std::size_t backward_scratch(const Problem& p, std::int64_t q_len) {
  const std::size_t bytes = backward_bytes<Fma>(p, q_len);
  return p.dtype == Dtype::bf16 ? std::max(bytes, backward_bytes<MacOfBf16>(p, q_len)) : bytes;
}
std::size_t bias_scratch(const Problem& p, std::int64_t q_len) {
  const Tile tile = backward_tile(p);
  Arena sums;
  sums.take<float>(static_cast<std::size_t>(tile.rows * leading(tile.cols)));
  return sums.used() + backward_scratch(p, q_len);
}

template <class Do>
void with_forward(const Problem& p, const ForwardItem& item, void* scratch, const ForwardParts& parts, const Do& act) {
  switch (p.dtype) {
    case Dtype::f32: return act(Forward<float, Fma>(p, item, scratch, parts));
    case Dtype::f16: return act(Forward<f16, Fma>(p, item, scratch, parts));
    case Dtype::bf16: return act(Forward<bf16, MacOfBf16>(p, item, scratch, parts));
  }
}
void forward_any(const Problem& p, const ForwardItem& item, void* scratch, const ForwardParts& parts) {
  with_forward(p, item, scratch, parts, [](auto&& forward) { forward.run(); });
}
void forward_merge(const Problem& p, const ForwardItem& item, void* scratch, const ForwardParts& parts) {
  with_forward(p, item, scratch, parts, [](auto&& forward) { forward.merge(); });
}
void backward_any(const Problem& p, const BackwardItem& item, void* scratch) {
  switch (p.dtype) {
    case Dtype::f32: return Backward<float, Fma>(p, item, scratch).run();
    case Dtype::bf16: return is_narrow(p, sequence(p, item.b).q_len) ? Backward<bf16, Fma>(p, item, scratch).run() : Backward<bf16, MacOfBf16>(p, item, scratch).run();
    case Dtype::f16: return Backward<f16, Fma>(p, item, scratch).run();
  }
}
void bias_gradient_any(const Problem& p, const BiasItem& item, void* scratch) {
  switch (p.dtype) {
    case Dtype::f32: return bias_gradient<float, Fma>(p, item, scratch);
    case Dtype::bf16: return bias_gradient<bf16, MacOfBf16>(p, item, scratch);
    case Dtype::f16: return bias_gradient<f16, Fma>(p, item, scratch);
  }
}
float sink_gradient_any(const Problem& p, std::int64_t head, void* scratch) {
  switch (p.dtype) {
    case Dtype::f32: return sink_gradient<float, Fma>(p, head, scratch);
    case Dtype::bf16: return sink_gradient<bf16, MacOfBf16>(p, head, scratch);
    case Dtype::f16: return sink_gradient<f16, Fma>(p, head, scratch);
  }
  return 0.0f;
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
void compress_weights_any(const Compress& p, float* to) {
  switch (p.dtype) {
    case Dtype::f32: return compress_weights<float>(p, to);
    case Dtype::bf16: return compress_weights<bf16>(p, to);
    case Dtype::f16: return compress_weights<f16>(p, to);
  }
}
void compress_forward_any(const Compress& p, const CompressItem& item) {
  switch (p.dtype) {
    case Dtype::f32: return CompressForward<float>(p, item).run();
    case Dtype::bf16: return CompressForward<bf16>(p, item).run();
    case Dtype::f16: return CompressForward<f16>(p, item).run();
  }
}
void compress_backward_any(const Compress& p, const CompressItem& item) {
  switch (p.dtype) {
    case Dtype::f32: return CompressBackward<float>(p, item).run();
    case Dtype::bf16: return CompressBackward<bf16>(p, item).run();
    case Dtype::f16: return CompressBackward<f16>(p, item).run();
  }
}
void sum_compress_weights_any(const Compress& p, const float* partials, std::int64_t count) {
  switch (p.dtype) {
    case Dtype::f32: return sum_compress_weights<float>(p, partials, count);
    case Dtype::bf16: return sum_compress_weights<bf16>(p, partials, count);
    case Dtype::f16: return sum_compress_weights<f16>(p, partials, count);
  }
}
}  // namespace

#define FUSEDATTN_TEXT(name) #name
#define FUSEDATTN_NAME(name) FUSEDATTN_TEXT(name)
extern const Kernels kernels;
const Kernels kernels{FUSEDATTN_NAME(FUSEDATTN_LANE),
                      &look_at_bytes,
                      &forward_tile,
                      &forward_scratch,
                      &forward_part,
                      &forward_any,
                      &forward_merge,
                      &backward_tile,
                      &backward_scratch,
                      &backward_any,
                      &bias_scratch,
                      &bias_gradient_any,
                      &sink_gradient_any,
                      &dropout_bits,
                      &reduce_any,
                      &weigh_rows,
                      &merge_any,
                      {&compress_weights_any, &compress_forward_any, &compress_backward_any, &sum_compress_weights_any}};
}  // namespace fusedattn::FUSEDATTN_LANE
