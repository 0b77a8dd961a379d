// The gradients of the scores of one query head, tile by tile: what every gradient of attention is a sum of.
//
//   forward:   x = scale q.k (+ bias ...)      P = exp(x - max) / sum      out = Pd V,  Pd = keep / keep_prob * P
//   for each block of columns:                 pack keys and values
//     for each tile of rows that sees it:      S = Q K^T                      dP = dO V^T * keep / keep_prob
//                                              P = exp(x - max) / sum         dX = P * (dP - delta)      dS = dX * slope of a cap
//   delta = sum_d dO * out
//
// Probabilities come from the saved statistics, so nothing S x S is kept.

FUSEDATTN_INLINE F32 score_gradient(F32 p, F32 dp, F32 delta) { return mul(p, sub(dp, delta)); }

// What score gradients are of: x, to which a bias is added, whose gradients are summed in float32; or s, whose gradients products read as words.
enum class Of { sums, products };

// The probabilities P of a row from its scores: at most 1 / sum, whatever the rounding of max and of the products, but for the error of the
// polynomial; with statistics of other scores, whatever it comes to.
template <class Mac, Of kOf>
struct Normalize {
  float row_max, exponent, shift, most;
  template <int kVectors>
  FUSEDATTN_INLINE void operator()(F32 (&x)[kVectors]) const {
#pragma GCC unroll 16
    for (int n = 0; n < kVectors; ++n) x[n] = min(broadcast(most), fma(sub(x[n], broadcast(row_max)), broadcast(exponent), broadcast(shift)));
    if constexpr (kOf == Of::products && Mac::kDepth > 1)
      exp2(x, Mac::kPowerOf8Bits);
    else
      exp2(x);
  }
};

// The probabilities P of a row, of which dropout keeps some, and the gradients dP of those that it keeps, to be read once: at every vector
// of the hull of its strip.
template <class Keep>
struct RowGradient {
  const float *p, *dp;
  F32 delta;  // what is to be subtracted from dp
  Keep keep;
  FUSEDATTN_INLINE F32 probability(std::int64_t j) const { return keep(load(p + j), j); }
  FUSEDATTN_INLINE F32 d_score(std::int64_t j) const { return score_gradient(load(p + j), load(dp + j), delta); }
};

template <class T, class Mac>
class ScoreGradients {
  // Sums of dP begin with -delta: subtracted afterwards it costs a backward of bfloat16 0.4 to 0.8 %. One of float32 would gain nothing, and pays for
  // it in every tile where tiles are small (AVX2, 1 % of instructions).
  static constexpr bool kBeginsWithDelta = Mac::kDepth > 1;

 public:
  ScoreGradients(const Problem& p, std::int64_t b, std::int64_t head, std::int64_t scores_before, void* scratch)
      : p_(p),
        b_(b),
        head_(head),
        seq_(sequence(p, b)),
        narrow_(Mac::kDepth == 1 && is_narrow(p, seq_.q_len)),
        sight_(sight_of(p, b)),
        scaling_(ScoreTerms::scaling_of<Mac>(p)),
        terms_(p, seq_, b, scores_before, scaling_),
        keeping_(p, seq_, scores_before),
        sizes_(p, seq_.q_len, backward_tile_of<Mac>(p)) {
    Arena arena(scratch);
    s_ = sizes_.lay(arena);
  }

  // Maximum, in units of the products, base-2 logarithm of the sum, delta, and the part of 1 that the probabilities of keys are, of
  // every row. Rows that saw nothing get the logarithm +inf: their probabilities become 0.
  void sum_rows(Range rows) {
    for (std::int64_t i = rows.begin; i < rows.end; ++i) {
      const std::int64_t stats = stats_offset(p_, seq_, b_, head_, i);
      const float row_max = p_.stats.max[stats], row_sum = p_.stats.sum[stats];
      const bool nothing = row_sum >= FLT_MAX || row_sum == 0.0f;
      s_.row_max[i] = nothing ? 0.0f : row_max / scaling_.unit;
      s_.log_sum[i] = nothing ? kInfinity : std::log2(row_sum);
      s_.mass[i] = p_.sink != nullptr ? 1.0f - sink_probability(p_.sink[head_], row_max, row_sum) : 1.0f;
      const T* out = at(p_.out, head_, seq_.q_begin + i);
      const T* d_out = at(p_.d_out, head_, seq_.q_begin + i);
      F32 total = zero();
      std::int64_t d = 0;
      for (; d + kLanes <= p_.dim_v; d += kLanes) total = fma(load(out + d), load(d_out + d), total);
      if (d < p_.dim_v) total = fma(load_some(out + d, p_.dim_v - d), load_some(d_out + d, p_.dim_v - d), total);
      s_.delta[i] = sum(total);
    }
  }

  static float sink_probability(float sink, float row_max, float row_sum) {
    return row_sum == 0.0f || sink == -kInfinity ? 0.0f : std::exp(sink - row_max) / row_sum;
  }

 protected:
  const T* at(const View& view, std::int64_t head, std::int64_t row) const {
    return reinterpret_cast<const T*>(row_of(p_, view, b_, head, row));
  }
  Panels q_pairs() const { return {s_.q_pairs, sizes_.q_pair_stride(), kPanel}; }
  Panels d_out_pairs() const { return {s_.d_out_pairs, sizes_.d_out_pair_stride(), kPanel}; }
  float* probabilities(std::int64_t i) const { return s_.probabilities + i * sizes_.ld_scores; }
  float* d_scores(std::int64_t i) const { return s_.d_scores + i * sizes_.ld_scores; }
  std::int64_t width() const { return round_up(block_.size(), kPanel); }
  Rows<T> rows_of(const View& view, std::int64_t head, std::int64_t before, Range rows, std::int64_t elements) const {
    return {at(view, head, before + rows.begin), view.row_stride, rows.size(), elements};
  }
  // At the first column of the block; null without bytes.
  const std::uint8_t* bytes_of_row(std::int64_t row) const {
    return bytes_of(p_, seq_, b_, head_, row, block_.begin);
  }

  void enter_columns(Range block) {
    const Timed timed(p_, Stage::pack);
    block_ = block;
    const std::int64_t kv_head = head_ / p_.group();
    k_ = rows_of(p_.k, kv_head, seq_.kv_begin, block, p_.dim);
    v_ = rows_of(p_.v, kv_head, seq_.kv_begin, block, p_.dim_v);
    if (narrow_) return;
    pack_transposed<Mac>(k_, s_.keys, sizes_.key_panel());
    pack_transposed<Mac>(v_, s_.values, sizes_.value_panel());
  }

  // What each row sees of the block.
  Looked look_at(Range rows) { return look(p_, seq_, sight_, b_, Lines{head_, rows}, {0, rows.size()}, block_, s_.seen, s_.hulls); }

  // The rows of a tile; false if a query or an output gradient is not finite.
  bool pack(Range rows) {
    const Timed timed(p_, Stage::pack);
    if constexpr (kBeginsWithDelta) begin_with_delta(rows);
    const Rows<T> q = rows_of(p_.q, head_, seq_.q_begin, rows, p_.dim), d_out = rows_of(p_.d_out, head_, seq_.q_begin, rows, p_.dim_v);
    s_.q_rows = {s_.q, sizes_.ld_q}, s_.d_out_rows = {s_.d_out, sizes_.ld_v};
    bool finite = lay(q, scaling_.queries, s_.q_rows);
    finite = lay(d_out, 1.0f, s_.d_out_rows) && finite;
    if (narrow_) {
      std::fill(s_.q + rows.size() * sizes_.ld_q, s_.q + kNarrowLines * sizes_.ld_q, 0.0f);
      std::fill(s_.d_out + rows.size() * sizes_.ld_v, s_.d_out + kNarrowLines * sizes_.ld_v, 0.0f);
    }
    if constexpr (Mac::kDepth > 1) {
      finite = pack_pairs<Mac>(q, q_pairs()) && finite;
      finite = pack_pairs<Mac>(d_out, d_out_pairs()) && finite;
      if (scaling_.queries != 1.0f) Mac::multiply_words(s_.q_pairs, words<Mac>(rows.size()) * sizes_.ld_dq, scaling_.queries);
    }
    return finite;
  }

  // Calls act(rows) with the rows of a packed tile part by part. Row i of the scratch is that of the part meanwhile.
  template <class Act>
  void in_parts(Range rows, const Act& act) {
    const BackwardScratch all = s_;
    for (std::int64_t i = rows.begin; i < rows.end; i += sizes_.part_rows()) {
      s_ = sizes_.from_row(all, i - rows.begin);
      act(Range{i, std::min(i + sizes_.part_rows(), rows.end)});
    }
    s_ = all;
  }

  // S = Q K^T and dP = dO V^T of a part; with kBeginsWithDelta dP - delta, where delta is known by now and no dropout comes between.
  void multiply(Range rows) {
    if (!narrow_) return multiply_scores(rows, {0, width()}), multiply_values(rows, {0, width()});
    const Timed timed(p_, Stage::scores);
    narrow_inner_products<Mac>(s_.q, sizes_.ld_q, k_, rows.size(), s_.probabilities, sizes_.ld_scores);
    narrow_inner_products<Mac>(s_.d_out, sizes_.ld_v, v_, rows.size(), s_.d_scores, sizes_.ld_scores);
  }

  // Of some columns. Panels of `whole` are not stored, finish(i, j, sums) gets them.
  template <class Finish = NoFinish>
  void multiply_scores(Range rows, Range columns, const Finish& finish = {}) {
    const Timed timed(p_, Stage::scores);
    inner_products<Mac>(s_.q_rows.data, s_.q_rows.ld, s_.keys, sizes_.q_words, rows.size(), columns, s_.hulls, s_.probabilities, sizes_.ld_scores, s_.whole, finish);
  }
  template <class Finish = NoFinish>
  void multiply_values(Range rows, Range columns, const Finish& finish = {}) {
    const Timed timed(p_, Stage::scores);
    const WordRows d_out = s_.d_out_rows;
    const auto product = [&](auto... first) {
      inner_products<Mac>(d_out.data, d_out.ld, s_.values, sizes_.v_words, rows.size(), columns, s_.hulls, s_.d_scores, sizes_.ld_scores, s_.whole, finish, first...);
    };
    if constexpr (kBeginsWithDelta)
      product(static_cast<const float*>(s_.first));
    else
      product();
  }

  // Dropout multiplies dP before delta is subtracted.
  bool begins_with_delta() const { return kBeginsWithDelta && !keeping_.active(); }
  void begin_with_delta(Range rows) {
    if (!begins_with_delta() || all_at_hand()) return std::fill(s_.first, s_.first + rows.size(), 0.0f);
    for (std::int64_t i = 0; i < rows.size(); ++i) s_.first[i] = at_hand(rows.begin + i) ? 0.0f : -s_.delta[rows.begin + i];
  }

  // Calls visit(i, gradients...) with the gradients of rows i, i + 1, ... of a part, so many at once; beyond the last row they are 0.
  template <int kAtOnce, Of kOf, class Visit>
  void differentiate(Range rows, const Visit& visit) {
    static_assert(kAtOnce == 1 || kAtOnce == 2);
    const Timed timed(p_, Stage::softmax);
    terms_.enter(rows, block_, s_.distances);
    const auto each = [&](const auto& of_row) {
      for (std::int64_t i = 0; i < rows.size(); i += kAtOnce) {
        if (some_whole_ && s_.whole[i / kStripRows].size() == width()) continue;
        const auto first = of_row(i);
        if constexpr (kAtOnce == 1)
          visit(i, first);
        else
          visit(i, first, i + 1 < rows.size() ? of_row(i + 1) : no_row(i + 1, first.keep));
      }
    };
    if (keeping_.active())
      each([&](std::int64_t i) { return differentiate_row<kOf>(i, rows.begin + i, kept(i, rows.begin + i)); });
    else
      each([&](std::int64_t i) { return differentiate_row<kOf>(i, rows.begin + i, KeepAll{}); });
  }

  // The columns of the hull of a row's strip, in whole vectors: what gradients of rows are about. Outside everything is 0.
  Range hull(std::int64_t i) const { return whole_vectors(s_.hulls[i / kStripRows]); }
  // What is left of it beside whole panels.
  auto rest(std::int64_t i) const {
    const Range hull = this->hull(i);
    if constexpr (kFinishesTiles) {
      const Range whole = some_whole_ ? s_.whole[i / kStripRows] : Range{hull.begin, hull.begin};
      return std::array{Range{hull.begin, whole.begin}, Range{whole.end, hull.end}};
    } else {
      return std::array{hull};
    }
  }

  template <Of kOf>
  Normalize<Mac, kOf> normalize(std::int64_t row) const {
    const float shift = -s_.log_sum[row];
    return {s_.row_max[row], scaling_.exponent, shift, p_.foreign_stats ? kMostExponent : shift};
  }

  template <Of kOf>
  static void exponentiate(float* p, Range columns, const Normalize<Mac, kOf> normalize) {
    for (std::int64_t j = columns.begin; j < columns.end; j += kPanel) {
      F32 x[kPanelVectors];
#pragma GCC unroll 16
      for (int n = 0; n < kPanelVectors; ++n) x[n] = load(p + j + n * kLanes);
      normalize(x);
#pragma GCC unroll 16
      for (int n = 0; n < kPanelVectors; ++n) store(p + j + n * kLanes, x[n]);
    }
  }

  // Whether delta of a row can be found from all its P and dP; see delta_of().
  bool at_hand(std::int64_t row) const {
    if constexpr (sizeof(T) == sizeof(float)) return false;
    const Range columns = sight_.columns({row, row + 1}, seq_.kv_len);
    return columns.begin >= block_.begin && columns.end <= block_.end;
  }

  bool all_at_hand() const { return sizeof(T) < sizeof(float) && block_.size() == seq_.kv_len; }

  const Problem& p_;
  const std::int64_t b_, head_;
  const Sequence seq_;
  const bool narrow_;
  const Sight sight_;
  const Scaling scaling_;
  ScoreTerms terms_;
  const Keeping keeping_;
  const BackwardSizes<Mac> sizes_;
  BackwardScratch s_;
  Range block_;
  bool some_whole_ = false;  // of the tile: whether any strip has whole panels
  Rows<T> k_{}, v_{};  // of the block

 private:
  // Packs rows where `to` says, or makes it say where they lie as words already. False if something packed is not finite.
  static bool lay(const Rows<T>& rows, float factor, WordRows& to) {
    if (factor != 1.0f || !lie_as_words<Mac>(rows)) return pack_rows<Mac>(rows, const_cast<float*>(to.data), to.ld, factor);
    to = {reinterpret_cast<const float*>(rows.data), rows.stride / Mac::kDepth};
    return true;
  }

  // What is hidden becomes 0 before anything is summed: until then it may hold anything, NaN included.
  template <Of kOf, class Keep>
  FUSEDATTN_INLINE RowGradient<Keep> differentiate_row(std::int64_t i, std::int64_t row, const Keep& keep) {
    const Range hull = this->hull(i), seen = s_.seen[i].columns;
    float *p = probabilities(i), *dp = d_scores(i);
    if (terms_.present()) terms_.add(p, head_, row, seen, s_.cap_slopes);
    for (const Range part : rest(i))
      if (!part.empty()) exponentiate(p, part, normalize<kOf>(row));
    hide(p, i, row);
    hide(dp, i, row);
    if constexpr (!std::is_same_v<Keep, KeepAll>)
      for (std::int64_t j = hull.begin; j < hull.end; j += kLanes) store(dp + j, keep(mul(load(dp + j), broadcast(keeping_.inverse())), j));
    float delta = delta_of(i, row);
    const float* slopes = kOf == Of::products ? s_.cap_slopes : nullptr;
    if (slopes != nullptr || !std::isfinite(delta)) subtract(dp, i, row, std::exchange(delta, 0.0f), slopes);
    return {p, dp, broadcast(delta), keep};
  }

  template <class Keep>
  RowGradient<Keep> no_row(std::int64_t i, const Keep& keep) {
    std::fill(probabilities(i), probabilities(i) + width(), 0.0f);
    std::fill(d_scores(i), d_scores(i) + width(), 0.0f);
    return {probabilities(i), d_scores(i), zero(), keep};
  }

  KeepSome kept(std::int64_t i, std::int64_t row) const {
    std::uint16_t* const room = s_.words + i % 2 * Keeping::room(sizes_.tile.cols);
    return {keeping_.words(head_, row, block_, s_.seen[i].columns, room), keeping_.threshold()};
  }

  // (dP - delta) times the slopes of a cap, where a row sees something.
  void subtract(float* dp, std::int64_t i, std::int64_t row, float delta, const float* slopes) {
    for (const Range part : rest(i))
      for (std::int64_t j = part.begin; j < part.end; j += kLanes) store(dp + j, sub(load(dp + j), broadcast(delta)));
    if (slopes != nullptr) multiply_by_slopes(dp, slopes, s_.seen[i].columns);
    hide(dp, i, row);
  }

  FUSEDATTN_INLINE void hide(float* values, std::int64_t i, std::int64_t row) {
    const Range hull = this->hull(i), seen = seen_inside(s_.seen[i], hull);
    hide_outside(values, hull, seen, zero());
    if (s_.seen[i].holes) hide_holes(values, bytes_of_row(row), p_.mask.bytes.nonzero_hides, seen, 0.0f);
  }

  // What of delta is still to be subtracted. delta is also sum_j P dP. Where all columns of a row are at hand, which shows in the sum of P, that is as
  // exact as float32; dO * out has the rounding of a 16-bit out, which shows in rows that see few columns. What is summed is by how much dP differs from
  // that: a key that is alone then gives its score exactly no gradient, however P was rounded.
  float delta_of(std::int64_t i, std::int64_t row) const {
    if (!at_hand(row)) return begins_with_delta() ? 0.0f : s_.delta[row];
    const Range hull = this->hull(i);
    const float *p = probabilities(i), *dp = d_scores(i), rough = std::isfinite(s_.delta[row]) ? s_.delta[row] : 0.0f;
    const F32 subtrahend = broadcast(rough);
    F32 weighted = zero(), total = zero();
    for (std::int64_t j = hull.begin; j < hull.end; j += kLanes) {
      weighted = fma(load(p + j), sub(load(dp + j), subtrahend), weighted);
      total = add(total, load(p + j));
    }
    constexpr float kRounding = 0x1p-12f;
    const float mass = s_.mass[row], found = sum(total);
    return std::fabs(found - mass) <= kRounding && found > 0.0f ? (rough + sum(weighted) / found) * mass : s_.delta[row];
  }
};
