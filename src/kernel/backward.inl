// Gradients of one query head against a range of columns.
//
//   forward:   x = scale q.k      P = exp(x - max) / sum      out = P V
//   for each block of columns:                 pack keys (twice) and values; dK = dV = 0
//     for each tile of rows that sees it:      S = Q K^T                      dP = dO V^T
//                                              P = exp(x - max) / sum         dS = P * (dP - delta)
//                                              dV += P^T dO    dK += dS^T Q    dQ += dS K
// dK and dQ are multiplied by scale once, at the end.     delta = sum_d dO * out
//
// Probabilities come from the saved statistics, so nothing S x S is kept. Products that sum over rows or columns stay inside
// what the mask shows: strips of rows by their hull, strips of columns by the strips of rows whose hull touches them.
template <class T, class Mac>
class Backward {
 public:
  Backward(const Problem& p, const BackwardItem& item, void* scratch)
      : p_(p),
        item_(item),
        seq_(sequence(p, item.b)),
        sight_(sight_of(p, item.b)),
        scaling_(p.scale),
        sizes_(p, seq_.q_len, backward_tile_of<Mac>(p)) {
    Arena arena(scratch);
    s_ = sizes_.lay(arena);
  }

  void run() {
    if (item_.dq != nullptr) std::fill(item_.dq, item_.dq + seq_.q_len * sizes_.ld_dq, 0.0f);
    sum_rows(sight_.rows(item_.cols, seq_.q_len));
    const std::int64_t cols = sizes_.tile.cols, rows = sizes_.tile.rows;
    for (std::int64_t j = item_.cols.begin; j < item_.cols.end; j += cols) {
      enter_block({j, std::min(j + cols, item_.cols.end)});
      const Range visible = sight_.rows(block_, seq_.q_len);
      for (std::int64_t i = visible.begin / rows * rows; i < visible.end; i += rows) tile({i, std::min(i + rows, seq_.q_len)});
      store_block();
    }
  }

 private:
  const T* at(const View& view, std::int64_t head, std::int64_t row) const {
    return reinterpret_cast<const T*>(row_of(p_, view, item_.b, head, row));
  }
  Panels key_rows() const { return {s_.key_rows, sizes_.ld_dq, kPanel}; }
  Panels q_pairs() const { return {s_.q_pairs, sizes_.q_pair_stride(), kPanel}; }
  Panels d_out_pairs() const { return {s_.d_out_pairs, sizes_.d_out_pair_stride(), kPanel}; }
  float* probabilities(std::int64_t i) const { return s_.probabilities + i * sizes_.ld_scores; }
  float* d_scores(std::int64_t i) const { return s_.d_scores + i * sizes_.ld_scores; }
  std::int64_t width() const { return round_up(block_.size(), kPanel); }
  const std::uint8_t* bytes_of_row(std::int64_t row) const {
    const std::uint8_t* bytes = bytes_of(p_, seq_, item_.b, item_.head, row);
    return bytes == nullptr ? nullptr : bytes + block_.begin;
  }

  // Maximum, in units of the products, base-2 logarithm of the sum, and delta of every row. Rows that saw nothing get the logarithm
  // +inf: their probabilities become 0.
  void sum_rows(Range rows) {
    for (std::int64_t i = rows.begin; i < rows.end; ++i) {
      const std::int64_t stats = stats_offset(p_, seq_, item_.b, item_.head, i);
      const float row_max = p_.stats.max[stats], row_sum = p_.stats.sum[stats];
      const bool nothing = row_max <= -FLT_MAX || row_sum == 0.0f;
      s_.row_max[i] = nothing ? 0.0f : row_max / scaling_.rest;
      s_.log_sum[i] = nothing ? kInfinity : std::log2(row_sum);
      const T* out = at(p_.out, item_.head, seq_.q_begin + i);
      const T* d_out = at(p_.d_out, item_.head, seq_.q_begin + i);
      F32 total = zero();
      std::int64_t d = 0;
      for (; d + kLanes <= p_.dim_v; d += kLanes) total = fma(load(out + d), load(d_out + d), total);
      if (d < p_.dim_v) total = fma(load_some(out + d, p_.dim_v - d), load_some(d_out + d, p_.dim_v - d), total);
      s_.delta[i] = sum(total);
    }
  }

  void enter_block(Range block) {
    block_ = block;
    const std::int64_t kv_head = item_.head / p_.group();
    k_ = at(p_.k, kv_head, seq_.kv_begin + block.begin);
    pack_transposed<Mac>(k_, p_.k.row_stride, block.size(), p_.dim, s_.keys, sizes_.key_panel());
    pack_transposed<Mac>(at(p_.v, kv_head, seq_.kv_begin + block.begin), p_.v.row_stride, block.size(), p_.dim_v, s_.values,
                         sizes_.value_panel());
    pack_key_rows(false);
    std::fill(s_.dk, s_.dk + block.size() * sizes_.ld_dq, 0.0f);
    std::fill(s_.dv, s_.dv + block.size() * sizes_.ld_dv, 0.0f);
  }

  void pack_key_rows(bool clean) {
    keys_finite_ = pack_pairs<Mac>(k_, p_.k.row_stride, block_.size(), p_.dim, key_rows());
    pad_pairs<Mac>(block_.size(), width(), p_.dim, key_rows());
    if (clean) Mac::clean_words(s_.key_rows, words<Mac>(block_.size()) * sizes_.ld_dq);
    keys_cleaned_ = clean;
  }

  void tile(Range rows) {
    if (!look(rows)) return;
    const bool hides = hides_some(s_.seen, rows.size(), block_.size());
    const bool rows_finite = pack_tile_rows(rows);
    inner_products<Mac>(s_.q, sizes_.ld_q, s_.keys, sizes_.q_words, rows.size(), s_.hulls, s_.probabilities, sizes_.ld_scores);
    inner_products<Mac>(s_.d_out, sizes_.ld_v, s_.values, sizes_.v_words, rows.size(), s_.hulls, s_.d_scores, sizes_.ld_scores);
    differentiate(rows);
    clean(rows, hides && !rows_finite, hides && !keys_finite_);
    rows_that_see(s_.hulls, rows.size(), block_.size(), s_.column_hulls);
    sum_products<Mac, true>(s_.p_pairs, sizes_.ld_scores, d_out_pairs(), s_.column_hulls, block_.size(), p_.dim_v, s_.dv,
                            sizes_.ld_dv);
    sum_products<Mac, true>(s_.ds_pairs, sizes_.ld_scores, q_pairs(), s_.column_hulls, block_.size(), p_.dim, s_.dk, sizes_.ld_dq);
    if (item_.dq == nullptr) return;
    sum_products<Mac, false>(s_.ds_rows, sizes_.ld_scores, key_rows(), s_.hulls, rows.size(), p_.dim,
                             item_.dq + rows.begin * sizes_.ld_dq, sizes_.ld_dq);
  }

  // What each row sees of the block; false if nothing.
  bool look(Range rows) {
    bool any = false;
    for (std::int64_t i = 0; i < rows.size(); ++i) {
      const std::int64_t row = rows.begin + i;
      s_.seen[i] = seen_by(sight_, bytes_of_row(row), p_.mask.bytes.nonzero_hides, row, block_);
      any = any || !s_.seen[i].columns.empty();
    }
    hulls_of(s_.seen, rows.size(), s_.hulls);
    return any;
  }

  // False if a query or an output gradient is not finite.
  bool pack_tile_rows(Range rows) {
    const T* q = at(p_.q, item_.head, seq_.q_begin + rows.begin);
    const T* d_out = at(p_.d_out, item_.head, seq_.q_begin + rows.begin);
    bool finite = pack_rows<Mac>(q, p_.q.row_stride, rows.size(), p_.dim, s_.q, sizes_.ld_q);
    finite = pack_rows<Mac>(d_out, p_.d_out.row_stride, rows.size(), p_.dim_v, s_.d_out, sizes_.ld_v) && finite;
    if (scaling_.sign != 1.0f) Mac::multiply_words(s_.q, rows.size() * sizes_.ld_q, scaling_.sign);
    if constexpr (Mac::kDepth > 1) {
      finite = pack_pairs<Mac>(q, p_.q.row_stride, rows.size(), p_.dim, q_pairs()) && finite;
      finite = pack_pairs<Mac>(d_out, p_.d_out.row_stride, rows.size(), p_.dim_v, d_out_pairs()) && finite;
      if (scaling_.sign != 1.0f) Mac::multiply_words(s_.q_pairs, words<Mac>(rows.size()) * sizes_.ld_dq, scaling_.sign);
    }
    return finite;
  }

  // P and dS in place of S and dP, and in the forms that products read.
  void differentiate(Range rows) {
    for (std::int64_t i = 0; i < rows.size(); ++i) differentiate_row(i, rows.begin + i);
    if constexpr (Mac::kDepth > 1) {
      const Panels p_pairs{s_.p_pairs, sizes_.ld_scores, kPanel}, ds_pairs{s_.ds_pairs, sizes_.ld_scores, kPanel};
      pack_pairs<Mac>(s_.probabilities, sizes_.ld_scores, rows.size(), width(), p_pairs);
      pack_pairs<Mac>(s_.d_scores, sizes_.ld_scores, rows.size(), width(), ds_pairs);
      for (std::int64_t i = 0; i < rows.size(); ++i)
        for (std::int64_t j = 0; j < width(); j += kLanes)
          Mac::store_probabilities(s_.ds_rows + i * sizes_.ld_scores, j, load(d_scores(i) + j));
    }
  }

  // P is at most 1 / sum, whatever the rounding of max and of the products. What is hidden becomes 0 before anything is summed:
  // until then it may hold anything, NaN included.
  void differentiate_row(std::int64_t i, std::int64_t row) {
    const Range hull = s_.hulls[i / kStripRows];
    const F32 factor = broadcast(scaling_.exponent), subtrahend = broadcast(s_.row_max[row]);
    const F32 shift = broadcast(-s_.log_sum[row]);
    float *p = probabilities(i), *ds = d_scores(i);
    for (std::int64_t j = hull.begin; j < hull.end; j += kPanel) {
      F32 x[kPanelVectors];
#pragma GCC unroll 16
      for (int n = 0; n < kPanelVectors; ++n) x[n] = min(shift, fma(sub(load(p + j + n * kLanes), subtrahend), factor, shift));
      exp2(x);
#pragma GCC unroll 16
      for (int n = 0; n < kPanelVectors; ++n) store(p + j + n * kLanes, x[n]);
    }
    hide(p, i, row);
    hide(ds, i, row);
    const F32 delta = broadcast(sees_only_this_block(row) ? exact_delta(p, ds, hull) : s_.delta[row]);
    for (std::int64_t j = hull.begin; j < hull.end; j += kLanes)
      store(ds + j, mul(load(p + j), sub(load(ds + j), delta)));
  }

  void hide(float* values, std::int64_t i, std::int64_t row) {
    const Range seen = s_.seen[i].columns;
    std::fill(values, values + seen.begin, 0.0f);
    std::fill(values + seen.end, values + width(), 0.0f);
    if (s_.seen[i].holes) hide_holes(values, bytes_of_row(row), p_.mask.bytes.nonzero_hides, seen, 0.0f);
  }

  // delta is also sum_j P dP. Where a row's columns are all at hand, that is as exact as float32; dO * out has the rounding of a
  // 16-bit out, which shows in rows that see few columns. Divided by sum_j P, which is 1 but for rounding.
  bool sees_only_this_block(std::int64_t row) const {
    const Range columns = sight_.columns({row, row + 1}, seq_.kv_len);
    return columns.begin >= block_.begin && columns.end <= block_.end;
  }
  static float exact_delta(const float* p, const float* dp, Range hull) {
    F32 weighted = zero(), total = zero();
    for (std::int64_t j = hull.begin; j < hull.end; j += kLanes) {
      weighted = fma(load(p + j), load(dp + j), weighted);
      total = add(total, load(p + j));
    }
    return sum(total) == 0.0f ? 0.0f : sum(weighted) / sum(total);
  }

  // See Note [What is hidden may be NaN].
  void clean(Range rows, bool clean_rows, bool clean_keys) {
    if (clean_rows) {
      Mac::clean_words(s_.q_pairs, words<Mac>(rows.size()) * sizes_.q_pair_stride());
      Mac::clean_words(s_.d_out_pairs, words<Mac>(rows.size()) * sizes_.d_out_pair_stride());
      add_nonfinite_rows(rows);
    }
    if (keys_cleaned_ != clean_keys) pack_key_rows(clean_keys);
    if (clean_keys && item_.dq != nullptr) add_nonfinite_keys(rows);
  }

  void add_nonfinite_rows(Range rows) {
    alignas(64) float q[kMostFeatures + kLanes], d_out[kMostFeatures + kLanes];
    for (std::int64_t i = 0; i < rows.size(); ++i) {
      const std::int64_t row = rows.begin + i;
      const bool some_q = nonfinite_part(at(p_.q, item_.head, seq_.q_begin + row), p_.dim, q);
      const bool some_d_out = nonfinite_part(at(p_.d_out, item_.head, seq_.q_begin + row), p_.dim_v, d_out);
      if (!some_q && !some_d_out) continue;
      for (std::int64_t j = 0; j < block_.size(); ++j) {
        if (!sees(s_.seen[i], bytes_of_row(row), p_.mask.bytes.nonzero_hides, j)) continue;
        if (some_q) add_weighted(s_.dk + j * sizes_.ld_dq, d_scores(i)[j] * scaling_.sign, q, p_.dim);
        if (some_d_out) add_weighted(s_.dv + j * sizes_.ld_dv, probabilities(i)[j], d_out, p_.dim_v);
      }
    }
  }

  void add_nonfinite_keys(Range rows) {
    alignas(64) float k[kMostFeatures + kLanes];
    for (std::int64_t j = 0; j < block_.size(); ++j) {
      if (!nonfinite_part(k_ + j * p_.k.row_stride, p_.dim, k)) continue;
      for (std::int64_t i = 0; i < rows.size(); ++i)
        if (sees(s_.seen[i], bytes_of_row(rows.begin + i), p_.mask.bytes.nonzero_hides, j))
          add_weighted(item_.dq + (rows.begin + i) * sizes_.ld_dq, d_scores(i)[j], k, p_.dim);
    }
  }

  // dK and dV of the block: rounded to their place, or left as float32 for the sum over the heads of a group.
  void store_block() {
    for (std::int64_t j = 0; j < block_.size(); ++j) {
      const std::int64_t column = block_.begin + j;
      const float* dk = s_.dk + j * sizes_.ld_dq;
      const float* dv = s_.dv + j * sizes_.ld_dv;
      if (item_.dkv != nullptr) {
        store_scaled(item_.dkv + column * sizes_.ld_dq, dk, sizes_.ld_dq, scaling_.rest);
        store_scaled(item_.dkv + seq_.kv_len * sizes_.ld_dq + column * sizes_.ld_dv, dv, sizes_.ld_dv, 1.0f);
        continue;
      }
      store_column(p_.dk, column, dk, p_.dim, scaling_.rest);
      store_column(p_.dv, column, dv, p_.dim_v, 1.0f);
    }
  }

  void store_column(const View& view, std::int64_t column, const float* from, std::int64_t elements, float factor) {
    if (view.data == nullptr) return;
    store_scaled(reinterpret_cast<T*>(row_of(p_, view, item_.b, item_.head, seq_.kv_begin + column)), from, elements, factor);
  }

  const Problem& p_;
  const BackwardItem& item_;
  const Sequence seq_;
  const Sight sight_;
  const Scaling scaling_;
  const BackwardSizes<Mac> sizes_;
  BackwardScratch s_;
  Range block_;
  const T* k_ = nullptr;
  bool keys_finite_ = true, keys_cleaned_ = false;
};
