// What the backward of an item keeps: sizes of tile and panels, and the pieces of scratch.
struct BackwardScratch {
  float *keys, *key_rows, *values;                  // right-hand sides of S, dQ and dP
  float *dk, *dv;                                   // sums of this block
  float *q, *q_pairs, *d_out, *d_out_pairs;         // left- and right-hand sides of a tile of rows
  WordRows q_rows, d_out_rows;                      // the left-hand ones, there or where they lie in the tensors
  float *probabilities, *d_scores;                  // of a part of the tile: S and dP, then P and dS, or only P where words are pairs
  float *p_pairs, *ds_pairs, *ds_rows;              // what products read of them
  float* panel;                                     // P of a whole panel of columns, where words are pairs
  float *row_max, *log_sum, *delta, *mass;          // of all rows
  float* first;                                     // of a tile's rows: what sums of dP begin with
  float *distances, *cap_slopes;                    // of rows and columns; of one row's soft cap, null without
  std::uint16_t* words;                             // of two rows
  bool *dq_begun, *dkv_begun;                       // of strips of all rows, of columns: whether dq, whether dk and dv have a sum of theirs
  Seen* seen;
  Range *hulls, *whole, *column_hulls;              // of strips of rows, and panels that all of them see; of strips of columns, in rows
};

template <class Mac>
struct BackwardSizes {
  std::int64_t q_len, q_words, v_words, ld_q, ld_dq, ld_v, ld_dv, ld_scores;
  Tile tile;
  bool has_distances, has_cap, drops;
  BackwardSizes(const Problem& p, std::int64_t q_len_, Tile tile_)
      : q_len(q_len_),
        q_words(words<Mac>(p.dim)),
        v_words(words<Mac>(p.dim_v)),
        ld_q(leading(q_words)),
        ld_dq(leading(p.dim)),
        ld_v(leading(v_words)),
        ld_dv(leading(p.dim_v)),
        ld_scores(leading(tile_.cols)),
        tile(tile_),
        has_distances(p.alibi.slopes != nullptr),
        has_cap(p.softcap != 0.0f),
        drops(p.dropout.active()) {}
  std::int64_t key_panel() const { return q_words * kPanel; }
  std::int64_t value_panel() const { return v_words * kPanel; }
  std::int64_t q_pair_stride() const { return Mac::kDepth == 1 ? ld_q : ld_dq; }
  std::int64_t d_out_pair_stride() const { return Mac::kDepth == 1 ? ld_v : ld_dv; }
  std::int64_t ld_ds_rows() const { return Mac::kDepth == 1 ? ld_scores : leading(words<Mac>(tile.cols)); }

  // Rows whose scores are in memory at a time. Where words are pairs products read these, and the scores of few rows stay in the near caches: 512
  // columns of a short sequence gain 0.3 to 1.6 % over those of a whole tile.
  std::int64_t part_rows() const { return Mac::kDepth == 1 ? tile.rows : std::min<std::int64_t>(tile.rows, 8 * kStripRows); }
  // What belongs to the rows of a tile from row i on, which begins a part.
  BackwardScratch from_row(BackwardScratch s, std::int64_t i) const {
    s.q_rows.data += i * s.q_rows.ld, s.d_out_rows.data += i * s.d_out_rows.ld;
    s.first += i, s.seen += i, s.hulls += i / kStripRows, s.whole += i / kStripRows;
    s.p_pairs += words<Mac>(i) * ld_scores, s.ds_pairs += words<Mac>(i) * ld_scores, s.ds_rows += i * ld_ds_rows();
    return s;
  }

  BackwardScratch lay(Arena& arena) const {
    BackwardScratch s;
    const std::int64_t panels = tile.cols / kPanel;
    s.keys = arena.take<float>(panels * key_panel());
    s.key_rows = arena.take<float>(words<Mac>(tile.cols) * ld_dq);
    s.values = arena.take<float>(panels * value_panel());
    s.dk = arena.take<float>(tile.cols * ld_dq);
    s.dv = arena.take<float>(tile.cols * ld_dv);
    s.q = arena.take<float>(tile.rows * ld_q);
    s.d_out = arena.take<float>(tile.rows * ld_v);
    s.probabilities = arena.take<float>(part_rows() * ld_scores);
    s.d_scores = arena.take<float>(part_rows() * ld_scores);
    if constexpr (Mac::kDepth == 1) {  // words along rows and along features are the same floats
      s.q_pairs = s.q, s.d_out_pairs = s.d_out;
      s.p_pairs = s.probabilities, s.ds_pairs = s.ds_rows = s.d_scores;
    } else {
      s.q_pairs = arena.take<float>(words<Mac>(tile.rows) * ld_dq);
      s.d_out_pairs = arena.take<float>(words<Mac>(tile.rows) * ld_dv);
      s.p_pairs = arena.take<float>(words<Mac>(tile.rows) * ld_scores);
      s.ds_pairs = arena.take<float>(words<Mac>(tile.rows) * ld_scores);
      s.ds_rows = arena.take<float>(tile.rows * ld_ds_rows());
      s.panel = arena.take<float>(tile.rows * kPanel);
    }
    s.row_max = arena.take<float>(q_len);
    s.log_sum = arena.take<float>(q_len);
    s.delta = arena.take<float>(q_len);
    s.mass = arena.take<float>(q_len);
    s.first = arena.take<float>(tile.rows);
    s.distances = arena.take<float>(has_distances ? ScoreTerms::distances(tile.rows, tile.cols) : 0);
    s.cap_slopes = has_cap ? arena.take<float>(ld_scores) : nullptr;
    s.words = arena.take<std::uint16_t>(drops ? 2 * Keeping::room(tile.cols) : 0);
    s.dq_begun = arena.take<bool>(q_len / kStripRows + 1);
    s.dkv_begun = arena.take<bool>(tile.cols / kStripRows + 1);
    s.seen = arena.take<Seen>(tile.rows);
    s.hulls = arena.take<Range>(tile.rows / kStripRows + 1);
    s.whole = arena.take<Range>(tile.rows / kStripRows + 1);
    s.column_hulls = arena.take<Range>(tile.cols / kStripRows + 1);
    return s;
  }
};

// Columns of a block: what they keep (keys twice, values, and the sums dK and dV, which a tile of rows reads and writes once)
// takes at most 1.25 MB, or 192 columns do. Wider blocks read and pack the rows less often: 192 columns instead of 48 gain 5 % at D = 768 and 384
// instead of 192 gain 2 points at D = 128 on Zen 3, 512 instead of 256 another 2 on Zen 4, although half of them lies in the third-level
// cache. Rows: the lane says, but on Intel's processors, which use up their first-level cache twice as fast, 108 where words are float32: 1.01 to 1.02 times as
// fast as 168 on Emerald Rapids. Neither rows nor columns are more than a sequence may have, which changes no division of it. Each sequence is
// divided about evenly: 197 rows in halves are 1.02 times as fast in bfloat16 as 144 and 53.
template <class Mac>
Tile backward_tile_of(const Problem& p) {
  constexpr std::int64_t kUnit = std::max<std::int64_t>(kPanel, 64), kFewest = 192, kMost = 512;
  const std::int64_t column_bytes = 4 * (3 * words<Mac>(p.dim) + 2 * words<Mac>(p.dim_v));
  const std::int64_t cols = std::clamp<std::int64_t>((5 << 18) / column_bytes / kUnit * kUnit, kFewest, kMost);
  const std::int64_t most = Mac::kDepth == 1 && cpu().intel ? std::min(kMostGradientStrips, 18) : kMostGradientStrips;
  const std::int64_t strips = std::clamp<std::int64_t>(strips_of(p.q_len), strips_of(kNarrowLines), most);
  return {strips * kStripRows, std::min(cols, round_up(std::max<std::int64_t>(p.kv_len, 1), kUnit))};
}
