// Attention of the query heads that share a key head, for a range of rows against all columns.
//
//   for each block of columns:   pack keys (transposed) and values once
//     for each tile of lines:    S = Q K^T      P, shrink = softmax(S)      O = O * shrink + P V
//   out = O / sum
//
// A line is a row of one of the heads; lines of all heads lie one after another, so that even a single row per head makes
// full strips. Each strip multiplies only with the columns that one of its rows sees: what a mask empties is never computed.
struct ForwardScratch {
  float *q, *out, *keys, *values, *scores, *row_max, *row_sum;
  Seen* seen;
  Range* hulls;
};

constexpr std::int64_t kDepthChunk = 256;  // words of depth in one pass: a panel of keys then fits the first-level cache

template <class Mac>
struct ForwardSizes {
  std::int64_t lines, q_words, ld_q, ld_out, value_panels;
  Tile tile;
  ForwardSizes(const Problem& p, Tile tile_, std::int64_t lines_)
      : lines(lines_),
        q_words(words<Mac>(p.dim)),
        ld_q(leading(q_words)),
        ld_out(leading(p.dim_v)),
        value_panels(round_up(p.dim_v, kPanel) / kPanel),
        tile(tile_) {}
  std::int64_t ld_scores() const { return leading(tile.cols); }
  std::int64_t key_panel() const { return q_words * kPanel; }
  std::int64_t value_panel() const { return words<Mac>(tile.cols) * kPanel; }

  ForwardScratch lay(Arena& arena) const {
    ForwardScratch s;
    s.q = arena.take<float>(lines * ld_q);
    s.out = arena.take<float>(lines * ld_out);
    s.keys = arena.take<float>(tile.cols / kPanel * key_panel());
    s.values = arena.take<float>(value_panels * value_panel());
    s.scores = arena.take<float>(tile.rows * ld_scores());
    s.row_max = arena.take<float>(lines);
    s.row_sum = arena.take<float>(lines);
    s.seen = arena.take<Seen>(tile.rows);
    s.hulls = arena.take<Range>(tile.rows / kStripRows + 1);
    return s;
  }
};

// Columns of a block: keys and values take at most kBlockBytes, so that they stay in the second-level cache while all lines
// pass. Rows of a tile: see the lane's kTileStrips.
template <class Mac>
Tile forward_tile_of(const Problem& p) {
  const std::int64_t column_bytes = 4 * (words<Mac>(p.dim) + (p.dim_v + Mac::kDepth - 1) / Mac::kDepth);
  const std::int64_t unit = std::max<std::int64_t>(kPanel, 64);
  const std::int64_t cols = std::clamp<std::int64_t>(kBlockBytes / column_bytes / unit * unit, unit, 512);
  return {kTileStrips * kStripRows, cols};
}

// One block of columns, packed.
template <class T, class Mac>
void pack_block(const Problem& p, const ForwardItem& item, const Sequence& seq, const ForwardSizes<Mac>& sizes, Range block,
                const ForwardScratch& s) {
  const T* k = reinterpret_cast<const T*>(row_of(p, p.k, item.b, item.kv_head, seq.kv_begin + block.begin));
  const T* v = reinterpret_cast<const T*>(row_of(p, p.v, item.b, item.kv_head, seq.kv_begin + block.begin));
  pack_transposed<Mac>(k, p.k.row_stride, block.size(), p.dim, s.keys, sizes.key_panel());
  const Panels values{s.values, kPanel, sizes.value_panel()};
  pack_pairs<Mac>(v, p.v.row_stride, block.size(), p.dim_v, values);
  pad_pairs<Mac>(block.size(), round_up(block.size(), kPanel), p.dim_v, values);
}

// S = Q K^T for a tile of lines: every panel of keys meets the strips that see one of its columns.
template <class Mac>
void score_tile(const ForwardSizes<Mac>& sizes, const ForwardScratch& s, const float* q, Range lines) {
  const std::int64_t strips = (lines.size() + kStripRows - 1) / kStripRows;
  std::int64_t last = 0;
  for (std::int64_t t = 0; t < strips; ++t) last = std::max(last, s.hulls[t].end);
  for (std::int64_t w = 0; w < sizes.q_words; w += kDepthChunk) {
    const std::int64_t depth = std::min(kDepthChunk, sizes.q_words - w);
    for (std::int64_t j = 0; j < last; j += kPanel) {
      const float* panel = s.keys + j / kPanel * sizes.key_panel() + w * kPanel;
      for (std::int64_t t = 0; t < strips; ++t) {
        if (j < s.hulls[t].begin || j >= s.hulls[t].end) continue;
        const std::int64_t line = t * kStripRows, rows = std::min<std::int64_t>(kStripRows, lines.size() - line);
        kTiles<Mac, false>.of[rows - 1][kPanelVectors - 1](q + line * sizes.ld_q + w, sizes.ld_q, panel, kPanel,
                                                           s.scores + line * sizes.ld_scores() + j, sizes.ld_scores(),
                                                           depth, w > 0);
      }
    }
  }
}

// O += P V for a tile of lines: every panel of values meets the strips, each with the columns it sees.
template <class Mac>
void value_tile(const Problem& p, const ForwardSizes<Mac>& sizes, const ForwardScratch& s, Range lines) {
  const Panels values{s.values, kPanel, sizes.value_panel()};
  const std::int64_t strips = (lines.size() + kStripRows - 1) / kStripRows;
  for (std::int64_t d = 0; d < p.dim_v; d += kPanel) {
    const std::int64_t vectors = (std::min(kPanel, p.dim_v - d) + kLanes - 1) / kLanes;
    for (std::int64_t t = 0; t < strips; ++t) {
      const Range depth{s.hulls[t].begin / Mac::kDepth, s.hulls[t].end / Mac::kDepth};
      if (depth.empty()) continue;
      const std::int64_t line = t * kStripRows, rows = std::min<std::int64_t>(kStripRows, lines.size() - line);
      kTiles<Mac, false>.of[rows - 1][vectors - 1](s.scores + line * sizes.ld_scores() + depth.begin, sizes.ld_scores(),
                                                   values.at(depth.begin, d), kPanel,
                                                   s.out + (lines.begin + line) * sizes.ld_out + d, sizes.ld_out,
                                                   depth.size(), true);
    }
  }
}

// What each line of a tile sees of a block; false if nothing.
inline bool look(const Problem& p, const ForwardItem& item, const Sequence& seq, Range block, Range lines,
                 const ForwardScratch& s) {
  const Band band = band_of(p.mask, seq.q_len, seq.kv_len);
  bool any = false;
  for (std::int64_t i = 0; i < lines.size(); ++i) {
    const std::int64_t line = lines.begin + i, head = item.kv_head * p.group() + line / item.rows.size();
    const std::int64_t row = item.rows.begin + line % item.rows.size();
    s.seen[i] = seen_by(band, bytes_of(p, item.b, head, row), p.mask.bytes.nonzero_hides, row, block);
    any = any || !s.seen[i].columns.empty();
  }
  for (std::int64_t i = 0; i < lines.size(); i += kStripRows)
    s.hulls[i / kStripRows] = hull_of(s.seen + i, std::min<std::int64_t>(kStripRows, lines.size() - i));
  return any;
}

template <class Mac>
void softmax_tile(const Problem& p, const ForwardItem& item, const ForwardSizes<Mac>& sizes, Range block, Range lines,
                  float exponent, const ForwardScratch& s) {
  for (std::int64_t i = 0; i < lines.size(); ++i) {
    const Range hull = s.hulls[i / kStripRows];
    if (hull.empty()) continue;
    const std::int64_t line = lines.begin + i;
    float* scores = s.scores + i * sizes.ld_scores();
    Range seen = s.seen[i].columns;
    if (seen.empty()) seen = {hull.begin, hull.begin};
    if (s.seen[i].holes) {
      const std::int64_t head = item.kv_head * p.group() + line / item.rows.size();
      const std::uint8_t* bytes = bytes_of(p, item.b, head, item.rows.begin + line % item.rows.size());
      hide_holes(scores, bytes + block.begin, p.mask.bytes.nonzero_hides, seen, -kInfinity);
    }
    const float shrink = softmax_row<Mac>(scores, hull, seen, exponent, s.row_max[line], s.row_sum[line]);
    if (shrink != 1.0f) multiply_row(s.out + line * sizes.ld_out, round_up(p.dim_v, kLanes), shrink);
  }
}

template <class T>
FUSEDATTN_INLINE void store_scaled(T* to, const float* from, std::int64_t n, float factor) {
  std::int64_t d = 0;
  for (; d + kLanes <= n; d += kLanes) store(to + d, mul(load(from + d), broadcast(factor)));
  if (d < n) store_some(to + d, mul(load(from + d), broadcast(factor)), n - d);
}

// out = O / sum and the statistics; a line that saw nothing gets 0, the lowest and the largest float.
template <class T>
void finish_line(const Problem& p, std::int64_t b, std::int64_t head, std::int64_t row, const float* out, float row_max,
                 float row_sum, float rest) {
  const bool nothing = row_sum == 0.0f;
  T* to = reinterpret_cast<T*>(row_of(p, p.out, b, head, row));
  store_scaled(to, out, p.dim_v, nothing ? 0.0f : 1.0f / row_sum);
  const std::int64_t at = stats_offset(p, b, head, row);
  if (p.stats.max != nullptr) p.stats.max[at] = nothing ? -FLT_MAX : row_max * rest;
  if (p.stats.sum != nullptr) p.stats.sum[at] = nothing ? FLT_MAX : row_sum;
}

template <class T, class Mac>
void start_lines(const Problem& p, const ForwardItem& item, const Sequence& seq, const ForwardSizes<Mac>& sizes, float sign,
                 const ForwardScratch& s) {
  for (std::int64_t g = 0; g < p.group(); ++g) {
    const std::int64_t head = item.kv_head * p.group() + g;
    const T* q = reinterpret_cast<const T*>(row_of(p, p.q, item.b, head, seq.q_begin + item.rows.begin));
    pack_rows<Mac>(q, p.q.row_stride, item.rows.size(), p.dim, s.q + g * item.rows.size() * sizes.ld_q, sizes.ld_q);
  }
  if (sign != 1.0f) Mac::multiply_words(s.q, sizes.lines * sizes.ld_q, sign);
  std::fill(s.out, s.out + sizes.lines * sizes.ld_out, 0.0f);
  std::fill(s.row_max, s.row_max + sizes.lines, -kInfinity);
  std::fill(s.row_sum, s.row_sum + sizes.lines, 0.0f);
}

template <class T, class Mac>
void forward(const Problem& p, const ForwardItem& item, void* scratch) {
  const Sequence seq = sequence(p, item.b);
  const std::int64_t lines = item.rows.size() * p.group();
  const ForwardSizes<Mac> sizes(p, forward_tile_of<Mac>(p), lines);
  Arena arena(scratch);
  const ForwardScratch s = sizes.lay(arena);
  const Scaling scaling(p.scale);
  start_lines<T>(p, item, seq, sizes, scaling.sign, s);

  const Range visible = columns_of_rows(band_of(p.mask, seq.q_len, seq.kv_len), item.rows, seq.kv_len);
  for (std::int64_t j = visible.begin / sizes.tile.cols * sizes.tile.cols; j < visible.end; j += sizes.tile.cols) {
    const Range block{j, std::min(j + sizes.tile.cols, seq.kv_len)};
    bool packed = false;
    for (std::int64_t line = 0; line < lines; line += sizes.tile.rows) {
      const Range tile{line, std::min(line + sizes.tile.rows, lines)};
      if (!look(p, item, seq, block, tile, s)) continue;
      if (!packed) pack_block<T>(p, item, seq, sizes, block, s);
      packed = true;
      score_tile(sizes, s, s.q + tile.begin * sizes.ld_q, tile);
      softmax_tile(p, item, sizes, block, tile, scaling.exponent, s);
      value_tile(p, sizes, s, tile);
    }
  }

  for (std::int64_t line = 0; line < lines; ++line) {
    const std::int64_t head = item.kv_head * p.group() + line / item.rows.size();
    const std::int64_t row = seq.q_begin + item.rows.begin + line % item.rows.size();
    finish_line<T>(p, item.b, head, row, s.out + line * sizes.ld_out, s.row_max[line], s.row_sum[line], scaling.rest);
  }
}
