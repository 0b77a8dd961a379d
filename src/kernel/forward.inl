// Attention of the query heads that share a key head, for a range of rows against all columns.
//
//   for each block of columns:   pack keys (transposed) and values once
//     for each tile of lines:    S = Q K^T      P, shrink = softmax(S)      O = O * shrink + P V
//   out = O / sum                      (P only where dropout keeps it, then out / keep_prob; the sink joins the sum)
//
// A line is a row of one of the heads; lines of all heads lie one after another, so that even a single row per head makes
// full strips. Each strip multiplies only with the columns that one of its rows sees: what a mask empties is never computed.
template <class T, class Mac>
class Forward {
 public:
  Forward(const Problem& p, const ForwardItem& item, void* scratch, const ForwardParts& parts)
      : p_(p),
        item_(item),
        parts_(parts),
        seq_(sequence(p, item.b)),
        narrow_(is_narrow(p, seq_.q_len * p.group())),
        sight_(sight_of(p, item.b)),
        lines_{item.kv_head * p.group(), item.rows},
        scaling_(ScoreTerms::scaling_of<Mac>(p)),
        terms_(p, seq_, item.b, item.scores_before, scaling_),
        keeping_(p, seq_, item.scores_before),
        sizes_(p, narrow_ ? narrow_tile_of<Mac>(p) : forward_tile_of<Mac>(p), item.rows.size() * p.group()) {
    Arena arena(scratch);
    s_ = sizes_.lay(arena);
    sums_ = item.parts > 1 ? sums_of(item.part) : sizes_.lay_sums(arena);
  }

  void run() {
    start();
    const Range visible = meet(item_.cols, sight_.columns(item_.rows, seq_.kv_len));
    const std::int64_t cols = sizes_.tile.cols, rows = sizes_.tile.rows;
    for (std::int64_t j = visible.begin / cols * cols; j < visible.end; j += cols) {
      enter_block({std::max(j, item_.cols.begin), std::min(j + cols, item_.cols.end)});
      for (std::int64_t line = 0; line < sizes_.lines; line += rows) tile({line, std::min(line + rows, sizes_.lines)});
    }
    if (item_.parts == 1) finish();
  }

  // Of an item whose parts are all there: adds them up in their order.
  void merge() {
    sums_ = sums_of(0);
    for (std::int64_t part = 1; part < item_.parts; ++part) {
      const ForwardSums other = sums_of(part);
      for (std::int64_t line = 0; line < sizes_.lines; ++line)
        if (other.begun[line / kStripRows]) add(other, line);
      for (std::int64_t strip = 0; strip < sizes_.strips(); ++strip) sums_.begun[strip] |= other.begun[strip];
    }
    finish();
  }

 private:
  // At the first column of the block; null without bytes.
  const std::uint8_t* bytes_of_line(std::int64_t line) const {
    const std::uint8_t* bytes = bytes_of(p_, seq_, item_.b, lines_.head(line), lines_.row(line));
    return bytes == nullptr ? nullptr : bytes + block_.begin;
  }
  Panels values() const { return {s_.values, kPanel, sizes_.value_panel()}; }
  float* scores(std::int64_t i) const { return s_.scores + i * sizes_.ld_scores(); }

  void start() {
    const Timed timed(p_, Stage::pack);
    for (std::int64_t g = 0; g < p_.group(); ++g) {
      const std::int64_t head = item_.kv_head * p_.group() + g, rows = item_.rows.size();
      const T* q = reinterpret_cast<const T*>(row_of(p_, p_.q, item_.b, head, seq_.q_begin + item_.rows.begin));
      pack_rows<Mac>(q, p_.q.row_stride, rows, p_.dim, s_.q + g * rows * sizes_.ld_q, sizes_.ld_q, scaling_.queries);
    }
    if (narrow_) std::fill(s_.q + sizes_.lines * sizes_.ld_q, s_.q + kNarrowLines * sizes_.ld_q, 0.0f);
    std::fill(sums_.begun, sums_.begun + sizes_.strips(), false);
    std::fill(sums_.row_max, sums_.row_max + sizes_.lines, -kInfinity);
    std::fill(sums_.row_sum, sums_.row_sum + sizes_.lines, 0.0f);
  }

  void enter_block(Range block) {
    block_ = block;
    k_ = reinterpret_cast<const T*>(row_of(p_, p_.k, item_.b, item_.kv_head, seq_.kv_begin + block.begin));
    v_ = reinterpret_cast<const T*>(row_of(p_, p_.v, item_.b, item_.kv_head, seq_.kv_begin + block.begin));
    keys_packed_ = values_packed_ = false;
    terms_.enter(item_.rows, block, s_.distances);
  }

  void tile(Range lines) {
    const auto [any, hides] = look(p_, seq_, sight_, item_.b, lines_, lines, block_, s_.seen, s_.hulls);
    if (!any) return;
    if (narrow_)
      multiply_unpacked_keys(lines);
    else
      multiply_keys(lines);
    softmax(lines);
    if (narrow_ && !hides) return multiply_unpacked_values(lines);
    multiply_values(lines, hides);
  }

  // S = Q K^T of few lines. Whatever is hidden: the bits of a score do not depend on the mask.
  void multiply_unpacked_keys(Range lines) {
    const Timed timed(p_, Stage::scores);
    const Rows<T> k{k_, p_.k.row_stride, block_.size(), p_.dim};
    narrow_inner_products<Mac>(s_.q, sizes_.ld_q, k, lines.size(), s_.scores, sizes_.ld_scores());
  }

  // O += P V of few lines, where nothing is hidden and no 0 meets a NaN.
  void multiply_unpacked_values(Range lines) {
    const Timed timed(p_, Stage::products);
    const Rows<T> v{v_, p_.v.row_stride, block_.size(), p_.dim_v};
    const std::int64_t step = begun(0) == begun(lines.size() - 1) ? lines.size() : kStripRows;
    for (std::int64_t i = 0; i < lines.size(); i += step)
      narrow_sum_products<Mac>(scores(i), sizes_.ld_scores(), v, std::min(step, lines.size() - i), sums_.out + i * sizes_.ld_out, sizes_.ld_out, begun(i));
    std::fill(sums_.begun, sums_.begun + sizes_.strips(), true);
  }

  void pack_keys() {
    const Timed timed(p_, Stage::pack);
    pack_transposed<Mac>(k_, p_.k.row_stride, block_.size(), p_.dim, s_.keys, sizes_.key_panel());
    keys_packed_ = true;
  }

  // See Note [What is hidden may be NaN].
  void pack_values(bool clean) {
    const Timed timed(p_, Stage::pack);
    values_packed_ = true;
    finite_ = pack_pairs<Mac>(v_, p_.v.row_stride, block_.size(), p_.dim_v, values());
    pad_pairs<Mac>(block_.size(), round_up(block_.size(), kPanel), p_.dim_v, values());
    if (clean) Mac::clean_words(s_.values, sizes_.value_panels * sizes_.value_panel());
    cleaned_ = clean;
  }

  // S = Q K^T
  void multiply_keys(Range lines) {
    if (!keys_packed_) pack_keys();
    const Timed timed(p_, Stage::scores);
    inner_products<Mac>(s_.q + lines.begin * sizes_.ld_q, sizes_.ld_q, s_.keys, sizes_.q_words, lines.size(), s_.hulls,
                        s_.scores, sizes_.ld_scores());
  }

  // P in place of S; what was accumulated before shrinks.
  void softmax(Range lines) {
    const Timed timed(p_, Stage::softmax);
    for_rows(lines, [this](std::int64_t i, std::int64_t line, Range hull) { s_.tops[i] = hull.empty() ? sums_.row_max[line] : top_of(i, line, hull); });
    raise_maxima(s_.tops, lines.size(), scaling_.exponent, sums_.row_max + lines.begin, sums_.row_sum + lines.begin, s_.shrink);
    for_rows(lines, [this](std::int64_t i, std::int64_t line, Range hull) {
      if (hull.empty()) return;
      sums_.row_sum[line] += probabilities(i, line, hull);
      if (s_.shrink[i] != 1.0f && begun(line)) multiply_row(sums_.out + line * sizes_.ld_out, round_up(p_.dim_v, kLanes), s_.shrink[i]);
    });
  }

  // Every row of a tile, its line, and the hull of its strip in whole vectors.
  template <class Act>
  FUSEDATTN_INLINE void for_rows(Range lines, const Act& act) {
    for (std::int64_t strip = 0; strip < lines.size(); strip += kStripRows) {
      const Range hull = whole_vectors(s_.hulls[strip / kStripRows]);
      for (std::int64_t i = strip; i < std::min(strip + kStripRows, lines.size()); ++i) act(i, lines.begin + i, hull);
    }
  }

  // The largest score of a row so far, after everything is added to its scores and what it does not see is hidden.
  FUSEDATTN_INLINE float top_of(std::int64_t i, std::int64_t line, Range hull) {
    const Range seen = seen_inside(s_.seen[i], hull);
    if (terms_.present()) terms_.add(scores(i), lines_.head(line), lines_.row(line), seen);
    if (s_.seen[i].holes) hide_holes(scores(i), bytes_of_line(line), p_.mask.bytes.nonzero_hides, seen, -kInfinity);
    hide_outside(scores(i), hull, seen, broadcast(-kInfinity));
    return largest_score(scores(i), hull, sums_.row_max[line]);
  }

  FUSEDATTN_INLINE float probabilities(std::int64_t i, std::int64_t line, Range hull) {
    const auto exponentiate = [&](const auto& keep) {
      return scaling_.exponent == 1.0f ? exponentiate_row<Mac, false>(scores(i), hull, sums_.row_max[line], 1.0f, keep)
                                       : exponentiate_row<Mac, true>(scores(i), hull, sums_.row_max[line], scaling_.exponent, keep);
    };
    return keeping_.active() ? exponentiate(kept(line, seen_inside(s_.seen[i], hull))) : exponentiate(KeepAll{});
  }

  bool& begun(std::int64_t line) { return sums_.begun[line / kStripRows]; }

  KeepSome kept(std::int64_t line, Range seen) const {
    return {keeping_.words(lines_.head(line), lines_.row(line), block_, seen, s_.words), keeping_.threshold()};
  }

  // O += P V
  void multiply_values(Range lines, bool hides) {
    if (!values_packed_) pack_values(false);
    if (!finite_ && cleaned_ != hides) pack_values(hides);
    const Timed timed(p_, Stage::products);
    sum_products<Mac, false>(s_.scores, sizes_.ld_scores(), values(), s_.hulls, lines.size(), p_.dim_v,
                             sums_.out + lines.begin * sizes_.ld_out, sizes_.ld_out, &begun(lines.begin));
    for (std::int64_t i = 0; i < lines.size(); i += kStripRows)
      if (!s_.hulls[i / kStripRows].empty()) begun(lines.begin + i) = true;
    if (cleaned_) add_nonfinite_values(lines);
  }

  // After a product with cleaned values: what they left out, for the lines that see it.
  void add_nonfinite_values(Range lines) {
    alignas(64) float part[kMostFeatures + kLanes];
    for (std::int64_t j = 0; j < block_.size(); ++j) {
      if (!nonfinite_part(v_ + j * p_.v.row_stride, p_.dim_v, part)) continue;
      for (std::int64_t i = 0; i < lines.size(); ++i)
        if (sees(s_.seen[i], bytes_of_line(lines.begin + i), p_.mask.bytes.nonzero_hides, j))
          add_weighted(sums_.out + (lines.begin + i) * sizes_.ld_out, Mac::of_row(scores(i), j), part, p_.dim_v);
    }
  }

  // The sink is one more score of the row, in natural units. Returns by how much what was accumulated shrinks.
  static float add_sink(float sink, float& row_max, float& row_sum) {
    if (sink == -kInfinity) return 1.0f;
    const float new_max = row_sum == 0.0f ? sink : std::max(row_max, sink);
    const float shrink = row_sum == 0.0f ? 0.0f : std::exp(row_max - new_max);
    row_max = new_max, row_sum = row_sum * shrink + std::exp(sink - new_max);
    return shrink;
  }

  ForwardSums sums_of(std::int64_t part) const {
    Arena arena(parts_.data + parts_.stride * static_cast<std::size_t>(item_.first_part + part));
    return sizes_.lay_sums(arena);
  }

  // What another part has summed for a line; see merge().
  void add(const ForwardSums& other, std::int64_t line) {
    float &row_max = sums_.row_max[line], &row_sum = sums_.row_sum[line];
    const float reference = reference_of(std::max(row_max, other.row_max[line]));
    const float own = exp2((row_max - reference) * scaling_.exponent), others = exp2((other.row_max[line] - reference) * scaling_.exponent);
    row_max = std::max(row_max, other.row_max[line]);
    row_sum = row_sum * own + other.row_sum[line] * others;
    float* const to = sums_.out + line * sizes_.ld_out;
    const float* const from = other.out + line * sizes_.ld_out;
    for (std::int64_t d = 0; d < round_up(p_.dim_v, kLanes); d += kLanes) {
      const F32 x = mul(load(from + d), broadcast(others));
      store(to + d, begun(line) ? fma(load(to + d), broadcast(own), x) : x);
    }
  }

  void finish() {
    std::int64_t line = 0;
    for (std::int64_t g = 0; g < p_.group(); ++g)
      for (std::int64_t row = item_.rows.begin; row < item_.rows.end; ++row) finish(line++, lines_.first_head + g, row);
  }

  // out = O / sum and the statistics; a line that saw nothing gets 0, the lowest and the largest float. Inlined always: left to itself GCC
  // stops where other kernels have used up what a file may grow, which costs 34 instructions a line.
  FUSEDATTN_INLINE void finish(std::int64_t line, std::int64_t head, std::int64_t row) {
    float row_max = sums_.row_max[line] * scaling_.unit, row_sum = sums_.row_sum[line];
    const float shrink = p_.sink != nullptr && seq_.kv_len > 0 ? add_sink(p_.sink[head], row_max, row_sum) : 1.0f;
    const bool nothing = row_sum == 0.0f;
    T* to = reinterpret_cast<T*>(row_of(p_, p_.out, item_.b, head, seq_.q_begin + row));
    if (begun(line))
      store_scaled(to, sums_.out + line * sizes_.ld_out, p_.dim_v, nothing ? 0.0f : shrink * keeping_.inverse() / row_sum);
    else
      std::fill(to, to + p_.dim_v, T{});
    if (p_.stats.max == nullptr && p_.stats.sum == nullptr) return;
    const std::int64_t at = stats_offset(p_, seq_, item_.b, head, row);
    const float none = seq_.kv_len > 0 ? FLT_MAX : 0.0f, none_max = 0.0f - none;
    if (p_.stats.max != nullptr) std::fill_n(p_.stats.max + at, p_.stats.lanes, nothing ? none_max : row_max);
    if (p_.stats.sum != nullptr) std::fill_n(p_.stats.sum + at, p_.stats.lanes, nothing ? none : row_sum);
  }

  const Problem& p_;
  const ForwardItem& item_;
  const ForwardParts parts_;
  const Sequence seq_;
  const bool narrow_;
  const Sight sight_;
  const Lines lines_;
  const Scaling scaling_;
  ScoreTerms terms_;
  const Keeping keeping_;
  const ForwardSizes<Mac> sizes_;
  ForwardScratch s_;
  ForwardSums sums_;
  Range block_;
  const T *k_ = nullptr, *v_ = nullptr;
  bool keys_packed_ = false, values_packed_ = false, finite_ = true, cleaned_ = false;
};
