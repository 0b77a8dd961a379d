// Gradients of one query head against a range of columns.
//
//   forward:   x = scale q.k      P = exp(x - max) / sum      out = P V
//   for each block of columns:                 pack keys (twice) and values; dK = dV = 0
//     for each tile of rows that sees it:      S = Q K^T                      dP = dO V^T
//                                              P = exp(x - max) / sum         dS = P * (dP - delta)
//                                              dV += P^T dO    dK += dS^T Q    dQ += dS K
//   dK and dQ are multiplied by scale once, at the end.     delta = sum_d dO * out
//
// Probabilities come from the saved statistics, so nothing S x S is kept. Products that sum over rows or columns stay inside what the
// mask shows: strips of rows by their hull, strips of columns by the strips of rows whose hull touches them.
struct BackwardScratch {
  float *keys, *key_rows, *values;                  // right-hand sides of S, dQ and dP
  float *dk, *dv;                                   // sums of this block
  float *q, *q_pairs, *d_out, *d_out_pairs;         // left- and right-hand sides of a tile of rows
  float *probabilities, *d_scores;                  // P and dS, first S and dP
  float *p_pairs, *ds_pairs, *ds_rows;              // what products read of them
  float *lse, *delta;                               // of all rows; lse in base 2
  Seen* seen;
  Range* hulls;
};

template <class Mac>
struct BackwardSizes {
  std::int64_t q_len, q_words, v_words, ld_q, ld_dq, ld_v, ld_dv, ld_scores;
  Tile tile;
  BackwardSizes(const Problem& p, const Sequence& seq, Tile tile_)
      : q_len(seq.q_len),
        q_words(words<Mac>(p.dim)),
        v_words(words<Mac>(p.dim_v)),
        ld_q(leading(q_words)),
        ld_dq(leading(p.dim)),
        ld_v(leading(v_words)),
        ld_dv(leading(p.dim_v)),
        ld_scores(leading(tile_.cols)),
        tile(tile_) {}
  std::int64_t key_panel() const { return q_words * kPanel; }
  std::int64_t value_panel() const { return v_words * kPanel; }
  std::int64_t q_pair_stride() const { return Mac::kDepth == 1 ? ld_q : ld_dq; }
  std::int64_t d_out_pair_stride() const { return Mac::kDepth == 1 ? ld_v : ld_dv; }

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
    s.probabilities = arena.take<float>(tile.rows * ld_scores);
    s.d_scores = arena.take<float>(tile.rows * ld_scores);
    if constexpr (Mac::kDepth == 1) {  // words along rows and along features are the same floats
      s.q_pairs = s.q, s.d_out_pairs = s.d_out;
      s.p_pairs = s.probabilities, s.ds_pairs = s.ds_rows = s.d_scores;
    } else {
      s.q_pairs = arena.take<float>(words<Mac>(tile.rows) * ld_dq);
      s.d_out_pairs = arena.take<float>(words<Mac>(tile.rows) * ld_dv);
      s.p_pairs = arena.take<float>(words<Mac>(tile.rows) * ld_scores);
      s.ds_pairs = arena.take<float>(words<Mac>(tile.rows) * ld_scores);
      s.ds_rows = arena.take<float>(tile.rows * ld_scores);
    }
    s.lse = arena.take<float>(q_len);
    s.delta = arena.take<float>(q_len);
    s.seen = arena.take<Seen>(tile.rows);
    s.hulls = arena.take<Range>(tile.rows / kStripRows + 1);
    return s;
  }
};

// What a block keeps per column: keys twice, values, and the sums dK and dV, which a tile of rows reads and writes once.
template <class Mac>
Tile backward_tile_of(const Problem& p) {
  const std::int64_t column_bytes = 4 * (3 * words<Mac>(p.dim) + 2 * words<Mac>(p.dim_v));
  const std::int64_t unit = kPanel * kStripRows / 2;  // whole panels and whole strips
  const std::int64_t cols = std::clamp<std::int64_t>(2 * kBlockBytes / column_bytes / unit * unit, unit, 4 * unit);
  return {16 * kStripRows, cols};
}

// Base-2 log-sum-exp and delta of every row. Rows that saw nothing get +inf: their probabilities become 0.
template <class T, class Mac>
void row_sums(const Problem& p, const BackwardItem& item, const Sequence& seq, Range rows, const BackwardScratch& s) {
  for (std::int64_t i = rows.begin; i < rows.end; ++i) {
    const std::int64_t at = stats_offset(p, item.b, item.head, seq.q_begin + i);
    const float row_max = p.stats.max[at], row_sum = p.stats.sum[at];
    const bool nothing = row_max <= -FLT_MAX || row_sum == 0.0f;
    s.lse[i] = nothing ? kInfinity : row_max * kLog2e + std::log2(row_sum);
    const T* out = reinterpret_cast<const T*>(row_of(p, p.out, item.b, item.head, seq.q_begin + i));
    const T* d_out = reinterpret_cast<const T*>(row_of(p, p.d_out, item.b, item.head, seq.q_begin + i));
    F32 total = zero();
    std::int64_t d = 0;
    for (; d + kLanes <= p.dim_v; d += kLanes) total = fma(load(out + d), load(d_out + d), total);
    if (d < p.dim_v) total = fma(load_some(out + d, p.dim_v - d), load_some(d_out + d, p.dim_v - d), total);
    s.delta[i] = sum(total);
  }
}

template <class T, class Mac>
void pack_columns(const Problem& p, const BackwardItem& item, const Sequence& seq, const BackwardSizes<Mac>& sizes, Range block,
                  const BackwardScratch& s) {
  const std::int64_t kv_head = item.head / p.group();
  const T* k = reinterpret_cast<const T*>(row_of(p, p.k, item.b, kv_head, seq.kv_begin + block.begin));
  const T* v = reinterpret_cast<const T*>(row_of(p, p.v, item.b, kv_head, seq.kv_begin + block.begin));
  const Panels key_rows{s.key_rows, sizes.ld_dq, kPanel};
  pack_transposed<Mac>(k, p.k.row_stride, block.size(), p.dim, s.keys, sizes.key_panel());
  pack_transposed<Mac>(v, p.v.row_stride, block.size(), p.dim_v, s.values, sizes.value_panel());
  pack_pairs<Mac>(k, p.k.row_stride, block.size(), p.dim, key_rows);
  pad_pairs<Mac>(block.size(), round_up(block.size(), kPanel), p.dim, key_rows);
  std::fill(s.dk, s.dk + block.size() * sizes.ld_dq, 0.0f);
  std::fill(s.dv, s.dv + block.size() * sizes.ld_dv, 0.0f);
}

template <class T, class Mac>
void pack_tile_rows(const Problem& p, const BackwardItem& item, const Sequence& seq, const BackwardSizes<Mac>& sizes, Range rows,
                    float sign, const BackwardScratch& s) {
  const T* q = reinterpret_cast<const T*>(row_of(p, p.q, item.b, item.head, seq.q_begin + rows.begin));
  const T* d_out = reinterpret_cast<const T*>(row_of(p, p.d_out, item.b, item.head, seq.q_begin + rows.begin));
  pack_rows<Mac>(q, p.q.row_stride, rows.size(), p.dim, s.q, sizes.ld_q);
  pack_rows<Mac>(d_out, p.d_out.row_stride, rows.size(), p.dim_v, s.d_out, sizes.ld_v);
  if (sign != 1.0f) Mac::multiply_words(s.q, rows.size() * sizes.ld_q, sign);
  if constexpr (Mac::kDepth > 1) {
    pack_pairs<Mac>(q, p.q.row_stride, rows.size(), p.dim, Panels{s.q_pairs, sizes.ld_dq, kPanel});
    pack_pairs<Mac>(d_out, p.d_out.row_stride, rows.size(), p.dim_v, Panels{s.d_out_pairs, sizes.ld_dv, kPanel});
    if (sign != 1.0f) Mac::multiply_words(s.q_pairs, words<Mac>(rows.size()) * sizes.ld_dq, sign);
  }
}

// C = A B^T for a tile: packed panels of columns against the strips of rows that see one of them.
template <class Mac>
void inner_products(const float* a, std::int64_t lda, const float* panels, std::int64_t depth, std::int64_t rows,
                    const Range* hulls, float* c, std::int64_t ldc) {
  const std::int64_t strips = (rows + kStripRows - 1) / kStripRows;
  std::int64_t last = 0;
  for (std::int64_t t = 0; t < strips; ++t) last = std::max(last, hulls[t].end);
  for (std::int64_t w = 0; w < depth; w += kDepthChunk)
    for (std::int64_t j = 0; j < last; j += kPanel)
      for (std::int64_t t = 0; t < strips; ++t) {
        if (j < hulls[t].begin || j >= hulls[t].end) continue;
        const std::int64_t i = t * kStripRows;
        kTiles<Mac, false>.of[std::min<std::int64_t>(kStripRows, rows - i) - 1][kPanelVectors - 1](
            a + i * lda + w, lda, panels + j / kPanel * depth * kPanel + w * kPanel, kPanel, c + i * ldc + j, ldc,
            std::min(kDepthChunk, depth - w), w > 0);
      }
}

// One row of P and dS in place of S and dP; 0 wherever the row sees nothing, over the whole width of the block.
FUSEDATTN_INLINE void probability_row(float* p, float* ds, Range hull, Range seen, std::int64_t width, float c, float lse,
                                      float delta) {
  std::fill(p + hull.begin, p + seen.begin, -kInfinity);
  std::fill(p + seen.end, p + hull.end, -kInfinity);
  const F32 factor = broadcast(c), shift = broadcast(-lse), subtrahend = broadcast(delta);
  for (std::int64_t j = hull.begin; j < hull.end; j += kPanel) {
    F32 x[kPanelVectors];
#pragma GCC unroll 16
    for (int n = 0; n < kPanelVectors; ++n) x[n] = min(broadcast(127.0f), fma(load(p + j + n * kLanes), factor, shift));
    exp2(x);
#pragma GCC unroll 16
    for (int n = 0; n < kPanelVectors; ++n) {
      store(p + j + n * kLanes, x[n]);
      store(ds + j + n * kLanes, mul(x[n], sub(load(ds + j + n * kLanes), subtrahend)));
    }
  }
  // dP of what is hidden may be anything, NaN included.
  std::fill(ds + hull.begin, ds + seen.begin, 0.0f);
  std::fill(ds + seen.end, ds + hull.end, 0.0f);
  for (float* row : {p, ds}) {
    std::fill(row, row + hull.begin, 0.0f);
    std::fill(row + hull.end, row + width, 0.0f);
  }
}

template <class Mac>
void probability_tile(const Problem& p, const BackwardItem& item, const BackwardSizes<Mac>& sizes, Range block, Range rows,
                      float exponent, const BackwardScratch& s) {
  const std::int64_t width = round_up(block.size(), kPanel);
  for (std::int64_t i = 0; i < rows.size(); ++i) {
    const Range hull = s.hulls[i / kStripRows];
    Range seen = s.seen[i].columns;
    if (seen.empty()) seen = {hull.begin, hull.begin};
    float* scores = s.probabilities + i * sizes.ld_scores;
    float* d_scores = s.d_scores + i * sizes.ld_scores;
    const std::int64_t row = rows.begin + i;
    if (s.seen[i].holes) {
      const std::uint8_t* bytes = bytes_of(p, item.b, item.head, row) + block.begin;
      hide_holes(scores, bytes, p.mask.bytes.nonzero_hides, seen, -kInfinity);
      hide_holes(d_scores, bytes, p.mask.bytes.nonzero_hides, seen, s.delta[row]);
    }
    probability_row(scores, d_scores, hull, seen, width, exponent, s.lse[row], s.delta[row]);
  }
  if constexpr (Mac::kDepth > 1) {
    pack_pairs<Mac>(s.probabilities, sizes.ld_scores, rows.size(), width, Panels{s.p_pairs, sizes.ld_scores, kPanel});
    pack_pairs<Mac>(s.d_scores, sizes.ld_scores, rows.size(), width, Panels{s.ds_pairs, sizes.ld_scores, kPanel});
    for (std::int64_t i = 0; i < rows.size(); ++i)
      for (std::int64_t j = 0; j < width; j += kLanes)
        Mac::store_probabilities(s.ds_rows + i * sizes.ld_scores, j, load(s.d_scores + i * sizes.ld_scores + j));
  }
}

// The rows whose strips see one of these columns.
inline Range rows_that_see(Range columns, const Range* hulls, std::int64_t rows) {
  Range seen;
  for (std::int64_t t = 0; t * kStripRows < rows; ++t) {
    if (meet(hulls[t], columns).empty()) continue;
    const Range strip{t * kStripRows, std::min<std::int64_t>((t + 1) * kStripRows, rows)};
    seen = seen.empty() ? strip : Range{seen.begin, strip.end};
  }
  return seen;
}

// C += A^T B for strips of columns: dV += P^T dO and dK += dS^T Q.
template <class Mac>
void outer_products(const float* a, std::int64_t lda, const Panels& b, std::int64_t rows, std::int64_t cols, const Range* hulls,
                    std::int64_t width, float* c, std::int64_t ldc) {
  for (std::int64_t j = 0; j < cols; j += kStripRows) {
    const std::int64_t strip = std::min<std::int64_t>(kStripRows, cols - j);
    const Range seen = rows_that_see({j, j + strip}, hulls, rows);
    if (seen.empty()) continue;
    const Range depth{seen.begin / Mac::kDepth, words<Mac>(seen.end)};
    multiply_strip<Mac, true>(strip, a + depth.begin * lda + j, lda, b, depth, width, c + j * ldc, ldc, true);
  }
}

// dQ += dS K for strips of rows.
template <class Mac>
void query_products(const Problem& p, const BackwardSizes<Mac>& sizes, Range rows, const BackwardScratch& s, float* dq) {
  const Panels key_rows{s.key_rows, sizes.ld_dq, kPanel};
  for (std::int64_t i = 0; i < rows.size(); i += kStripRows) {
    const Range hull = s.hulls[i / kStripRows];
    if (hull.empty()) continue;
    const Range depth{hull.begin / Mac::kDepth, hull.end / Mac::kDepth};
    multiply_strip<Mac, false>(std::min<std::int64_t>(kStripRows, rows.size() - i), s.ds_rows + i * sizes.ld_scores + depth.begin,
                               sizes.ld_scores, key_rows, depth, p.dim, dq + (rows.begin + i) * sizes.ld_dq, sizes.ld_dq, true);
  }
}

template <class T, class Mac>
void backward_tile(const Problem& p, const BackwardItem& item, const Sequence& seq, const BackwardSizes<Mac>& sizes,
                   Range block, Range rows, const Scaling& scaling, const BackwardScratch& s) {
  const Band band = band_of(p.mask, seq.q_len, seq.kv_len);
  bool any = false;
  for (std::int64_t i = 0; i < rows.size(); ++i) {
    const std::int64_t row = rows.begin + i;
    s.seen[i] = seen_by(band, bytes_of(p, item.b, item.head, row), p.mask.bytes.nonzero_hides, row, block);
    any = any || !s.seen[i].columns.empty();
  }
  if (!any) return;
  for (std::int64_t i = 0; i < rows.size(); i += kStripRows)
    s.hulls[i / kStripRows] = hull_of(s.seen + i, std::min<std::int64_t>(kStripRows, rows.size() - i));
  pack_tile_rows<T>(p, item, seq, sizes, rows, scaling.sign, s);
  inner_products<Mac>(s.q, sizes.ld_q, s.keys, sizes.q_words, rows.size(), s.hulls, s.probabilities, sizes.ld_scores);
  inner_products<Mac>(s.d_out, sizes.ld_v, s.values, sizes.v_words, rows.size(), s.hulls, s.d_scores, sizes.ld_scores);
  probability_tile(p, item, sizes, block, rows, scaling.exponent, s);
  outer_products<Mac>(s.p_pairs, sizes.ld_scores, Panels{s.d_out_pairs, sizes.d_out_pair_stride(), kPanel}, rows.size(),
                      block.size(), s.hulls, p.dim_v, s.dv, sizes.ld_dv);
  outer_products<Mac>(s.ds_pairs, sizes.ld_scores, Panels{s.q_pairs, sizes.q_pair_stride(), kPanel}, rows.size(), block.size(),
                      s.hulls, p.dim, s.dk, sizes.ld_dq);
  if (item.dq != nullptr) query_products(p, sizes, rows, s, item.dq);
}

// dK and dV of a block: rounded to their place, or left as float32 for the sum over the heads of a group.
template <class T, class Mac>
void store_columns(const Problem& p, const BackwardItem& item, const Sequence& seq, const BackwardSizes<Mac>& sizes, Range block,
                   float rest, const BackwardScratch& s) {
  for (std::int64_t j = 0; j < block.size(); ++j) {
    const std::int64_t column = block.begin + j;
    const float* dk = s.dk + j * sizes.ld_dq;
    const float* dv = s.dv + j * sizes.ld_dv;
    if (item.dkv != nullptr) {
      store_scaled(item.dkv + column * sizes.ld_dq, dk, sizes.ld_dq, rest);
      store_scaled(item.dkv + seq.kv_len * sizes.ld_dq + column * sizes.ld_dv, dv, sizes.ld_dv, 1.0f);
      continue;
    }
    if (p.dk.data != nullptr)
      store_scaled(reinterpret_cast<T*>(row_of(p, p.dk, item.b, item.head, seq.kv_begin + column)), dk, p.dim, rest);
    if (p.dv.data != nullptr)
      store_scaled(reinterpret_cast<T*>(row_of(p, p.dv, item.b, item.head, seq.kv_begin + column)), dv, p.dim_v, 1.0f);
  }
}

template <class T, class Mac>
void backward(const Problem& p, const BackwardItem& item, void* scratch) {
  const Sequence seq = sequence(p, item.b);
  const BackwardSizes<Mac> sizes(p, seq, backward_tile_of<Mac>(p));
  Arena arena(scratch);
  const BackwardScratch s = sizes.lay(arena);
  const Scaling scaling(p.scale);
  const Band band = band_of(p.mask, seq.q_len, seq.kv_len);
  if (item.dq != nullptr) std::fill(item.dq, item.dq + seq.q_len * sizes.ld_dq, 0.0f);
  row_sums<T, Mac>(p, item, seq, rows_of_columns(band, item.cols, seq.q_len), s);
  for (std::int64_t j = item.cols.begin; j < item.cols.end; j += sizes.tile.cols) {
    const Range block{j, std::min(j + sizes.tile.cols, item.cols.end)};
    const Range visible = rows_of_columns(band, block, seq.q_len);
    pack_columns<T>(p, item, seq, sizes, block, s);
    for (std::int64_t i = visible.begin / sizes.tile.rows * sizes.tile.rows; i < visible.end; i += sizes.tile.rows)
      backward_tile<T>(p, item, seq, sizes, block, Range{i, std::min(i + sizes.tile.rows, seq.q_len)}, scaling, s);
    store_columns<T>(p, item, seq, sizes, block, scaling.rest, s);
  }
}
