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
    for (std::int64_t part = 1; part < item_.parts; ++part) sums_.join(sums_of(part), sizes_.lines, scaling_.exponent);
    finish();
  }

 private:
  // At the first column of the block; null without bytes.
  const std::uint8_t* bytes_of_line(std::int64_t line) const {
    return bytes_of(p_, seq_, item_.b, lines_.head(line), lines_.row(line), block_.begin);
  }
  Rows<T> rows_of(const View& view, std::int64_t head, std::int64_t before, Range rows, std::int64_t elements) const {
    return {reinterpret_cast<const T*>(row_of(p_, view, item_.b, head, before + rows.begin)), view.row_stride, rows.size(), elements};
  }
  Panels values() const { return {s_.values, kPanel, sizes_.value_panel()}; }
  float* scores(std::int64_t i) const { return s_.scores + i * sizes_.ld_scores(); }

  void start() {
    const Timed timed(p_, Stage::pack);
    for (std::int64_t g = 0; g < p_.group(); ++g) {
      const std::int64_t head = item_.kv_head * p_.group() + g, rows = item_.rows.size();
      const Rows<T> q = rows_of(p_.q, head, seq_.q_begin, item_.rows, p_.dim);
      pack_rows<Mac>(q, s_.q + g * rows * sizes_.ld_q, sizes_.ld_q, scaling_.queries);
    }
    if (narrow_) std::fill(s_.q + sizes_.lines * sizes_.ld_q, s_.q + kNarrowLines * sizes_.ld_q, 0.0f);
    sums_.start(sizes_.lines);
  }

  void enter_block(Range block) {
    block_ = block;
    k_ = rows_of(p_.k, item_.kv_head, seq_.kv_begin, block, p_.dim);
    v_ = rows_of(p_.v, item_.kv_head, seq_.kv_begin, block, p_.dim_v);
    keys_packed_ = values_packed_ = false;
    terms_.enter(item_.rows, block, s_.distances);
  }

  void tile(Range lines) {
    const auto [any, hides] = look(p_, seq_, sight_, item_.b, lines_, lines, block_, s_.seen, s_.hulls);
    if (!any) return;
    if constexpr (kFinishesTiles) find_finished(lines, hides);
    touches_ = hides || terms_.present();
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
    narrow_inner_products<Mac>(s_.q, sizes_.ld_q, k_, lines.size(), s_.scores, sizes_.ld_scores());
  }

  // O += P V of few lines, where nothing is hidden and no 0 meets a NaN.
  void multiply_unpacked_values(Range lines) {
    const Timed timed(p_, Stage::products);
    const std::int64_t step = begun(0) == begun(lines.size() - 1) ? lines.size() : kStripRows;
    for (std::int64_t i = 0; i < lines.size(); i += step)
      narrow_sum_products<Mac>(scores(i), sizes_.ld_scores(), v_, std::min(step, lines.size() - i), sums_.out + i * sizes_.ld_out, sizes_.ld_out, begun(i));
    std::fill(sums_.begun, sums_.begun + strips_of(sizes_.lines), true);
  }

  void pack_keys() {
    const Timed timed(p_, Stage::pack);
    pack_transposed<Mac>(k_, s_.keys, sizes_.key_panel());
    keys_packed_ = true;
  }

  // See Note [What is hidden may be NaN].
  void pack_values(bool clean) {
    const Timed timed(p_, Stage::pack);
    values_packed_ = true;
    finite_ = pack_pairs<Mac>(v_, values());
    for (std::int64_t d = 0; clean && d < p_.dim_v; d += kPanel)
      Mac::clean_words(const_cast<float*>(values().at(0, d)), words<Mac>(block_.size()) * kPanel);
    cleaned_ = clean;
  }

  // Strips that have a reference finish the panels at the beginning of their hull, as far as all of their rows see them.
  void find_finished(Range lines, bool hides) {
    some_finished_ = false;
    if (block_.begin == item_.cols.begin || narrow_ || terms_.present() || keeping_.active() || sizes_.q_words > kDepthChunk) return;
    for (std::int64_t i = 0; i < lines.size(); i += kStripRows) {
      Range& finished = s_.finished[i / kStripRows];
      const std::int64_t begin = whole_vectors(s_.hulls[i / kStripRows]).begin;
      finished = {begin, begin};
      if (i + kStripRows > lines.size() || !begun(lines.begin + i)) continue;
      const Range common = hides ? seen_by_all(s_.seen + i, kStripRows) : Range{0, block_.size()};
      if (common.begin > begin || common.end < begin + kPanel) continue;
      finished.end = common.end / kPanel * kPanel;
      some_finished_ = true;
      for (std::int64_t m = i; m < i + kStripRows; ++m) s_.running.start(m, sums_.row_max[lines.begin + m]);
    }
  }

  // S = Q K^T, and of finished panels P.
  void multiply_keys(Range lines) {
    if (!keys_packed_) pack_keys();
    const Timed timed(p_, Stage::scores);
    const auto multiply = [&](const auto&... finish) {
      inner_products<Mac>(s_.q + lines.begin * sizes_.ld_q, sizes_.ld_q, s_.keys, sizes_.q_words, lines.size(), {0, block_.size()}, s_.hulls, s_.scores,
                          sizes_.ld_scores(), finish...);
    };
    if constexpr (kFinishesTiles)
      if (some_finished_)
        return multiply(s_.finished, FinishScores<Mac>{s_.scores, sizes_.ld_scores(), sums_.reference + lines.begin, scaling_.exponent, s_.running});
    multiply();
  }

  // Where a reference has risen, scores of finished panels are wanted after all.
  void unfinish_raised(Range lines) {
    for (std::int64_t i = 0; i + kStripRows <= lines.size(); i += kStripRows) {
      Range& finished = s_.finished[i / kStripRows];
      if (std::count(s_.shrink + i, s_.shrink + i + kStripRows, 1.0f) == kStripRows) continue;
      for (std::int64_t j = finished.begin; j < finished.end; j += kPanel)
        kTiles<Mac, false>.of[kStripRows - 1][kPanelVectors - 1](s_.q + (lines.begin + i) * sizes_.ld_q, sizes_.ld_q, s_.keys + j / kPanel * sizes_.key_panel(),
                                                                 kPanel, scores(i) + j, sizes_.ld_scores(), sizes_.q_words, false);
      finished.end = finished.begin;
    }
  }

  // P in place of S; what was accumulated before shrinks.
  void softmax(Range lines) {
    const Timed timed(p_, Stage::softmax);
    float* const lanes = s_.running.lanes;
    if (touches_)
      for_rows(lines, [&](std::int64_t i, std::int64_t line, const Strip& strip) { touch(i, line, strip); });
    else
      hide_padding(s_.scores, sizes_.ld_scores(), lines.size(), block_.size());
    for_rows(lines, [&](std::int64_t i, std::int64_t line, const Strip& strip) {
      const F32 before = strip.finished() ? load(lanes + i * kLanes) : broadcast(sums_.row_max[line]);
      store(lanes + i * kLanes, largest_scores(scores(i), strip.rest, before));
    });
    sums_.raise_references(lanes, lines, scaling_.exponent, s_.shrink);
    if (some_finished_) unfinish_raised(lines);
    keeping_.active() ? exponentiate(lines, [this](std::int64_t line, Range seen) { return kept(line, seen); })
                      : exponentiate(lines, [](std::int64_t, Range) { return KeepAll{}; });
    sums_.add_lanes(lanes, lines);
    sums_.shrink(lines, s_.shrink, round_up(p_.dim_v, kLanes));
  }

  // What a strip sees, in whole vectors, and what of it is not finished.
  struct Strip {
    Range hull, rest;
    bool finished() const { return kFinishesTiles && rest.begin > hull.begin; }
  };

  // Every row of a tile, its line, and its strip.
  template <class Act>
  FUSEDATTN_INLINE void for_rows(Range lines, const Act& act) {
    for (std::int64_t first = 0; first < lines.size(); first += kStripRows) {
      const Range hull = whole_vectors(s_.hulls[first / kStripRows]);
      const Strip strip{hull, {some_finished_ ? s_.finished[first / kStripRows].end : hull.begin, hull.end}};
      for (std::int64_t i = first; i < std::min(first + kStripRows, lines.size()); ++i) act(i, lines.begin + i, strip);
    }
  }

  // Adds everything to the scores of a row, and hides what it does not see.
  void touch(std::int64_t i, std::int64_t line, const Strip& strip) {
    if (strip.rest.empty()) return;
    const Range seen = seen_inside(s_.seen[i], strip.hull);
    if (terms_.present()) terms_.add(scores(i), lines_.head(line), lines_.row(line), seen);
    if (s_.seen[i].holes) hide_holes(scores(i), bytes_of_line(line), p_.mask.bytes.nonzero_hides, seen, -kInfinity);
    hide_outside(scores(i), strip.rest, strip.finished() ? Range{strip.rest.begin, seen.end} : seen, broadcast(-kInfinity));
  }

  // P in place of S, and its sums, lane by lane.
  template <class KeepOf>
  void exponentiate(Range lines, const KeepOf& keep_of) {
    const auto of_rows = [&](auto scaled) FUSEDATTN_ALWAYS {
      for_rows(lines, [&](std::int64_t i, std::int64_t line, const Strip& strip) {
        F32 total[2] = {zero(), zero()};
        if (strip.finished()) s_.running.load_sums(i, total);
        if (!strip.rest.empty())
          exponentiate_row<Mac, scaled>(scores(i), strip.rest, sums_.reference[line], scaling_.exponent, keep_of(line, seen_inside(s_.seen[i], strip.hull)), total);
        store(s_.running.lanes + i * kLanes, add(total[0], total[1]));
      });
    };
    scaling_.exponent == 1.0f ? of_rows(std::false_type{}) : of_rows(std::true_type{});
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
    begin_strips(&begun(lines.begin), s_.hulls, lines.size());
    if (cleaned_) add_nonfinite_values(lines);
  }

  // After a product with cleaned values: what they left out, for the lines that see it.
  void add_nonfinite_values(Range lines) {
    alignas(64) float part[kMostFeatures + kLanes];
    for (std::int64_t j = 0; j < block_.size(); ++j) {
      if (!nonfinite_part(v_.row(j), p_.dim_v, part)) continue;
      for (std::int64_t i = 0; i < lines.size(); ++i)
        if (sees(s_.seen[i], bytes_of_line(lines.begin + i), p_.mask.bytes.nonzero_hides, j))
          add_weighted(sums_.out + (lines.begin + i) * sizes_.ld_out, Mac::of_row(scores(i), j), part, p_.dim_v);
    }
  }

  ForwardSums sums_of(std::int64_t part) const {
    Arena arena(parts_.data + parts_.stride * static_cast<std::size_t>(item_.first_part + part));
    return sizes_.lay_sums(arena);
  }

  void finish() {
    for (std::int64_t g = 0; g < p_.group(); ++g) finish({g * item_.rows.size(), (g + 1) * item_.rows.size()}, lines_.first_head + g);
  }

  // out = O / sum and the statistics of a head.
  void finish(Range lines, std::int64_t head) {
    const bool any = seq_.kv_len > 0;
    const float* const factors = sums_.complete(lines, scaling_, p_.sink != nullptr && any ? p_.sink[head] : -kInfinity, keeping_.inverse(), any ? FLT_MAX : 0.0f);
    const std::int64_t dim = p_.dim_v, ld = sums_.ld_out, stride = p_.out.row_stride;
    T* to = reinterpret_cast<T*>(row_of(p_, p_.out, item_.b, head, seq_.q_begin + item_.rows.begin));
    for (std::int64_t line = lines.begin; line < lines.end; ++line, to += stride)
      if (begun(line)) store_scaled(to, sums_.out + line * ld, dim, factors[line]);
      else std::fill_n(to, dim, T{});
    store_statistics(p_.stats.max, sums_.row_max, lines, head);
    store_statistics(p_.stats.sum, sums_.row_sum, lines, head);
  }

  void store_statistics(float* to, const float* from, Range lines, std::int64_t head) const {
    if (to == nullptr) return;
    const std::int64_t lanes = p_.stats.lanes, stride = p_.stats.blocks ? lanes : p_.stats.row_stride;
    to += stats_offset(p_, seq_, item_.b, head, item_.rows.begin);
    if (lanes == 1 && stride == 1) return void(std::copy(from + lines.begin, from + lines.end, to));
    for (std::int64_t line = lines.begin; line < lines.end; ++line, to += stride) std::fill_n(to, lanes, from[line]);
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
  Rows<T> k_{}, v_{};  // of the block
  bool some_finished_ = false;  // of the tile: whether any strip has finished panels,
  bool touches_ = false;        // and whether scores are more or less than products with keys
  bool keys_packed_ = false, values_packed_ = false, finite_ = true, cleaned_ = false;
};
