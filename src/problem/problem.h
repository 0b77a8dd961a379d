// What is asked: one plain struct. Before it live layouts, optional tensors and dialects; after it strides and integers.
#pragma once
#include <cstddef>
#include <cstdint>

#include "problem/dtype.h"
#include "problem/mask.h"
#include "problem/stages.h"

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
  std::int64_t lanes = 1;  // copies of each number, side by side
  bool blocks = false;     // packed: a block [q_heads, q_len, lanes] per sequence
  bool operator==(const Stats&) const = default;
};

// Added to the scores of a row: a tensor, seen as [sequence, head, row, column].
struct Bias {
  const std::byte* data = nullptr;
  std::int64_t batch_stride = 0;
  std::int64_t head_stride = 0;
  std::int64_t row_stride = 0;
  Dtype dtype = Dtype::f32;
  bool before_scale = false;
  bool blocks = false;  // packed: a block [q_heads, rows, kv_len] per sequence
  bool operator==(const Bias&) const = default;
};

// Added to the scores of a row: a slope times the distance of row and column.
struct Alibi {
  const float* slopes = nullptr;
  std::int64_t batch_stride = 0;
  std::int64_t head_stride = 0;
  std::int64_t q_start = 0;
  std::int64_t kv_start = 0;
  bool square_root = false;
  bool bottom_right = false;
  bool first_sequence = false;  // the starts are those of sequence 0 alone
  bool operator==(const Alibi&) const = default;
};

struct Dropout {
  float keep_prob = 1.0f;
  const std::uint8_t* bits = nullptr;
  std::uint64_t seed = 0;
  std::uint64_t offset = 0;
  bool active() const { return keep_prob < 1.0f || bits != nullptr; }
  bool operator==(const Dropout&) const = default;
};

struct Problem {
  Dtype dtype = Dtype::f32;
  std::int64_t batch = 0, q_heads = 0, kv_heads = 0;
  std::int64_t q_len = 0, kv_len = 0;
  std::int64_t dim = 0, dim_v = 0;
  const std::int64_t* q_ends = nullptr;  // packed: cumulative ends of the sequences, else null
  const std::int64_t* kv_ends = nullptr;
  float scale = 1.0f;
  float softcap = 0.0f;  // 0: none
  Mask mask;
  Bias bias;
  Alibi alibi;
  Dropout dropout;
  const float* sink = nullptr;
  View q, k, v, out;
  Stats stats;
  bool foreign_stats = false;  // backward: a score may lie above its row's max
  View d_out, dq, dk, dv, d_bias;
  float* d_sink = nullptr;
  StageTimes* stage_times = nullptr;  // null: nobody asks

  std::int64_t group() const { return q_heads / kv_heads; }
  bool packed() const { return q_ends != nullptr; }
  bool sequences_differ() const { return packed() || mask.bands != nullptr || mask.prefix != nullptr; }
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

struct Lengths {
  std::int64_t rows, cols;
};

// The rows of the sequence that has most of them, and the columns of the one that has most of those.
inline Lengths longest_of(const Problem& p) {
  if (!p.packed()) return {p.q_len, p.kv_len};
  Lengths longest{0, 0};
  for (std::int64_t b = 0; b < p.batch; ++b) {
    const Sequence seq = sequence(p, b);
    longest = {std::max(longest.rows, seq.q_len), std::max(longest.cols, seq.kv_len)};
  }
  return longest;
}

// Row `row` of head `head` of sequence b, where `first` is the row at which the sequence begins.
inline std::byte* row_of(const Problem& p, const View& view, std::int64_t b, std::int64_t head, std::int64_t row) {
  const std::int64_t batch_offset = p.packed() ? 0 : b * view.batch_stride;
  const std::int64_t offset = batch_offset + head * view.head_stride + row * view.row_stride;
  return view.data + offset * static_cast<std::int64_t>(size_of(p.dtype));
}

// Where the statistics of a row lie; the row is local to the sequence, as in all that follows.
inline std::int64_t stats_offset(const Problem& p, const Sequence& seq, std::int64_t b, std::int64_t head, std::int64_t row) {
  if (p.stats.blocks) return (p.q_heads * seq.q_begin + head * seq.q_len + row) * p.stats.lanes;
  const std::int64_t batch_offset = p.packed() ? 0 : b * p.stats.batch_stride;
  return batch_offset + head * p.stats.head_stride + (seq.q_begin + row) * p.stats.row_stride;
}

// Mask bytes of one row from a column on, or null.
inline const std::uint8_t* bytes_of(const Problem& p, const Sequence& seq, std::int64_t b, std::int64_t head, std::int64_t row, std::int64_t column) {
  const Bytes& bytes = p.mask.bytes;
  if (bytes.data == nullptr) return nullptr;
  if (bytes.whole) return bytes.data + head * bytes.head_stride + (seq.q_begin + row) * bytes.row_stride + seq.kv_begin + column;
  return bytes.data + b * bytes.batch_stride + head * bytes.head_stride + row * bytes.row_stride + column;
}

// What those bytes show.
inline const RowSight& sight_of_row(const Problem& p, const Sequence& seq, std::int64_t b, std::int64_t head, std::int64_t row) {
  const RowSights& sights = p.mask.bytes.sights;
  if (p.mask.bytes.whole) return sights.data[head * sights.head_stride + seq.q_begin + row];
  return sights.data[b * sights.batch_stride + head * sights.head_stride + row * sights.row_stride];
}

inline Sight sight_of(const Problem& p, std::int64_t b) {
  const Sequence seq = sequence(p, b);
  return sight_of(p.mask, b, seq.q_len, seq.kv_len);
}

}  // namespace fusedattn
