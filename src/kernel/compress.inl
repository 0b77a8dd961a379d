// Token compression, forward. Tokens are read once, a few rows at a time and along all heads of the item, so that memory is read
// in long streams; the sums of the windows that hold them are in registers meanwhile and in scratch between.

constexpr int kTokensAtOnce =
    8;  // rows of a group: read in turn, as many streams as a core follows; 16 rows took a quarter longer

// Tokens of one segment, counted from its start, that are in the same windows.
struct CompressGroup {
  std::int64_t segment;
  Range tokens, windows;
};

template <class T>
FUSEDATTN_INLINE F32 load_upto(const T* p, std::int64_t n) {
  return n >= kLanes ? load(p) : load_some(p, n);
}
template <class T>
FUSEDATTN_INLINE void store_upto(T* p, F32 x, std::int64_t n) {
  if (n >= kLanes)
    store(p, x);
  else
    store_some(p, x, n);
}

// What both directions share: where things lie, and the order of the groups.
template <class T>
struct CompressWalk {
  const Compress& p;
  const CompressItem& item;
  const std::int64_t depth = p.depth(), remainder = p.remainder();
  const std::int64_t head_size = padded(item.dims.size()), slot_size = item.heads.size() * head_size;

  template <class Visit>
  void visit(const CompressPiece& piece, std::int64_t s, const Visit& visit_group) const {
    for (const Range& part : {Range{0, remainder}, Range{remainder, p.stride}}) {
      const std::int64_t deep = part.begin == 0 ? depth : depth - 1;
      const Range windows{std::max(piece.shown.begin, s - deep + 1), std::min(piece.shown.end, s + 1)};
      if (windows.empty()) continue;
      for (std::int64_t t = part.begin; t < part.end; t += kTokensAtOnce)
        visit_group(CompressGroup{s, {t, std::min(t + kTokensAtOnce, part.end)}, windows});
    }
  }

  float* slot(std::int64_t window) const { return item.scratch + window % item.slots * slot_size; }
  const T* at(const View& view, std::int64_t head, std::int64_t row) const {
    return reinterpret_cast<const T*>(row_of(p.dtype, view, head, row)) + item.dims.begin;
  }
  // Weight of the group's first token in a window.
  const float* weight(const CompressGroup& group, std::int64_t head, std::int64_t window) const {
    return item.weights + head * p.block + (group.segment - window) * p.stride + group.tokens.begin;
  }
};

// Asks the second-level cache for what the next group has in this place. The first level has no room: rows are often a multiple
// of its page apart, and share its sets.
template <class T>
FUSEDATTN_INLINE void prefetch(const T* p) {
  __builtin_prefetch(p, 0, 2);
}

template <class T>
class CompressForward : CompressWalk<T> {
  using Walk = CompressWalk<T>;
  using Walk::item, Walk::p;

 public:
  CompressForward(const Compress& problem, const CompressItem& work) : Walk{problem, work} {}

  void run() const {
    for (std::int64_t i = 0; i < item.count; ++i) {
      const CompressPiece& piece = item.pieces[i];
      for (std::int64_t s = piece.segments.begin; s < piece.segments.end; ++s)
        this->visit(piece, s, [&](const CompressGroup& group) { add_group(piece, group); });
    }
  }

 private:
  void add_group(const CompressPiece& piece, const CompressGroup& group) const {
    const Range& windows = group.windows;
    for (std::int64_t w = windows.begin; w < windows.end;) {
      const std::int64_t left = windows.end - w;
      if (left >= 4)
        add_windows<4, kPanelVectors>(piece, group, w), w += 4;
      else if (left >= 2)
        add_windows<2, 4>(piece, group, w), w += 2;
      else
        add_windows<1, 4>(piece, group, w), w += 1;
    }
  }

  // Windows w, ..., w + kWindows - 1, in tiles of kVectors vectors.
  template <int kWindows, int kVectors>
  void add_windows(const CompressPiece& piece, const CompressGroup& group, std::int64_t w) const {
    float* slots[kWindows];
    for (int j = 0; j < kWindows; ++j) slots[j] = this->slot(w + j);
    const std::int64_t dims = item.dims.size(), whole = dims - dims % (kVectors * kLanes);
    for (std::int64_t n = item.heads.begin; n < item.heads.end; ++n) {
      Tile<kWindows> tile{};
      tile.input = this->at(p.input, n, piece.token + group.segment * p.stride + group.tokens.begin);
      for (int j = 0; j < kWindows; ++j) {
        tile.weight[j] = this->weight(group, n, w + j);
        const std::int64_t begin = (group.segment - w - j) * p.stride + group.tokens.begin;  // position in the window
        tile.sums[j] = slots[j] + (n - item.heads.begin) * this->head_size;
        tile.fresh[j] = begin == 0;
        const bool full = begin + group.tokens.size() == p.block;
        tile.out[j] = full ? const_cast<T*>(this->at(p.output, n, piece.row + w + j)) : nullptr;
      }
      for (std::int64_t d = 0; d < whole; d += kVectors * kLanes)
        add_tile<kWindows, kVectors>(tile, group.tokens.size(), d, kVectors * kLanes);
      for (std::int64_t d = whole; d < dims; d += kLanes) add_tile<kWindows, 1>(tile, group.tokens.size(), d, dims - d);
    }
  }

  template <int kWindows>
  struct Tile {
    const T* input;
    const float* weight[kWindows];
    float* sums[kWindows];
    bool fresh[kWindows];  // begins here: no sums yet
    T* out[kWindows];      // null unless it ends here
  };

  // Features d, ... of `tokens` rows; `left` of them remain, if not all.
  template <int kWindows, int kVectors>
  FUSEDATTN_INLINE void add_tile(const Tile<kWindows>& tile, std::int64_t tokens, std::int64_t d, std::int64_t left) const {
    F32 total[kWindows][kVectors];
#pragma GCC unroll 4
    for (int j = 0; j < kWindows; ++j)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) total[j][v] = tile.fresh[j] ? zero() : load(tile.sums[j] + d + v * kLanes);
    const T* from = tile.input + d;
    const std::int64_t step = p.input.row_stride, ahead = kTokensAtOnce * step;
    for (std::int64_t t = 0; t < tokens; ++t, from += step) {
      prefetch(from + ahead);
      F32 x[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) x[v] = kVectors > 1 ? load(from + v * kLanes) : load_upto(from, left);
#pragma GCC unroll 4
      for (int j = 0; j < kWindows; ++j) {
        const F32 w = broadcast(tile.weight[j][t]);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) total[j][v] = fma(x[v], w, total[j][v]);
      }
    }
#pragma GCC unroll 4
    for (int j = 0; j < kWindows; ++j)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        if (tile.out[j] == nullptr)
          store(tile.sums[j] + d + v * kLanes, total[j][v]);
        else if (kVectors > 1)
          store(tile.out[j] + d + v * kLanes, total[j][v]);
        else
          store_upto(tile.out[j] + d, total[j][v], left);
      }
  }
};

template <class T>
void compress_weights(const Compress& p, float* to) {
  for (std::int64_t l = 0; l < p.block; ++l)
    for (std::int64_t n = 0; n < p.heads; ++n)
      store_some(to + n * p.block + l, load_some(reinterpret_cast<const T*>(row_of(p.dtype, p.weight, n, l)), 1), 1);
}
