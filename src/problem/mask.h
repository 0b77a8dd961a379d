// Which columns a row sees. A mask is data: bands, whose verdict on a row is an interval, and optional bytes.
#pragma once
#include <algorithm>
#include <cstdint>

namespace fusedattn {

struct Range {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t size() const { return end - begin; }
  bool empty() const { return end <= begin; }
};

inline Range meet(Range a, Range b) { return {std::max(a.begin, b.begin), std::min(a.end, b.end)}; }

// Row i sees columns i - left ... i + right. An edge of kUnbounded hides nothing; sums of edges and positions cannot overflow.
constexpr std::int64_t kUnbounded = std::int64_t{1} << 60;
struct Band {
  std::int64_t left = kUnbounded;
  std::int64_t right = kUnbounded;
  bool nowhere() const { return left + right < 0; }
  bool operator==(const Band&) const = default;
};

// One byte per (sequence, query head, row, column); strides in bytes.
struct Bytes {
  const std::uint8_t* data = nullptr;
  std::int64_t batch_stride = 0;
  std::int64_t head_stride = 0;
  std::int64_t row_stride = 0;
  bool nonzero_hides = true;
  bool operator==(const Bytes&) const = default;
};

struct Mask {
  Band top_left;
  Band bottom_right;
  Bytes bytes;
  bool operator==(const Mask&) const = default;
};

// The two bands of a mask as one, for a sequence of these lengths.
inline Band band_of(const Mask& mask, std::int64_t q_len, std::int64_t kv_len) {
  const std::int64_t shift = kv_len - q_len;
  return {std::min(mask.top_left.left, mask.bottom_right.left - shift),
          std::min(mask.top_left.right, mask.bottom_right.right + shift)};
}

// The columns that at least one row of `rows` may see. A band is monotone, so the first and the last row decide.
inline Range columns_of_rows(const Band& band, Range rows, std::int64_t kv_len) {
  if (band.nowhere() || rows.empty()) return {};
  return meet({rows.begin - band.left, rows.end + band.right}, {0, kv_len});
}

// The rows that see at least one column of `columns`.
inline Range rows_of_columns(const Band& band, Range columns, std::int64_t q_len) {
  if (band.nowhere() || columns.empty()) return {};
  return meet({columns.begin - band.right, columns.end + band.left}, {0, q_len});
}

}  // namespace fusedattn
