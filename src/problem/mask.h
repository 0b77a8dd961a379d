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
  bool operator==(const Range&) const = default;
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

// What the bytes show to a row: nothing outside an interval of columns, and inside it all, unless there are holes.
struct RowSight {
  std::int32_t begin, end;
  bool holes;
};

// One for each row that has bytes of its own; strides in elements, 0 repeats.
struct RowSights {
  const RowSight* data = nullptr;
  std::int64_t batch_stride = 0;
  std::int64_t head_stride = 0;
  std::int64_t row_stride = 0;
  bool operator==(const RowSights&) const = default;
};

// One byte per (sequence, query head, row, column); strides in bytes.
struct Bytes {
  const std::uint8_t* data = nullptr;
  std::int64_t batch_stride = 0;
  std::int64_t head_stride = 0;
  std::int64_t row_stride = 0;
  bool nonzero_hides = true;
  bool whole = false;  // packed: positions are those of the packed tensors, not of the sequence
  RowSights sights;    // found out before the kernels run
  bool operator==(const Bytes&) const = default;
};

struct Mask {
  Band top_left;
  Band bottom_right;
  const Band* bands = nullptr;           // one more per sequence, from the top left
  const std::int64_t* prefix = nullptr;  // per sequence; only with bands unbounded to the left
  Bytes bytes;
  bool operator==(const Mask&) const = default;
};

// What the bands and the prefix of a mask show in one sequence: to every row an interval of columns.
struct Sight {
  Band band;
  std::int64_t prefix = 0;

  // The columns that at least one row of `rows` may see. A band is monotone, so the first and the last row decide.
  Range columns(Range rows, std::int64_t kv_len) const {
    if (rows.empty()) return {};
    const Range seen = band.nowhere() ? Range{} : meet({rows.begin - band.left, rows.end + band.right}, {0, kv_len});
    if (prefix == 0) return seen;
    return {0, std::min(kv_len, std::max(seen.end, prefix))};
  }

  // The columns that all of `rows` see.
  Range common(Range rows, std::int64_t kv_len) const {
    if (rows.empty() || band.nowhere()) return {0, std::min(kv_len, prefix)};
    const Range seen = meet({rows.end - 1 - band.left, rows.begin + 1 + band.right}, {0, kv_len});
    if (prefix == 0) return seen;
    return {0, std::min(kv_len, std::max(seen.end, prefix))};
  }

  // The rows that see at least one column of `columns`.
  Range rows(Range columns, std::int64_t q_len) const {
    if (columns.empty()) return {};
    if (columns.begin < prefix) return {0, q_len};
    return band.nowhere() ? Range{} : meet({columns.begin - band.right, columns.end + band.left}, {0, q_len});
  }
};

// The sight of sequence b, which has these lengths.
inline Sight sight_of(const Mask& mask, std::int64_t b, std::int64_t q_len, std::int64_t kv_len) {
  const std::int64_t shift = kv_len - q_len;
  const auto clamped = [](std::int64_t edge) { return std::clamp(edge, -kUnbounded, kUnbounded); };
  const Band own = mask.bands ? Band{clamped(mask.bands[b].left), clamped(mask.bands[b].right)} : Band{};
  return {{std::min({mask.top_left.left, mask.bottom_right.left - shift, own.left}),
           std::min({mask.top_left.right, mask.bottom_right.right + shift, own.right})},
          mask.prefix ? mask.prefix[b] : 0};
}

}  // namespace fusedattn
