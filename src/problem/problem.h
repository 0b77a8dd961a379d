// What is asked: one plain struct. Before it live layouts, optional tensors and dialects; after it strides and integers.
#pragma once
#include <cstddef>
#include <cstdint>

#include "problem/dtype.h"
#include "problem/mask.h"

namespace fusedattn {

enum class Direction { forward, backward };

// A tensor as [sequence, head, row, feature]; strides in elements, feature stride 1.
struct View {
  std::byte* data = nullptr;
  std::int64_t batch_stride = 0;
  std::int64_t head_stride = 0;
  std::int64_t row_stride = 0;
  bool operator==(const View&) const = default;
};

// Softmax statistics as [sequence, head, row]; both pointers null when nobody wants them.
struct Stats {
  float* max = nullptr;
  float* sum = nullptr;
  std::int64_t batch_stride = 0;
  std::int64_t head_stride = 0;
  std::int64_t row_stride = 0;
  bool operator==(const Stats&) const = default;
};

struct Problem {
  Dtype dtype = Dtype::f32;
  std::int64_t batch = 0, q_heads = 0, kv_heads = 0;
  std::int64_t q_len = 0, kv_len = 0;
  std::int64_t dim = 0, dim_v = 0;
  const std::int64_t* q_ends = nullptr;  // packed: cumulative ends of the sequences, else null
  const std::int64_t* kv_ends = nullptr;
  float scale = 1.0f;
  Mask mask;
  View q, k, v, out;
  Stats stats;
  View d_out, dq, dk, dv;

  std::int64_t group() const { return q_heads / kv_heads; }
  bool packed() const { return q_ends != nullptr; }
};

// Where sequence b lies: its first row and column in the tensors, and its lengths.
struct Sequence {
  std::int64_t q_begin, q_len, kv_begin, kv_len;
};

inline Sequence sequence(const Problem& p, std::int64_t b) {
  if (!p.packed()) return {0, p.q_len, 0, p.kv_len};
  const std::int64_t q = b ? p.q_ends[b - 1] : 0, kv = b ? p.kv_ends[b - 1] : 0;
  return {q, p.q_ends[b] - q, kv, p.kv_ends[b] - kv};
}

// Row `row` of head `head` of sequence b, where `first` is the row at which the sequence begins.
inline std::byte* row_of(const Problem& p, const View& view, std::int64_t b, std::int64_t head, std::int64_t row) {
  const std::int64_t batch_offset = p.packed() ? 0 : b * view.batch_stride;
  const std::int64_t offset = batch_offset + head * view.head_stride + row * view.row_stride;
  return view.data + offset * static_cast<std::int64_t>(size_of(p.dtype));
}

inline std::int64_t stats_offset(const Problem& p, std::int64_t b, std::int64_t head, std::int64_t row) {
  const std::int64_t batch_offset = p.packed() ? 0 : b * p.stats.batch_stride;
  return batch_offset + head * p.stats.head_stride + row * p.stats.row_stride;
}

// Mask bytes of one row, or null; row and columns are local to the sequence.
inline const std::uint8_t* bytes_of(const Problem& p, std::int64_t b, std::int64_t head, std::int64_t row) {
  const Bytes& bytes = p.mask.bytes;
  if (bytes.data == nullptr) return nullptr;
  return bytes.data + b * bytes.batch_stride + head * bytes.head_stride + row * bytes.row_stride;
}

}  // namespace fusedattn
