// What the lines of an item have summed so far.
struct ForwardSums {
  float *out, *row_max, *row_sum;
  bool* begun;  // of every strip of lines: whether out holds anything yet
};

// What the forward of an item keeps besides: sizes of tile and panels, and the pieces of scratch.
struct ForwardScratch {
  float *q, *keys, *values, *scores;
  float *tops, *shrink;  // of a tile's rows: the largest scores now, and by how much what was accumulated shrinks
  float* distances;
  std::uint16_t* words;
  Seen* seen;
  Range* hulls;
};

template <class Mac>
struct ForwardSizes {
  std::int64_t lines, q_words, ld_q, ld_out, value_panels;
  Tile tile;
  bool has_distances, drops;
  ForwardSizes(const Problem& p, Tile tile_, std::int64_t lines_)
      : lines(lines_),
        q_words(words<Mac>(p.dim)),
        ld_q(leading(q_words)),
        ld_out(leading(p.dim_v)),
        value_panels(round_up(p.dim_v, kPanel) / kPanel),
        tile(tile_),
        has_distances(p.alibi.slopes != nullptr),
        drops(p.dropout.active()) {}
  std::int64_t ld_scores() const { return leading(tile.cols); }
  std::int64_t key_panel() const { return q_words * kPanel; }
  std::int64_t value_panel() const { return words<Mac>(tile.cols) * kPanel; }
  std::int64_t strips() const { return (lines + kStripRows - 1) / kStripRows; }

  ForwardSums lay_sums(Arena& arena) const {
    ForwardSums s;
    s.out = arena.take<float>(lines * ld_out);
    s.row_max = arena.take<float>(lines);
    s.row_sum = arena.take<float>(lines);
    s.begun = arena.take<bool>(strips());
    return s;
  }

  ForwardScratch lay(Arena& arena) const {
    ForwardScratch s;
    s.q = arena.take<float>(std::max(lines, kNarrowLines) * ld_q);
    s.keys = arena.take<float>(tile.cols / kPanel * key_panel());
    s.values = arena.take<float>(value_panels * value_panel());
    s.scores = arena.take<float>(tile.rows * ld_scores());
    s.tops = arena.take<float>(tile.rows + kLanes);
    s.shrink = arena.take<float>(tile.rows + kLanes);
    s.distances = arena.take<float>(has_distances ? ScoreTerms::distances(lines, tile.cols) : 0);
    s.words = arena.take<std::uint16_t>(drops ? Keeping::room(tile.cols) : 0);
    s.seen = arena.take<Seen>(tile.rows);
    s.hulls = arena.take<Range>(tile.rows / kStripRows + 1);
    return s;
  }
};

// Columns of a block: keys and values take at most kBlockBytes, so that they stay in the second-level cache while all lines pass. Where
// those would be fewer than 256 columns, 512 are faster although they come from the third level: each visit of a block costs what it costs,
// and a panel is read once per tile (1.02 to 1.06 times at D = 256 to 768 on Zen 3). Rows of a tile: see the lane's kTileStrips, and more
// of them where there are fewer columns.
template <class Mac>
Tile forward_tile_of(const Problem& p) {
  constexpr std::int64_t kUnit = std::max<std::int64_t>(kPanel, 64), kMost = 512;
  const std::int64_t column_bytes = 4 * (words<Mac>(p.dim) + (p.dim_v + Mac::kDepth - 1) / Mac::kDepth);
  const std::int64_t fitting = kBlockBytes / column_bytes / kUnit * kUnit;
  const std::int64_t cols = std::min({fitting < 256 ? kMost : fitting, kMost, round_up(std::max<std::int64_t>(p.kv_len, 1), kUnit)});
  return {kStripRows * std::max<std::int64_t>(kTileStrips, kTileStrips * 256 / cols), cols};
}

// Narrow items (see narrow.inl) pack nothing; their blocks are as wide as the scores of eight lines are comfortable in the first-level cache.
template <class Mac>
Tile narrow_tile_of(const Problem& p) {
  const Tile tile = forward_tile_of<Mac>(p);
  return {tile.rows, std::min<std::int64_t>(tile.cols, 256)};
}
