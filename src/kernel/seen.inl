// What a mask says about one row and one block of columns: an interval, and whether there are holes in it.
struct Seen {
  Range columns;  // relative to the block; empty if the row sees nothing there
  bool holes = false;
};

constexpr std::uint64_t kLowBits = 0x0101010101010101u, kHighBits = 0x8080808080808080u;

FUSEDATTN_INLINE bool shows(std::uint8_t byte, bool nonzero_hides) { return (byte != 0) != nonzero_hides; }

// Whether all of a chunk of bytes are hidden, or all are shown. The compiler makes vectors of the loop.
constexpr std::int64_t kChunk = 128;
template <bool kZero>
FUSEDATTN_INLINE bool chunk_is(const std::uint8_t* bytes) {
  std::uint8_t other = 0;
  for (std::int64_t n = 0; n < kChunk; ++n) other = static_cast<std::uint8_t>(other | (kZero ? bytes[n] : bytes[n] == 0));
  return other == 0;
}

// Tightens an interval to the shown bytes at its ends, then looks for hidden ones between them: chunks first, then eight at a time.
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
  const auto chunk_hidden = [&](std::int64_t j) { return nonzero_hides ? chunk_is<false>(bytes + j) : chunk_is<true>(bytes + j); };
  const auto chunk_shown = [&](std::int64_t j) { return nonzero_hides ? chunk_is<true>(bytes + j) : chunk_is<false>(bytes + j); };
  while (begin + kChunk <= end && chunk_hidden(begin)) begin += kChunk;
  while (begin + 8 <= end && all_hidden(word_at(begin))) begin += 8;
  while (begin < end && !shows(bytes[begin], nonzero_hides)) ++begin;
  while (begin + kChunk <= end && chunk_hidden(end - kChunk)) end -= kChunk;
  while (begin + 8 <= end && all_hidden(word_at(end - 8))) end -= 8;
  while (begin < end && !shows(bytes[end - 1], nonzero_hides)) --end;
  std::int64_t j = begin;
  while (j + kChunk <= end && chunk_shown(j)) j += kChunk;
  while (j + 8 <= end && all_shown(word_at(j))) j += 8;
  while (j < end && shows(bytes[j], nonzero_hides)) ++j;
  return {{begin, end}, j < end};
}

// What a row of one sequence and head sees of a block; row and block are positions in the sequence.
inline Seen seen_by(const Problem& p, const Sequence& seq, const Sight& sight, std::int64_t b, std::int64_t head, std::int64_t row, Range block) {
  Range inside = meet(sight.columns({row, row + 1}, block.end), block);
  const std::uint8_t* bytes = bytes_of(p, seq, b, head, row, block.begin);
  bool holes = false;
  if (bytes != nullptr) {
    const RowSight& shown = sight_of_row(p, seq, b, head, row);
    inside = meet(inside, {shown.begin, shown.end}), holes = shown.holes;
  }
  if (inside.empty()) return {};
  const Range columns{inside.begin - block.begin, inside.end - block.begin};
  if (!holes) return {columns};
  const Seen seen = seen_through(bytes, p.mask.bytes.nonzero_hides, columns);
  return seen.columns.empty() ? Seen{} : seen;
}

// The columns that any of a strip's rows sees.
inline Range hull_of(const Seen* rows, std::int64_t count) {
  Range hull;
  for (std::int64_t i = 0; i < count; ++i) {
    const Range& columns = rows[i].columns;
    if (columns.empty()) continue;
    hull = hull.empty() ? columns : Range{std::min(hull.begin, columns.begin), std::max(hull.end, columns.end)};
  }
  return hull;
}

// The columns that all of a strip's rows see, without holes.
inline Range seen_by_all(const Seen* rows, std::int64_t count) {
  Range all = rows[0].columns;
  for (std::int64_t i = 0; i < count; ++i) all = rows[i].holes ? Range{} : meet(all, rows[i].columns);
  return all;
}

// What a row sees inside its strip's hull; an empty place there if that is nothing.
FUSEDATTN_INLINE Range seen_inside(const Seen& row, Range hull) { return row.columns.empty() ? Range{hull.begin, hull.begin} : row.columns; }

// Rows of heads, one head after another: line l is row l % rows.size() of head l / rows.size().
struct Lines {
  std::int64_t first_head;
  Range rows;
  std::int64_t head(std::int64_t line) const { return first_head + line / rows.size(); }
  std::int64_t row(std::int64_t line) const { return rows.begin + line % rows.size(); }
  // The rows that some lines are; all of them if these lie in several heads.
  Range rows_of(Range lines) const {
    const std::int64_t first = lines.begin % rows.size(), last = first + lines.size();
    return last <= rows.size() ? Range{rows.begin + first, rows.begin + last} : rows;
  }
};

// Whether any of some lines sees anything of a block, and whether anything is hidden from any of them.
struct Looked {
  bool any, hides;
};

// Finds out what lines see of a block, and what the strips of them do.
inline Looked look(const Problem& p, const Sequence& seq, const Sight& sight, std::int64_t b, const Lines& all, Range lines, Range block, Seen* seen, Range* hulls) {
  const Range whole{0, block.size()}, common = sight.common(all.rows_of(lines), seq.kv_len);
  if (p.mask.bytes.data == nullptr && common.begin <= block.begin && common.end >= block.end) {
    std::fill(seen, seen + lines.size(), Seen{whole});
    std::fill(hulls, hulls + strips_of(lines.size()), whole);
    return {true, false};
  }
  Looked looked{false, false};
  for (std::int64_t i = 0; i < lines.size(); ++i) {
    const std::int64_t line = lines.begin + i;
    seen[i] = seen_by(p, seq, sight, b, all.head(line), all.row(line), block);
    const Range columns = seen[i].columns;
    looked.any = looked.any || !columns.empty();
    looked.hides = looked.hides || seen[i].holes || columns.begin > 0 || columns.end < whole.end;
  }
  for (std::int64_t i = 0; i < lines.size(); i += kStripRows)
    hulls[i / kStripRows] = hull_of(seen + i, std::min<std::int64_t>(kStripRows, lines.size() - i));
  return looked;
}

// The sights of some of the rows that have bytes of their own, each of `cols` bytes.
inline void look_at_bytes(const LookItem& item) {
  for (std::int64_t i = 0; i < item.rows; ++i) {
    const Seen seen = seen_through(item.bytes + i * item.row_stride, item.nonzero_hides, {0, item.cols});
    item.sights[i] = {static_cast<std::int32_t>(seen.columns.begin), static_cast<std::int32_t>(seen.columns.end), seen.holes};
  }
}

// Replaces the scores that the bytes of a row hide; `bytes` at the first column of the block.
inline void hide_holes(float* s, const std::uint8_t* bytes, bool nonzero_hides, Range columns, float hidden) {
  std::int64_t j = columns.begin;
  for (; j + kLanes <= columns.end; j += kLanes) store(s + j, hide(load(s + j), bytes + j, nonzero_hides, broadcast(hidden)));
  for (; j < columns.end; ++j)
    if (!shows(bytes[j], nonzero_hides)) s[j] = hidden;
}

// A hull from the beginning of a panel to the end of a vector: what products with keys compute and the softmax works on.
FUSEDATTN_INLINE Range whole_vectors(Range hull) { return {hull.begin / kPanel * kPanel, round_up(hull.end, kLanes)}; }
