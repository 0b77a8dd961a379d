// Gradients of token compression, over the same groups. With W windows w that hold the tokens t of a group:
//
//   d_input[t]          =  sum_w weight[t - w * stride] * d_output[w]        gathered, in ascending order of windows
//   d_weight[t - w * stride] += sum_d d_output[w,d] * input[t,d]             a vector of partial sums for each position
//
// d_output is read once: the windows in flight wait in scratch, as float32.
// Two vectors, one after the other, by store_pair where a lane has one for the type.
template <class T>
FUSEDATTN_INLINE void store_two(T* p, F32 a, F32 b) {
  if constexpr (requires { store_pair(p, a, b); }) {
    store_pair(p, a, b);
  } else {
    store(p, a);
    store(p + kLanes, b);
  }
}

template <class T>
class CompressBackward : CompressWalk<T> {
  using Walk = CompressWalk<T>;
  using Walk::item, Walk::p;

 public:
  CompressBackward(const Compress& problem, const CompressItem& work)
      : Walk{problem, work}, sums_(work.scratch + work.slots * this->slot_size), wants_input_(problem.d_input.data != nullptr) {}

  void run() const {
    if (item.d_weight != nullptr) std::fill_n(sums_, item.heads.size() * p.block * kLanes, 0.0f);
    for (std::int64_t i = 0; i < item.count; ++i) {
      const CompressPiece& piece = item.pieces[i];
      for (std::int64_t w = std::max<std::int64_t>(0, piece.segments.begin - this->depth + 1);
           w < std::min(piece.segments.begin, piece.windows); ++w)
        widen(piece, w);
      for (std::int64_t s = piece.segments.begin; s < piece.segments.end; ++s) {
        if (s < piece.windows) widen(piece, s);
        this->visit(piece, s, [&](const CompressGroup& group) { run_group(piece, group); });
      }
      if (wants_input_) clear(piece.bare);
    }
    if (item.d_weight != nullptr) finish();
  }

 private:
  float* const sums_;  // [heads of the item, block, kLanes]
  const bool wants_input_;

  void widen(const CompressPiece& piece, std::int64_t w) const {
    for (std::int64_t n = item.heads.begin; n < item.heads.end; ++n) {
      const T* from = this->at(p.d_output, n, piece.row + w);
      float* to = this->slot(w) + (n - item.heads.begin) * this->head_size;
      for (std::int64_t d = 0; d < p.dim; d += kLanes) store(to + d, load_upto(from + d, p.dim - d));
    }
  }

  void clear(const Range& tokens) const {
    for (std::int64_t t = tokens.begin; t < tokens.end; ++t)
      for (std::int64_t n = item.heads.begin; n < item.heads.end; ++n)
        std::memset(row_of(p.dtype, p.d_input, n, t), 0, static_cast<std::size_t>(p.dim) * sizeof(T));
  }

  void run_group(const CompressPiece& piece, const CompressGroup& group) const {
    const std::int64_t token = piece.token + group.segment * p.stride + group.tokens.begin;
    for (std::int64_t n = item.heads.begin; item.d_weight != nullptr && n < item.heads.end; ++n) weigh(group, n, token);
    for (std::int64_t n = item.heads.begin; wants_input_ && n < item.heads.end; ++n) gather(group, n, token);
  }

  const float* waiting(std::int64_t n, std::int64_t w) const { return this->slot(w) + (n - item.heads.begin) * this->head_size; }

  void weigh(const CompressGroup& group, std::int64_t n, std::int64_t token) const {
    const Range& windows = group.windows;
    for (std::int64_t w = windows.begin; w < windows.end;) {
      const std::int64_t left = windows.end - w;
      if (left >= 4)
        weigh_windows<4, 2>(group, n, token, w), w += 4;
      else if (left >= 2)
        weigh_windows<2, 4>(group, n, token, w), w += 2;
      else
        weigh_windows<1, 4>(group, n, token, w), w += 1;
    }
  }

  template <int kWindows, int kTokens>
  void weigh_windows(const CompressGroup& group, std::int64_t n, std::int64_t token, std::int64_t w) const {
    const std::int64_t tokens = group.tokens.size();
    const float* d_output[kWindows];
    for (int j = 0; j < kWindows; ++j) d_output[j] = waiting(n, w + j);
    const T* input = this->at(p.input, n, token);
    if (w == group.windows.begin) prefetch_group(input, tokens);
    float* sums = sums_ + ((n - item.heads.begin) * p.block + (group.segment - w) * p.stride + group.tokens.begin) * kLanes;
    std::int64_t t = 0;
    for (; t + kTokens <= tokens; t += kTokens)
      weigh_tile<kWindows, kTokens>(d_output, input + t * p.input.row_stride, sums + t * kLanes);
    for (; t < tokens; ++t) weigh_tile<kWindows, 1>(d_output, input + t * p.input.row_stride, sums + t * kLanes);
  }

  // The next group's rows of this head.
  void prefetch_group(const T* input, std::int64_t tokens) const {
    for (std::int64_t t = 0; t < tokens; ++t)
      for (std::int64_t d = 0; d < p.dim; d += 64 / static_cast<std::int64_t>(sizeof(T)))
        prefetch(input + (t + kTokensAtOnce) * p.input.row_stride + d);
  }

  template <int kWindows, int kTokens>
  FUSEDATTN_INLINE void weigh_tile(const float* const* d_output, const T* input, float* sums) const {
    const auto sum_at = [&](int j, int t) { return sums + (t - j * p.stride) * kLanes; };
    F32 total[kWindows][kTokens];
#pragma GCC unroll 4
    for (int j = 0; j < kWindows; ++j)
#pragma GCC unroll 4
      for (int t = 0; t < kTokens; ++t) total[j][t] = load(sum_at(j, t));
    std::int64_t d = 0;
    for (; d + kLanes <= p.dim; d += kLanes) weigh_step<kWindows, kTokens, true>(d_output, input, d, total);
    if (d < p.dim) weigh_step<kWindows, kTokens, false>(d_output, input, d, total);
#pragma GCC unroll 4
    for (int j = 0; j < kWindows; ++j)
#pragma GCC unroll 4
      for (int t = 0; t < kTokens; ++t) store(sum_at(j, t), total[j][t]);
  }

  // Features d, ..., as many as a vector has, or the last.
  template <int kWindows, int kTokens, bool kWhole>
  FUSEDATTN_INLINE void weigh_step(const float* const* d_output, const T* input, std::int64_t d,
                                   F32 (&total)[kWindows][kTokens]) const {
    F32 dy[kWindows];
#pragma GCC unroll 4
    for (int j = 0; j < kWindows; ++j) dy[j] = load(d_output[j] + d);
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; ++t) {
      const T* from = input + t * p.input.row_stride + d;
      const F32 x = kWhole ? load(from) : load_some(from, p.dim - d);
#pragma GCC unroll 4
      for (int j = 0; j < kWindows; ++j) total[j][t] = fma(dy[j], x, total[j][t]);
    }
  }

  void gather(const CompressGroup& group, std::int64_t n, std::int64_t token) const {
    switch (group.windows.size()) {
      case 1:
        return gather_windows<1, 4>(group, n, token);
      case 2:
        return gather_windows<2, 4>(group, n, token);
      case 4:
        return gather_windows<4, kPanelVectors>(group, n, token);
      default:
        return gather_windows<0, 4>(group, n, token);
    }
  }

  // kWindows of d_output in registers; 0: any number, from scratch.
  template <int kWindows, int kVectors>
  void gather_windows(const CompressGroup& group, std::int64_t n, std::int64_t token) const {
    const std::int64_t whole = p.dim - p.dim % (kVectors * kLanes);
    T* to = const_cast<T*>(this->at(p.d_input, n, token));
    for (std::int64_t d = 0; d < whole; d += kVectors * kLanes)
      gather_tile<kWindows, kVectors>(group, n, to + d, d, kVectors * kLanes);
    for (std::int64_t d = whole; d < p.dim; d += kLanes) gather_tile<kWindows, 1>(group, n, to + d, d, p.dim - d);
  }

  template <int kWindows, int kVectors>
  FUSEDATTN_INLINE void gather_tile(const CompressGroup& group, std::int64_t n, T* to, std::int64_t d, std::int64_t left) const {
    constexpr int kHeld = kWindows ? kWindows : 1;
    const float* weight = this->weight(group, n, group.windows.begin);
    F32 held[kHeld][kVectors];
#pragma GCC unroll 4
    for (int j = 0; j < kWindows; ++j)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) held[j][v] = load(waiting(n, group.windows.begin + j) + d + v * kLanes);
    const std::int64_t step = p.d_input.row_stride, stride = p.stride;
    for (std::int64_t t = 0; t < group.tokens.size(); ++t, to += step, ++weight) {
      F32 total[kVectors];
      if constexpr (kWindows == 0) {
        gather_any<kVectors>(group.windows, n, weight, d, total);
      } else {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) total[v] = mul(held[0][v], broadcast(weight[0]));
#pragma GCC unroll 4
        for (int j = 1; j < kWindows; ++j)
#pragma GCC unroll 4
          for (int v = 0; v < kVectors; ++v) total[v] = fma(held[j][v], broadcast(weight[-j * stride]), total[v]);
      }
      if constexpr (kVectors == 1) {
        store_upto(to, total[0], left);
      } else {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; v += 2) store_two(to + v * kLanes, total[v], total[v + 1]);
      }
    }
  }

  template <int kVectors>
  FUSEDATTN_INLINE void gather_any(const Range& windows, std::int64_t n, const float* weight, std::int64_t d,
                                   F32 (&total)[kVectors]) const {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) total[v] = zero();
    std::int64_t slot = windows.begin % item.slots;
    for (std::int64_t w = windows.begin; w < windows.end; ++w, weight -= p.stride) {
      const float* dy = item.scratch + slot * this->slot_size + (n - item.heads.begin) * this->head_size + d;
      slot = slot + 1 == item.slots ? 0 : slot + 1;
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) total[v] = fma(load(dy + v * kLanes), broadcast(*weight), total[v]);
    }
  }

  void finish() const {
    for (std::int64_t n = item.heads.begin; n < item.heads.end; ++n)
      for (std::int64_t l = 0; l < p.block; ++l)
        item.d_weight[n * p.block + l] = sum(load(sums_ + ((n - item.heads.begin) * p.block + l) * kLanes));
  }
};

// Chunk after chunk, in float64.
template <class T>
void sum_compress_weights(const Compress& p, const float* partials, std::int64_t count) {
  for (std::int64_t n = 0; n < p.heads; ++n)
    for (std::int64_t l = 0; l < p.block; ++l) {
      double total = 0.0;
      for (std::int64_t c = 0; c < count; ++c) total += static_cast<double>(partials[(c * p.heads + n) * p.block + l]);
      store_some(reinterpret_cast<T*>(row_of(p.dtype, p.d_weight, n, l)), broadcast(static_cast<float>(total)), 1);
    }
}
