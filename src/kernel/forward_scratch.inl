// What the lines of an item have summed so far, with exponentials over a reference of each line.
struct ForwardSums {
  float *out, *row_max, *row_sum, *reference;
  bool* begun;  // of every strip of lines: whether out holds anything yet
  std::int64_t ld_out;

  // Makes the sum of a line one over its largest score, whose exponential is 1 of it. Returns by how much what was accumulated shrinks.
  [[gnu::noinline]] float to_top(std::int64_t line, float exponent) const {
    const float shrink = exp2((reference[line] - row_max[line]) * exponent);
    row_sum[line] = std::max(row_sum[line] * shrink, 1.0f);
    return shrink;
  }

  // Makes sums and largest scores of lines what callers get: natural, and with the sink; of a line that saw nothing, none and -none. Returns what the
  // output of each line is to be multiplied by.
  const float* complete(Range lines, const Scaling& scaling, float sink, float factor, float none) const {
    for (std::int64_t line = lines.begin; line < lines.end; ++line) {
      float shrink = reference[line] == row_max[line] ? factor : factor * to_top(line, scaling.exponent);
      row_max[line] *= scaling.unit;
      if (sink != -kInfinity) shrink *= add_sink(sink, row_max[line], row_sum[line]);
      const bool nothing = row_sum[line] == 0.0f;
      reference[line] = nothing ? 0.0f : shrink / row_sum[line];
      if (nothing) row_max[line] = 0.0f - none, row_sum[line] = none;
    }
    return reference;
  }

  // What others have summed of a line.
  void add(const ForwardSums& other, std::int64_t line, float exponent) {
    const float top = std::max(reference[line], other.reference[line]), finite = reference_of(top);
    const float own = exp2((reference[line] - finite) * exponent), others = exp2((other.reference[line] - finite) * exponent);
    reference[line] = top;
    row_max[line] = std::max(row_max[line], other.row_max[line]);
    row_sum[line] = row_sum[line] * own + other.row_sum[line] * others;
    float* const to = out + line * ld_out;
    const float* const from = other.out + line * ld_out;
    for (std::int64_t d = 0; d < ld_out; d += kLanes) {
      const F32 x = mul(load(from + d), broadcast(others));
      store(to + d, begun[line / kStripRows] ? fma(load(to + d), broadcast(own), x) : x);
    }
  }
};

// What the forward of an item keeps besides: sizes of tile and panels, and the pieces of scratch.
struct ForwardScratch {
  float *q, *keys, *values, *scores;
  float *tops, *shrink;  // of a tile's rows: the largest scores now, and by how much what was accumulated shrinks
  Running running;       // of what was finished in registers
  float* distances;
  std::uint16_t* words;
  Seen* seen;
  Range *hulls, *finished;  // of strips of rows: what they see, and the panels at its beginning that were finished in registers
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
    s.reference = arena.take<float>(lines);
    s.begun = arena.take<bool>(strips());
    s.ld_out = ld_out;
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
    s.running = {arena.take<float>(tile.rows * kLanes), arena.take<float>(tile.rows * 2 * kLanes)};
    s.distances = arena.take<float>(has_distances ? ScoreTerms::distances(lines, tile.cols) : 0);
    s.words = arena.take<std::uint16_t>(drops ? Keeping::room(tile.cols) : 0);
    s.seen = arena.take<Seen>(tile.rows);
    s.hulls = arena.take<Range>(tile.rows / kStripRows + 1);
    s.finished = arena.take<Range>(tile.rows / kStripRows + 1);
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
