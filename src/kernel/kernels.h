// The only door to code of a lane (an instruction set): a table of constants and functions, one table per lane.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernel/compress.h"
#include "problem/problem.h"

namespace fusedattn {

// A block of scores: so many rows against so many columns.
struct Tile {
  std::int64_t rows, cols;
};

// Rows of all query heads that share one key head, against every column they see, or a part of them.
struct ForwardItem {
  std::int64_t b, kv_head;
  Range rows, cols;
  std::int64_t scores_before;          // of one head, in the sequences before b
  std::int64_t first_part, part, parts;  // of the items with the same rows; where they are one, it finishes them itself
};

// Where the items of the same rows leave what they have summed: `stride` bytes each.
struct ForwardParts {
  std::byte* data;
  std::size_t stride;
};

// All rows of one query head against a range of columns. Writes dk, dv of those columns (or their float32 partials, when
// several query heads share them) and its share of dq to a float32 buffer of its own, of the rows that see one of the columns.
struct BackwardItem {
  std::int64_t b, head;
  Range cols;
  std::int64_t scores_before;  // of one head, in the sequences before b
  float* dq;   // [q_len, leading(dim)]
  bool adds;   // to what dq has of columns before, of every row
  float* dkv;  // null: round and store dk and dv; else [kv_len, leading(dim)] then [kv_len, leading(dim_v)]
  Range* summed;  // rows of this head of which the scratch still has statistics and delta, from an item before; becomes what it has now
};

// Rows of mask bytes to be looked at once, before the tiles: `rows` of them, each of `cols` bytes.
struct LookItem {
  const std::uint8_t* bytes;
  std::int64_t row_stride, rows, cols;
  bool nonzero_hides;
  RowSight* sights;
};

// The gradient of some rows and columns of the bias, summed over the sequences and query heads that share it; all rows are one where
// the bias repeats its rows.
struct BiasItem {
  Range batch, heads, rows, cols;
  std::int64_t scores_before;  // of one head, in the sequences before the first
};

// out[row] = factor * (parts[0][row] + parts[1][row] + ...), each [rows, leading(width)], rounded to the storage type; 0 without parts.
struct ReduceItem {
  const float* const* parts;
  std::int64_t count, width;
  Range rows;
  float factor;
  std::byte* out;
  std::int64_t out_stride;
};

// Statistics of so many rows of a merge at once: [count, kWeighedRows] each, finite.
constexpr std::int64_t kWeighedRows = 64;
struct WeighedRows {
  const float* max;
  float* terms;  // the sums; become sum exp(max - top)
  std::int64_t count;
  float* top;  // written: the largest max
};

// Rows of a merge, at equal steps: out[row] = sum_t weights[row, t] * outs[t][row].
struct MergeRows {
  const std::byte* const* outs;
  const std::int64_t* steps;  // bytes from row to row
  const float* weights;       // [rows, count], from row to row:
  std::int64_t weights_step;
  std::int64_t count, rows, width;
  std::byte* out;
  std::int64_t out_step;
  bool skips_zeros;    // a part of weight 0 adds nothing, whatever it holds
  bool from_memory;    // nothing of this is in the caches
  bool around_caches;  // and nobody reads out before it would have left them
};

struct Kernels {
  const char* name;
  void (*look_at_bytes)(const LookItem&);
  Tile (*forward_tile)(const Problem&);
  std::size_t (*forward_scratch)(const Problem&, std::int64_t lines);
  std::size_t (*forward_part)(const Problem&, std::int64_t lines);
  void (*forward)(const Problem&, const ForwardItem&, void* scratch, const ForwardParts& parts);
  void (*forward_merge)(const Problem&, const ForwardItem&, void* scratch, const ForwardParts& parts);
  Tile (*backward_tile)(const Problem&);
  std::size_t (*backward_scratch)(const Problem&, std::int64_t q_len);
  void (*backward)(const Problem&, const BackwardItem&, void* scratch);
  std::size_t (*bias_scratch)(const Problem&, std::int64_t q_len);
  void (*bias_gradient)(const Problem&, const BiasItem&, void* scratch);
  float (*sink_gradient)(const Problem&, std::int64_t head, void* scratch);
  void (*dropout_bits)(const Dropout&, std::int64_t count, std::uint8_t* bits);
  void (*reduce)(Dtype, const ReduceItem&);
  void (*weigh)(const WeighedRows&);
  void (*merge)(Dtype, const MergeRows&);
  CompressKernels compress;
};

// The leading dimension of a float32 scratch matrix: an odd number of cache lines, so that rows do not share cache sets.
constexpr std::int64_t leading(std::int64_t width) { return 16 * (((width + 15) / 16) | 1); }

}  // namespace fusedattn
