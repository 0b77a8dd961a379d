// What becomes of the scores of a row before the softmax: a soft cap; then a bias, and a slope times the distance of row and column.
//
//   x = rest * s' + bias     or     x = rest * s' + scale * bias          x -= natural * slope * distance
//
// where s' is the product with packed queries (see Scaling), or the capped score. Only what the row sees is read and written.
// Distances depend on column - row alone, so a block keeps one line of them, of which every row reads its own stretch.
class ScoreTerms {
 public:
  ScoreTerms(const Problem& p, const Sequence& seq, std::int64_t b, std::int64_t scores_before, const Scaling& scaling)
      : p_(p), seq_(seq), b_(b), scores_before_(scores_before), scaling_(scaling) {}

  bool present() const { return present(p_); }
  template <class Mac>
  static Scaling scaling_of(const Problem& p) {
    if (p.softcap != 0.0f) return Scaling::capped<Mac>(p.scale, p.softcap, p.bias.data != nullptr);
    return Scaling::of<Mac>(p.scale, present(p), p.bias.data != nullptr);
  }

  static std::int64_t distances(std::int64_t rows, std::int64_t cols) { return rows + cols + kLanes; }

  // Takes place on a block: fills `line` with the distances of these rows and columns.
  void enter(Range rows, Range cols, float* line) {
    rows_ = rows, cols_ = cols, line_ = line;
    if (p_.alibi.slopes == nullptr) return;
    const bool starts = !p_.alibi.first_sequence || b_ == 0;
    std::int64_t d = cols.begin - rows.end + 1 - (p_.alibi.bottom_right ? seq_.kv_len - seq_.q_len : 0);
    if (starts) d += p_.alibi.kv_start - p_.alibi.q_start;
    for (std::int64_t n = 0; n < rows.size() + cols.size(); ++n) {
      const float distance = static_cast<float>(d + n < 0 ? -(d + n) : d + n);
      line[n] = p_.alibi.square_root ? std::sqrt(distance) : distance;
    }
  }

  // Turns products s, of which s[0] belongs to the first column of the block, into x; leaves the slopes of a cap where they are wanted.
  void add(float* s, std::int64_t head, std::int64_t row, Range seen, float* cap_slopes = nullptr) const {
    if (p_.softcap != 0.0f) cap(s, seen, cap_slopes);
    if (p_.bias.data != nullptr) add_bias(s, head, row, seen);
    if (p_.alibi.slopes == nullptr) return;
    const float slope = -p_.alibi.slopes[b_ * p_.alibi.batch_stride + head * p_.alibi.head_stride] * scaling_.natural;
    add_distance(s, line_ + (rows_.end - 1 - row), slope, seen, p_.bias.data == nullptr ? scaling_.rest : 1.0f);
  }

 private:
  static bool present(const Problem& p) { return p.bias.data != nullptr || p.alibi.slopes != nullptr || p.softcap != 0.0f; }

  void cap(float* s, Range seen, float* slopes) const {
    if (slopes == nullptr) return cap_row<false>(s, seen, scaling_.cap_by, scaling_.cap_to, nullptr);
    cap_row<true>(s, seen, scaling_.cap_by, scaling_.cap_to, slopes);
  }

  void add_bias(float* s, std::int64_t head, std::int64_t row, Range seen) const {
    switch (p_.bias.dtype) {
      case Dtype::f32: return add_bias<float>(s, head, row, seen);
      case Dtype::bf16: return add_bias<bf16>(s, head, row, seen);
      case Dtype::f16: return add_bias<f16>(s, head, row, seen);
    }
  }

  // Element offset of column 0 of a row.
  std::int64_t bias_offset(std::int64_t head, std::int64_t row) const {
    const Bias& bias = p_.bias;
    if (!bias.blocks) return b_ * bias.batch_stride + head * bias.head_stride + row * bias.row_stride;
    if (bias.row_stride == 0) return p_.q_heads * seq_.kv_begin + head * seq_.kv_len;
    return p_.q_heads * scores_before_ + (head * seq_.q_len + row) * seq_.kv_len;
  }

  template <class B>
  void add_bias(float* s, std::int64_t head, std::int64_t row, Range seen) const {
    const B* bias = reinterpret_cast<const B*>(p_.bias.data) + bias_offset(head, row) + cols_.begin;
    const F32 rest = broadcast(scaling_.rest);
    const F32 factor = broadcast(p_.bias.before_scale ? p_.scale : 1.0f);
    std::int64_t j = seen.begin;
    for (; j + kLanes <= seen.end; j += kLanes) store(s + j, fma(load(bias + j), factor, mul(load(s + j), rest)));
    if (const std::int64_t left = seen.end - j; left > 0)
      store_some(s + j, fma(load_some(bias + j, left), factor, mul(load_some(s + j, left), rest)), left);
  }

  static void add_distance(float* s, const float* line, float slope, Range seen, float rest) {
    const F32 by = broadcast(slope), factor = broadcast(rest);
    std::int64_t j = seen.begin;
    if (rest == 1.0f)
      for (; j + kLanes <= seen.end; j += kLanes) store(s + j, fma(load(line + j), by, load(s + j)));
    for (; j + kLanes <= seen.end; j += kLanes) store(s + j, fma(load(line + j), by, mul(load(s + j), factor)));
    if (const std::int64_t left = seen.end - j; left > 0)
      store_some(s + j, fma(load_some(line + j, left), by, mul(load_some(s + j, left), factor)), left);
  }

  const Problem& p_;
  const Sequence seq_;
  const std::int64_t b_, scores_before_;
  const Scaling scaling_;
  Range rows_, cols_;
  float* line_ = nullptr;
};
