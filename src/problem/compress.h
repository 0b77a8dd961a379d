// Token compression as it is asked: weighted sums of windows of tokens, and their gradients.
#pragma once
#include "problem/problem.h"
#include "problem/status.h"

namespace fusedattn {

// Views are [head, row, feature]; weight and d_weight have one feature.
struct Compress {
  Dtype dtype = Dtype::f32;
  std::int64_t sequences = 0;
  const std::int64_t* ends = nullptr;  // null: the one sequence has all tokens
  std::int64_t tokens = 0, heads = 0, dim = 0;
  std::int64_t block = 0, stride = 0;
  View input, weight, output;
  View d_output, d_input, d_weight;

  // How many windows hold a token, at most; and how many tokens of a stride the oldest of them still holds.
  std::int64_t depth() const { return (block - 1) / stride + 1; }
  std::int64_t remainder() const { return block - (depth() - 1) * stride; }
};

// Windows of a sequence of this length.
constexpr std::int64_t windows_of(std::int64_t length, std::int64_t block, std::int64_t stride) {
  return length < block ? 0 : (length - block) / stride + 1;
}

// The tokens of sequence b.
inline Range tokens_of(const Compress& p, std::int64_t b) {
  return p.ends == nullptr ? Range{0, p.tokens} : Range{b ? p.ends[b - 1] : 0, p.ends[b]};
}

// Feature 0 of a head of a row.
inline std::byte* row_of(Dtype dtype, const View& view, std::int64_t head, std::int64_t row) {
  return view.data + (head * view.head_stride + row * view.row_stride) * static_cast<std::int64_t>(size_of(dtype));
}

Status check_windows(const std::int64_t* ends, std::int64_t sequences, std::int64_t block, std::int64_t stride);
Status check_compress(const Compress& problem, Direction direction);

// Windows of all sequences.
std::int64_t compressed_length(const Compress& problem);

}  // namespace fusedattn
