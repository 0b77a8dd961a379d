// Gradients of what is added to the scores: of the bias, and of the sink.
//
//   dBias = sum of dX over the sequences, heads and rows that share an element (times scale, where the bias is added before it)
//   dSink = - sum_i exp(sink - max) / sum * delta
//
// An item owns its part of the result and adds in a fixed order, so nothing is shared between threads and nothing S x S is kept. It
// computes S and dP once more, which is two products more than the five of a backward.
template <class T, class Mac>
class BiasGradientOfHead : ScoreGradients<T, Mac> {
  using Base = ScoreGradients<T, Mac>;
  using Base::p_, Base::seq_, Base::sight_, Base::sizes_;

 public:
  using Base::Base;

  // Adds dX of these rows and columns to sums, whose row of row `first` is at 0.
  void add(Range rows, Range cols, std::int64_t first, float* sums) {
    const Range columns = meet(cols, {0, seq_.kv_len});
    const Range visible = meet(rows, sight_.rows(columns, seq_.q_len));
    if (columns.empty() || visible.empty()) return;
    Base::sum_rows(visible);
    Base::enter_columns(columns);
    for (std::int64_t i = visible.begin; i < visible.end; i += sizes_.tile.rows) {
      const Range tile{i, std::min(i + sizes_.tile.rows, visible.end)};
      if (!Base::look_at(tile).any) continue;
      Base::pack(tile);
      Base::in_parts(tile, [&](Range part) {
        Base::multiply(part);
        Base::template differentiate<1, Of::sums>(part, [&](std::int64_t i, const auto& gradient) {
          const Range hull = Base::hull(i);
          float* const to = sums + (p_.bias.row_stride == 0 ? 0 : (part.begin + i - first) * sizes_.ld_scores);
          for (std::int64_t j = hull.begin; j < hull.end; j += kLanes) store(to + j, ::fusedattn::FUSEDATTN_LANE::add(load(to + j), gradient.d_score(j)));
        });
      });
    }
  }
};

// Where an element of the gradient lies, in elements; an axis that the bias repeats has length 1.
inline std::int64_t bias_gradient_offset(const Problem& p, std::int64_t b, std::int64_t head, std::int64_t row) {
  return (p.bias.batch_stride ? b * p.d_bias.batch_stride : 0) + (p.bias.head_stride ? head * p.d_bias.head_stride : 0) +
         (p.bias.row_stride ? row * p.d_bias.row_stride : 0);
}

template <class T, class Mac>
void bias_gradient(const Problem& p, const BiasItem& item, void* scratch) {
  const Tile tile = backward_tile_of<Mac>(p);
  const std::int64_t ld = leading(tile.cols), rows = p.bias.row_stride == 0 ? 1 : item.rows.size();
  Arena arena(scratch);
  float* const sums = arena.take<float>(static_cast<std::size_t>(tile.rows * ld));
  std::byte* const rest = static_cast<std::byte*>(scratch) + arena.used();
  std::fill(sums, sums + rows * ld, 0.0f);
  std::int64_t scores_before = item.scores_before;
  for (std::int64_t b = item.batch.begin; b < item.batch.end; ++b) {
    for (std::int64_t head = item.heads.begin; head < item.heads.end; ++head)
      BiasGradientOfHead<T, Mac>(p, b, head, scores_before, rest).add(item.rows, item.cols, item.rows.begin, sums);
    scores_before += sequence(p, b).q_len * sequence(p, b).kv_len;
  }
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::int64_t offset = bias_gradient_offset(p, item.batch.begin, item.heads.begin, item.rows.begin + i) + item.cols.begin;
    std::byte* const to = p.d_bias.data + offset * static_cast<std::int64_t>(size_of(p.bias.dtype));
    const float factor = p.bias.before_scale ? p.scale : 1.0f;
    switch (p.bias.dtype) {
      case Dtype::f32: store_scaled(reinterpret_cast<float*>(to), sums + i * ld, item.cols.size(), factor); break;
      case Dtype::bf16: store_scaled(reinterpret_cast<bf16*>(to), sums + i * ld, item.cols.size(), factor); break;
      case Dtype::f16: store_scaled(reinterpret_cast<f16*>(to), sums + i * ld, item.cols.size(), factor); break;
    }
  }
}

template <class T, class Mac>
class SinkGradientOfHead : ScoreGradients<T, Mac> {
  using Base = ScoreGradients<T, Mac>;

 public:
  using Base::Base;

  double sum() {
    Base::sum_rows({0, Base::seq_.q_len});
    double total = 0.0;
    for (std::int64_t i = 0; i < Base::seq_.q_len; ++i) {
      const std::int64_t at = stats_offset(Base::p_, Base::seq_, Base::b_, Base::head_, i);
      const float share = Base::sink_probability(Base::p_.sink[Base::head_], Base::p_.stats.max[at], Base::p_.stats.sum[at]);
      if (share != 0.0f) total -= static_cast<double>(share) * static_cast<double>(Base::s_.delta[i]);
    }
    return total;
  }
};

template <class T, class Mac>
float sink_gradient(const Problem& p, std::int64_t head, void* scratch) {
  double total = 0.0;
  for (std::int64_t b = 0; b < p.batch; ++b) total += SinkGradientOfHead<T, Mac>(p, b, head, 0, scratch).sum();
  return static_cast<float>(total);
}
