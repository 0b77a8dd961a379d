// What the kernels of token compression take: pieces of sequences, cut into segments.
//
// Segment s of a sequence is its tokens [s * stride, (s + 1) * stride). It meets windows s, s - 1, ..., s - depth + 1; the last
// of these holds only the first `remainder` tokens of it.
#pragma once
#include "problem/compress.h"

namespace fusedattn {

struct CompressPiece {
  std::int64_t token = 0, row = 0, windows = 0;  // the sequence: its first token, its first row of output, how many rows
  Range segments;                                // to go through
  Range shown;                                   // windows to write (forward) or to read (backward)
  Range bare;                                    // tokens, of the packed tensor, that are in no window
};

struct CompressItem {
  const CompressPiece* pieces;
  std::int64_t count;
  Range heads, dims;     // backward: all dims
  std::int64_t slots;    // windows of which a token is in at most so many at once
  const float* weights;  // [heads of the problem, block]
  float* scratch;        // compress_scratch() floats
  float* d_weight;       // [heads of the problem, block], overwritten for the item's heads; null: not wanted
};

struct CompressKernels {
  void (*weights)(const Compress&, float* to);  // as float32 [heads, block]
  void (*forward)(const Compress&, const CompressItem&);
  void (*backward)(const Compress&, const CompressItem&);
  void (*sum_weights)(const Compress&, const float* partials, std::int64_t count);  // d_weight = sum of [count, heads, block]
};

constexpr std::int64_t kMostLanes = 16;  // of any vector type
constexpr std::int64_t padded(std::int64_t width) { return (width + kMostLanes - 1) / kMostLanes * kMostLanes; }

// Floats of scratch: `slots` rows of the heads; backward, also a vector for every position and head.
constexpr std::size_t compress_scratch(const Compress& p, std::int64_t heads, std::int64_t dims, std::int64_t slots,
                                       Direction direction) {
  const std::int64_t sums = direction == Direction::backward ? p.block * kMostLanes : 0;
  return static_cast<std::size_t>(heads) * static_cast<std::size_t>(slots * padded(dims) + sums);
}

}  // namespace fusedattn
