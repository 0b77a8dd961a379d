// How far scores may rise above their reference, in powers of two.
constexpr float kSlack = 24.0f;

// Lines, as many at a time as a vector has lanes: `step` takes the first and their number.
template <class Step>
FUSEDATTN_INLINE void by_vectors(Range lines, const Step& step) {
  for (std::int64_t line = lines.begin; line < lines.end; line += kLanes) step(line, std::min<std::int64_t>(kLanes, lines.end - line));
}

// What the lines of an item have summed so far, with exponentials over a reference of each line.
struct ForwardSums {
  float *out, *row_max, *row_sum, *reference;
  bool* begun;  // of every strip of lines: whether out holds anything yet
  std::int64_t ld_out;

  void start(std::int64_t lines) const {
    std::fill(begun, begun + strips_of(lines), false);
    std::fill(row_max, row_max + lines, -kInfinity);
    std::fill(reference, reference + lines, -kInfinity);
    std::fill(row_sum, row_sum + lines, 0.0f);
  }

  // The largest scores of some lines become those of `lanes`, a vector each. References rise to those where they must, and sums shrink then; `by` is by how
  // much what was accumulated must. A reference of -inf always rises, be it to -inf.
  void raise_references(const float* lanes, Range lines, float exponent, float* by) const {
    const F32 factor = broadcast(exponent), slack = broadcast(std::min(kSlack / exponent, FLT_MAX));
    by_vectors(lines, [&](std::int64_t line, std::int64_t count) {
      const F32 top = across_lanes(Max{}, lanes + (line - lines.begin) * kLanes), old = load_some(reference + line, count);
      const F32 raised = choose_at_most(sub(top, old), slack, old, top);
      F32 shrink[1] = {mul(sub(old, reference_of(raised)), factor)};
      exp2(shrink);
      store(by + (line - lines.begin), shrink[0]);
      store_some(row_max + line, top, count);
      store_some(reference + line, raised, count);
      store_some(row_sum + line, mul(load_some(row_sum + line, count), shrink[0]), count);
    });
  }

  // What some lines have summed since, a vector each.
  void add_lanes(const float* lanes, Range lines) const {
    by_vectors(lines, [&](std::int64_t line, std::int64_t count) {
      const F32 sum = across_lanes(Add{}, lanes + (line - lines.begin) * kLanes);
      store_some(row_sum + line, add(load_some(row_sum + line, count), sum), count);
    });
  }

  void shrink(Range lines, const float* by, std::int64_t width) const {
    for (std::int64_t line = lines.begin; line < lines.end; ++line, ++by)
      if (*by != 1.0f && begun[line / kStripRows]) multiply_row(out + line * ld_out, width, *by);
  }

  // Makes sums and largest scores of lines what callers get: natural, and with the sink; of a line that saw nothing, none and -none. Returns what the
  // output of each line is to be multiplied by.
  const float* complete(Range lines, const Scaling& scaling, float sink, float factor, float none) const {
    to_top(lines, scaling);
    if (sink != -kInfinity)
      for (std::int64_t line = lines.begin; line < lines.end; ++line) reference[line] *= add_sink(sink, row_max[line], row_sum[line]);
    by_vectors(lines, [&](std::int64_t line, std::int64_t count) {
      const F32 sum = load_some(row_sum + line, count), shrink = load_some(reference + line, count), top = load_some(row_max + line, count);
      store_some(reference + line, choose_at_most(sum, zero(), zero(), div(mul(shrink, broadcast(factor)), sum)), count);
      store_some(row_max + line, choose_at_most(sum, zero(), broadcast(0.0f - none), top), count);
      store_some(row_sum + line, choose_at_most(sum, zero(), broadcast(none), sum), count);
    });
    return reference;
  }

  // Makes sums those over the largest scores, of which the exponential is 1, and these natural. References become by how much what was accumulated shrinks.
  void to_top(Range lines, const Scaling& scaling) const {
    by_vectors(lines, [&](std::int64_t line, std::int64_t count) {
      const F32 top = load_some(row_max + line, count), old = load_some(reference + line, count), sum = load_some(row_sum + line, count);
      F32 by[1] = {mul(sub(old, top), broadcast(scaling.exponent))};
      exp2(by);
      store_some(reference + line, choose_at_most(top, old, broadcast(1.0f), by[0]), count);
      store_some(row_sum + line, choose_at_most(top, old, sum, max(broadcast(1.0f), mul(sum, by[0]))), count);
      store_some(row_max + line, mul(top, broadcast(scaling.unit)), count);
    });
  }

  // What others have summed of so many lines.
  void join(const ForwardSums& other, std::int64_t lines, float exponent) const {
    for (std::int64_t line = 0; line < lines; ++line)
      if (other.begun[line / kStripRows]) join_line(other, line, exponent);
    for (std::int64_t strip = 0; strip < strips_of(lines); ++strip) begun[strip] |= other.begun[strip];
  }
  void join_line(const ForwardSums& other, std::int64_t line, float exponent) const {
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
  float* shrink;    // of a tile's rows: by how much what was accumulated shrinks
  Running running;  // and what is reduced over lanes
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

  ForwardSums lay_sums(Arena& arena) const {
    ForwardSums s;
    s.out = arena.take<float>(lines * ld_out);
    s.row_max = arena.take<float>(lines);
    s.row_sum = arena.take<float>(lines);
    s.reference = arena.take<float>(lines);
    s.begun = arena.take<bool>(strips_of(lines));
    s.ld_out = ld_out;
    return s;
  }

  ForwardScratch lay(Arena& arena) const {
    ForwardScratch s;
    s.q = arena.take<float>(std::max(lines, kNarrowLines) * ld_q);
    s.keys = arena.take<float>(tile.cols / kPanel * key_panel());
    s.values = arena.take<float>(value_panels * value_panel());
    s.scores = arena.take<float>(tile.rows * ld_scores());
    s.shrink = arena.take<float>(tile.rows + kLanes);
    s.running = {arena.take<float>(round_up(tile.rows, kLanes) * kLanes), arena.take<float>(tile.rows * 2 * kLanes)};
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
