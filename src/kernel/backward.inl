// Gradients of one query head against a range of columns: sums over the tiles of dS (see ScoreGradients).
//
//   dV += Pd^T dO    dK += dS^T Q    dQ += dS K        dK and dQ are multiplied by scale once, at the end, dV divided by keep_prob
//
// Products that sum over rows or columns stay inside what the mask shows: strips of rows by their hull, strips of columns by the strips
// of rows whose hull touches them.
template <class T, class Mac>
class Backward : ScoreGradients<T, Mac> {
  using Base = ScoreGradients<T, Mac>;
  static constexpr bool kGoesByPanels = kFinishesTiles && Mac::kDepth > 1;
  using Base::at, Base::block_, Base::bytes_of_row, Base::d_out_pairs, Base::d_scores, Base::hull, Base::k_, Base::keeping_, Base::narrow_, Base::p_;
  using Base::probabilities, Base::q_pairs, Base::s_, Base::scaling_, Base::seq_, Base::some_whole_, Base::terms_, Base::sight_, Base::sizes_, Base::width;

 public:
  Backward(const Problem& p, const BackwardItem& item, void* scratch)
      : Base(p, item.b, item.head, item.scores_before, scratch), item_(item) {}

  void run() {
    const std::int64_t cols = even_part(item_.cols.size(), sizes_.tile.cols, kPanel), rows = even_part(seq_.q_len, sizes_.tile.rows, kStripRows);
    const Range seeing = sight_.rows(item_.cols, seq_.q_len);
    sum_rows({seeing.begin / rows * rows, std::min(round_up(seeing.end, rows), seq_.q_len)});
    begin_dq();
    for (std::int64_t j = item_.cols.begin; j < item_.cols.end; j += cols) {
      enter_block({j, std::min(j + cols, item_.cols.end)});
      const Range visible = sight_.rows(block_, seq_.q_len);
      for (std::int64_t i = visible.begin / rows * rows; i < visible.end; i += rows) tile({i, std::min(i + rows, seq_.q_len)});
      store_block();
    }
    complete_dq(seeing);
  }

 private:
  Panels packed_key_rows() const { return {s_.key_rows, sizes_.ld_dq, kPanel}; }

  // Those that an item before has not left.
  void sum_rows(Range rows) {
    Range& summed = *item_.summed;
    if (rows.begin < summed.begin || rows.begin > summed.end) summed = {rows.begin, rows.begin};
    Base::sum_rows({summed.end, rows.end});
    summed.end = std::max(summed.end, rows.end);
  }

  float* dq_row(std::int64_t row) const { return item_.dq + row * sizes_.ld_dq; }

  // The first sum of a strip is written, the others are added; those of few rows are all added.
  void begin_dq() {
    if (item_.dq == nullptr) return;
    if (narrow_) std::fill(dq_row(0), dq_row(seq_.q_len), 0.0f);
    std::fill(s_.dq_begun, s_.dq_begun + seq_.q_len / kStripRows + 1, narrow_ || item_.adds);
  }

  // Of rows from which bytes hid everything.
  void complete_dq(Range rows) {
    if (item_.dq == nullptr) return;
    for (std::int64_t i = rows.begin / kStripRows * kStripRows; i < rows.end; i += kStripRows)
      if (!s_.dq_begun[i / kStripRows]) std::fill(dq_row(i), dq_row(std::min(i + kStripRows, seq_.q_len)), 0.0f);
  }

  void enter_block(Range block) {
    Base::enter_columns(block);
    begun_ = stored_ = false;
    if (!narrow_) begin_sums();
  }

  void begin_sums() {
    begun_ = true;
    pack_key_rows(false);
    std::fill(s_.dkv_begun, s_.dkv_begun + block_.size() / kStripRows + 1, false);
  }

  // Of columns that no tile has seen yet.
  void complete_sums() {
    for (std::int64_t j = 0; j < block_.size(); j += kStripRows) {
      if (std::exchange(s_.dkv_begun[j / kStripRows], true)) continue;
      const std::int64_t end = std::min(j + kStripRows, block_.size());
      std::fill(s_.dk + j * sizes_.ld_dq, s_.dk + end * sizes_.ld_dq, 0.0f);
      std::fill(s_.dv + j * sizes_.ld_dv, s_.dv + end * sizes_.ld_dv, 0.0f);
    }
  }

  void pack_key_rows(bool clean) {
    const Timed timed(p_, Stage::pack);
    keys_finite_ = pack_pairs<Mac>(k_, packed_key_rows());
    if (clean) Mac::clean_words(s_.key_rows, words<Mac>(block_.size()) * sizes_.ld_dq);
    keys_cleaned_ = clean;
  }

  void tile(Range rows) {
    const auto [any, hides] = Base::look_at(rows);
    if (!any) return;
    find_whole(rows);
    const bool rows_finite = Base::pack(rows);
    const bool by_panels = sees_all(rows);
    if (!by_panels) Base::in_parts(rows, [this](Range part) { multiply(part), differentiate(part); });
    if (narrow_ && !hides) return multiply_unpacked(rows.size());
    if (!begun_) begin_sums();
    clean(rows, hides && !rows_finite, hides && !keys_finite_);
    by_panels ? sum_by_panels(rows) : sum_columns(rows.size());
    const Timed timed(p_, Stage::products);
    if (item_.dq == nullptr) return;
    bool* const begun = s_.dq_begun + rows.begin / kStripRows;
    sum_products<Mac, false>(s_.ds_rows, sizes_.ld_ds_rows(), packed_key_rows(), s_.hulls, rows.size(), p_.dim, dq_row(rows.begin), sizes_.ld_dq, begun);
    begin_strips(begun, s_.hulls, rows.size());
    if (keys_cleaned_) add_nonfinite_keys(rows);
  }

  // Where pairs of rows of P and dX lie: those of all columns, or of a panel alone.
  struct Pairs {
    std::int64_t ld, first;  // words from pair to pair; the first column
  };
  Pairs all_pairs() const { return {sizes_.ld_scores, 0}; }
  static Pairs pairs_of_panel(std::int64_t first) { return {leading(kPanel), first}; }

  // dV and dK of a tile.
  void sum_columns(std::int64_t rows) {
    const Timed timed(p_, Stage::products);
    rows_that_see(s_.hulls, rows, block_.size(), s_.column_hulls);
    sum_pairs(all_pairs(), block_.size(), s_.dkv_begun);
    begin_strips(s_.dkv_begun, s_.column_hulls, block_.size());
  }

  // The same of a tile whose rows all see every column, P and dX included, a panel of columns at a time: their pairs of rows then take a panel's
  // room of the second-level cache, which what a tile keeps would overflow. In long sequences this gains 0.4 to 1.1 %, and nothing in float32, where
  // a tile keeps more than that beside them.
  void sum_by_panels(Range rows) {
    if constexpr (kGoesByPanels) {
      bool* const end = s_.dkv_begun + strips_of(block_.size());
      const bool begun = std::find(s_.dkv_begun, end, true) != end;
      if (begun) complete_sums();
      std::fill(s_.column_hulls, s_.column_hulls + strips_of(kPanel), Range{0, rows.size()});
      for (std::int64_t j = 0; j < block_.size(); j += kPanel) {
        finish_panel(rows, j, pairs_of_panel(j));
        const Timed timed(p_, Stage::products);
        sum_pairs(pairs_of_panel(j), kPanel, begun ? nullptr : s_.dkv_begun);
      }
      std::fill(s_.dkv_begun, end, true);
    }
  }

  // Of the columns that these pairs of rows are about.
  void sum_pairs(Pairs pairs, std::int64_t columns, const bool* begun) {
    const auto sum = [&](const float* a, const Panels& b, std::int64_t dim, float* sums, std::int64_t ld) {
      sum_products<Mac, true>(a, pairs.ld, b, s_.column_hulls, columns, dim, sums + pairs.first * ld, ld, begun);
    };
    sum(s_.p_pairs, d_out_pairs(), p_.dim_v, s_.dv, sizes_.ld_dv);
    sum(s_.ds_pairs, q_pairs(), p_.dim, s_.dk, sizes_.ld_dq);
  }

  // Everything of few rows, all that there are, where nothing is hidden and no 0 meets a NaN.
  void multiply_unpacked(std::int64_t rows) {
    const Timed timed(p_, Stage::products);
    if (item_.dq != nullptr) narrow_sum_products<Mac>(s_.d_scores, sizes_.ld_scores, k_, rows, item_.dq, sizes_.ld_dq, true);
    for (std::int64_t i = rows; i < kNarrowLines; ++i) {
      std::fill(probabilities(i), probabilities(i) + block_.size(), 0.0f);
      std::fill(d_scores(i), d_scores(i) + block_.size(), 0.0f);
    }
    with_results([&](auto* dk, std::int64_t dk_stride, auto* dv, std::int64_t dv_stride) {
      if (dk != nullptr)
        narrow_outer_products(s_.d_scores, sizes_.ld_scores, s_.q, sizes_.ld_q, rows, scaling_.keys, dk, dk_stride, block_.size(), p_.dim);
      if (dv != nullptr)
        narrow_outer_products(s_.probabilities, sizes_.ld_scores, s_.d_out, sizes_.ld_v, rows, keeping_.inverse(), dv, dv_stride, block_.size(), p_.dim_v);
    });
    stored_ = true;
  }

  // Panels that all rows of a strip see are differentiated while their sums are in registers, where nothing else is to be known for that.
  void find_whole(Range rows) {
    some_whole_ = false;
    if (!kFinishesTiles || narrow_ || terms_.present() || keeping_.active() || std::max(sizes_.q_words, sizes_.v_words) > kDepthChunk) return;
    if (Base::all_at_hand()) return;
    const Range all = sight_.common(rows, seq_.kv_len);
    const bool beyond = all.begin < block_.begin || all.end > block_.end;
    for (std::int64_t i = 0; i < rows.size(); i += kStripRows) s_.whole[i / kStripRows] = {Base::hull(i).begin, Base::hull(i).begin};
    for (std::int64_t i = 0; i + kStripRows <= rows.size(); i += kStripRows) {
      Range common = seen_by_all(s_.seen + i, kStripRows);
      for (std::int64_t m = i; m < i + kStripRows && !beyond; ++m)
        if (Base::at_hand(rows.begin + m)) common = {};
      const Range whole{round_up(common.begin, kPanel), common.end / kPanel * kPanel};
      if (whole.empty()) continue;
      s_.whole[i / kStripRows] = whole;
      some_whole_ = true;
    }
  }

  // Whether all panels are whole, of all strips.
  bool sees_all(Range rows) const {
    if (!kGoesByPanels || !some_whole_ || rows.size() % kStripRows != 0) return false;
    return std::all_of(s_.whole, s_.whole + rows.size() / kStripRows, [this](Range whole) { return whole.size() == width(); });
  }

  // S and dP; of whole panels P and dX.
  void multiply(Range rows) {
    if constexpr (kFinishesTiles)
      if (some_whole_) return multiply_and_finish(rows);
    Base::multiply(rows);
  }

  void multiply_and_finish(Range rows) requires(Mac::kDepth == 1) {
    const Range columns{0, width()};
    Base::multiply_scores(rows, columns);
    exponentiate_whole(rows);
    Base::multiply_values(rows, columns, [=, this](std::int64_t i, std::int64_t j, const Sums& dp) FUSEDATTN_ALWAYS {
      const float* const delta = s_.delta + rows.begin + i;
#pragma GCC unroll 16
      for (int m = 0; m < kStripRows; ++m)
#pragma GCC unroll 16
        for (int n = 0; n < kPanelVectors; ++n)
          store(d_scores(i + m) + j + n * kLanes, score_gradient(load(probabilities(i + m) + j + n * kLanes), dp[m][n], broadcast(delta[m])));
    });
  }

  void exponentiate_whole(Range rows) {
    const Timed timed(p_, Stage::softmax);
    for (std::int64_t i = 0; i < rows.size(); ++i) Base::exponentiate(probabilities(i), s_.whole[i / kStripRows], Base::template normalize<Of::products>(rows.begin + i));
  }

  void multiply_and_finish(Range rows) requires(Mac::kDepth > 1) {
    for (std::int64_t j = 0; j < width(); j += kPanel) finish_panel(rows, j, all_pairs());
  }

  void finish_panel(Range rows, std::int64_t panel, Pairs pairs) {
    Base::multiply_scores(rows, {panel, panel + kPanel}, [=, this](std::int64_t i, std::int64_t, Sums& s) FUSEDATTN_ALWAYS {
#pragma GCC unroll 16
      for (int m = 0; m < kStripRows; ++m) {
        Base::template normalize<Of::products>(rows.begin + i + m)(s[m]);
#pragma GCC unroll 16
        for (int n = 0; n < kPanelVectors; ++n) store(s_.panel + (i + m) * kPanel + n * kLanes, s[m][n]);
      }
    });
    Base::multiply_values(rows, {panel, panel + kPanel}, [=, this](std::int64_t i, std::int64_t j, const Sums& dp) FUSEDATTN_ALWAYS {
      const float* const p = s_.panel + i * kPanel;
#pragma GCC unroll 16
      for (int m = 0; m < kStripRows; m += 2) {
        const TwoRows to = two_rows(i + m, pairs);
#pragma GCC unroll 16
        for (int n = 0; n < kPanelVectors; ++n) {
          const F32 even = load(p + m * kPanel + n * kLanes), odd = load(p + (m + 1) * kPanel + n * kLanes);
          to.store_words(j - pairs.first + n * kLanes, even, odd, mul(even, dp[m][n]), mul(odd, dp[m + 1][n]));
        }
      }
    });
  }

  // Where P and dX of two rows become words; dX is rounded once for both forms.
  struct TwoRows {
    float *p_pairs, *ds_pairs, *ds_rows;
    std::int64_t ld;
    FUSEDATTN_INLINE void store_words(std::int64_t j, F32 p, F32 next_p, F32 ds, F32 next_ds) const {
      store(p_pairs + j, Mac::pair(p, next_p));
      store(ds_pairs + j, Mac::pair(ds, next_ds));
      Mac::store_two_rows(ds_rows, ld, j, ds, next_ds);
    }
  };
  FUSEDATTN_INLINE TwoRows two_rows(std::int64_t i, Pairs pairs) const {
    const std::int64_t before = i / 2 * pairs.ld, ld = sizes_.ld_ds_rows();
    return {s_.p_pairs + before, s_.ds_pairs + before, s_.ds_rows + i * ld + words<Mac>(pairs.first), ld};
  }

  // What sums over rows read of a row. With bands alone the rows that see a strip of columns follow one another, so a row that is read sees
  // a column of that strip; bytes may hide it from any of them.
  Range read_of(Range hull) const {
    constexpr std::int64_t kReach = round_up(kStripRows, kLanes);
    return p_.mask.bytes.data != nullptr ? Range{0, width()} : meet({hull.begin - kReach, hull.end + kReach}, {0, width()});
  }

  // P (where dropout keeps it) and dX of what is left of a tile, in the forms that products read: in place, or two rows at once.
  void differentiate(Range rows) {
    const std::int64_t ld = sizes_.ld_scores;
    const auto clear = [this](float* row, Range hull) {
      const Range reach = read_of(hull);
      if (hull.size() < reach.size()) hide_outside(row, reach, hull, zero());
    };
    if constexpr (Mac::kDepth == 1) {
      Base::template differentiate<1, Of::products>(rows, [&]<class Keep>(std::int64_t i, const RowGradient<Keep>& gradient) FUSEDATTN_ALWAYS {
        const Range hull = this->hull(i);
        float *const p = s_.p_pairs + i * ld, *const ds = s_.ds_pairs + i * ld;
        clear(p, hull), clear(ds, hull);
        for (const Range part : Base::rest(i))
          for (std::int64_t j = part.begin; j < part.end; j += kLanes) {
            store(ds + j, gradient.d_score(j));
            if constexpr (!std::is_same_v<Keep, KeepAll>) store(p + j, gradient.probability(j));
          }
      });
    } else {
      Base::template differentiate<2, Of::products>(rows, [&](std::int64_t i, const auto& above, const auto& below) FUSEDATTN_ALWAYS {
        const TwoRows to = two_rows(i, all_pairs());
        clear(to.p_pairs, this->hull(i)), clear(to.ds_pairs, this->hull(i));
        for (const Range part : Base::rest(i))
          for (std::int64_t j = part.begin; j < part.end; j += kLanes)
            to.store_words(j, above.probability(j), below.probability(j), above.d_score(j), below.d_score(j));
      });
    }
  }

  // See Note [What is hidden may be NaN].
  void clean(Range rows, bool clean_rows, bool clean_keys) {
    if (clean_rows) {
      complete_sums();
      Mac::clean_words(s_.q_pairs, words<Mac>(rows.size()) * sizes_.q_pair_stride());
      Mac::clean_words(s_.d_out_pairs, words<Mac>(rows.size()) * sizes_.d_out_pair_stride());
      add_nonfinite_rows(rows);
    }
    if (keys_cleaned_ != clean_keys) pack_key_rows(clean_keys);
  }

  float d_score(std::int64_t i, std::int64_t j) const { return Mac::of_row(s_.ds_rows + i * sizes_.ld_ds_rows(), j); }

  void add_nonfinite_rows(Range rows) {
    alignas(64) float q[kMostFeatures + kLanes], d_out[kMostFeatures + kLanes];
    for (std::int64_t i = 0; i < rows.size(); ++i) {
      const std::int64_t row = rows.begin + i;
      const bool some_q = nonfinite_part(at(p_.q, item_.head, seq_.q_begin + row), p_.dim, q);
      const bool some_d_out = nonfinite_part(at(p_.d_out, item_.head, seq_.q_begin + row), p_.dim_v, d_out);
      if (!some_q && !some_d_out) continue;
      for (std::int64_t j = 0; j < block_.size(); ++j) {
        if (!sees(s_.seen[i], bytes_of_row(row), p_.mask.bytes.nonzero_hides, j)) continue;
        if (some_q) add_weighted(s_.dk + j * sizes_.ld_dq, d_score(i, j) * scaling_.queries, q, p_.dim);
        if (some_d_out) add_weighted(s_.dv + j * sizes_.ld_dv, Mac::of_pairs(s_.p_pairs, sizes_.ld_scores, i, j), d_out, p_.dim_v);
      }
    }
  }

  // After the product with cleaned keys.
  void add_nonfinite_keys(Range rows) {
    alignas(64) float k[kMostFeatures + kLanes];
    for (std::int64_t j = 0; j < block_.size(); ++j) {
      if (!nonfinite_part(k_.row(j), p_.dim, k)) continue;
      for (std::int64_t i = 0; i < rows.size(); ++i)
        if (sees(s_.seen[i], bytes_of_row(rows.begin + i), p_.mask.bytes.nonzero_hides, j))
          add_weighted(dq_row(rows.begin + i), d_score(i, j), k, p_.dim);
    }
  }

  // dK and dV of the block: rounded to their place, or left as float32 for the sum over the heads of a group.
  void store_block() {
    if (stored_) return;
    if (!begun_) begin_sums();
    complete_sums();
    with_results([this](auto* dk, std::int64_t dk_stride, auto* dv, std::int64_t dv_stride) {
      store_rows(dk, dk_stride, s_.dk, sizes_.ld_dq, block_.size(), p_.dim, scaling_.keys);
      store_rows(dv, dv_stride, s_.dv, sizes_.ld_dv, block_.size(), p_.dim_v, keeping_.inverse());
    });
  }

  // Calls store(dk, stride, dv, stride) with where the results of the block belong; null where one is not wanted.
  template <class Store>
  void with_results(const Store& store) const {
    if (item_.dkv != nullptr)
      return store(item_.dkv + block_.begin * sizes_.ld_dq, sizes_.ld_dq, item_.dkv + seq_.kv_len * sizes_.ld_dq + block_.begin * sizes_.ld_dv, sizes_.ld_dv);
    const auto first = [this](const View& view) {
      return view.data == nullptr ? nullptr : reinterpret_cast<T*>(row_of(p_, view, item_.b, item_.head, seq_.kv_begin + block_.begin));
    };
    store(first(p_.dk), p_.dk.row_stride, first(p_.dv), p_.dv.row_stride);
  }

  const BackwardItem& item_;
  bool begun_ = false, stored_ = false;  // sums of the block; its results
  bool keys_finite_ = true, keys_cleaned_ = false;
};
