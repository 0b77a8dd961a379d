// What a mask says about one row and one block of columns: an interval, and whether there are holes in it.
struct Seen {
  Range columns;  // relative to the block; empty if the row sees nothing there
  bool holes = false;
};

constexpr std::uint64_t kLowBits = 0x0101010101010101u, kHighBits = 0x8080808080808080u;

FUSEDATTN_INLINE bool shows(std::uint8_t byte, bool nonzero_hides) { return (byte != 0) != nonzero_hides; }

// Tightens an interval to the shown bytes at its ends, then looks for hidden ones between them, eight bytes at a time.
inline Seen seen_through(const std::uint8_t* bytes, bool nonzero_hides, Range columns) {
  const std::uint64_t nothing_shown = nonzero_hides ? ~std::uint64_t{0} : 0;
  std::int64_t begin = columns.begin, end = columns.end;
  const auto word_at = [bytes](std::int64_t j) {
    std::uint64_t word;
    std::memcpy(&word, bytes + j, sizeof word);
    return word;
  };
  const auto has_zero = [](std::uint64_t word) { return ((word - kLowBits) & ~word & kHighBits) != 0; };
  const auto all_hidden = [&](std::uint64_t word) { return nothing_shown ? !has_zero(word) : word == 0; };
  const auto all_shown = [&](std::uint64_t word) { return nothing_shown ? word == 0 : !has_zero(word); };
  while (begin + 8 <= end && all_hidden(word_at(begin))) begin += 8;
  while (begin < end && !shows(bytes[begin], nonzero_hides)) ++begin;
  while (begin + 8 <= end && all_hidden(word_at(end - 8))) end -= 8;
  while (begin < end && !shows(bytes[end - 1], nonzero_hides)) --end;
  std::int64_t j = begin;
  while (j + 8 <= end && all_shown(word_at(j))) j += 8;
  while (j < end && shows(bytes[j], nonzero_hides)) ++j;
  return {{begin, end}, j < end};
}

// `row` and `block` are positions in the sequence; `bytes`, if any, are those of the row, from the block's first column on.
FUSEDATTN_INLINE Seen seen_by(const Sight& sight, const std::uint8_t* bytes, bool nonzero_hides, std::int64_t row, Range block) {
  const Range inside = meet(sight.columns({row, row + 1}, block.end), block);
  if (inside.empty()) return {};
  const Range columns{inside.begin - block.begin, inside.end - block.begin};
  if (bytes == nullptr) return {columns};
  const Seen seen = seen_through(bytes, nonzero_hides, columns);
  return seen.columns.empty() ? Seen{} : seen;
}

// Replaces the scores that the bytes of a row hide; `bytes` at the first column of the block.
inline void hide_holes(float* s, const std::uint8_t* bytes, bool nonzero_hides, Range columns, float hidden) {
  std::int64_t j = columns.begin;
  for (; j + kLanes <= columns.end; j += kLanes) store(s + j, hide(load(s + j), bytes + j, nonzero_hides, broadcast(hidden)));
  for (; j < columns.end; ++j)
    if (!shows(bytes[j], nonzero_hides)) s[j] = hidden;
}

// The columns that any of a strip's rows sees, widened to whole panels.
inline Range hull_of(const Seen* rows, std::int64_t count) {
  Range hull;
  for (std::int64_t i = 0; i < count; ++i) {
    const Range& columns = rows[i].columns;
    if (columns.empty()) continue;
    hull = hull.empty() ? columns : Range{std::min(hull.begin, columns.begin), std::max(hull.end, columns.end)};
  }
  return {hull.begin / kPanel * kPanel, round_up(hull.end, kPanel)};
}

// The hull of every strip.
inline void hulls_of(const Seen* seen, std::int64_t rows, Range* hulls) {
  for (std::int64_t i = 0; i < rows; i += kStripRows)
    hulls[i / kStripRows] = hull_of(seen + i, std::min<std::int64_t>(kStripRows, rows - i));
}
