// Products of tiles, strip by strip, each strip only inside the hull of what its rows see.
constexpr std::int64_t kDepthChunk = 256;  // words of depth in one pass: a panel then fits the first-level cache

using Sums = F32[kStripRows][kPanelVectors];
struct NoFinish {};

// C = A B^T for a tile: packed panels of some columns against the strips of rows that see one of them. Panels of `whole` are not stored:
// finish(i, j, sums) gets those of rows i and columns j on. Sums begin with 0, or with what `first`, if there is one, has of each row.
template <class Mac, class Finish = NoFinish, class... First>
void inner_products(const float* a, std::int64_t lda, const float* panels, std::int64_t depth, std::int64_t rows, Range columns,
                    const Range* hulls, float* c, std::int64_t ldc, const Range* whole = nullptr, const Finish& finish = {}, First... first) {
  const std::int64_t strips = strips_of(rows);
  std::int64_t last = 0;
  for (std::int64_t t = 0; t < strips; ++t) last = std::max(last, hulls[t].end);
  for (std::int64_t w = 0; w < depth; w += kDepthChunk)
    for (std::int64_t j = columns.begin; j < std::min(last, columns.end); j += kPanel)
      for (std::int64_t t = 0; t < strips; ++t) {
        if constexpr (!std::is_same_v<Finish, NoFinish>)
          if (whole[t].begin <= j && j < whole[t].end) {
            const std::int64_t i = t * kStripRows;
            multiply_whole_tile<Mac>(a + i * lda, lda, panels + j / kPanel * depth * kPanel, depth, i, j, finish, first + i...);
            continue;
          }
        if (j + kPanel <= hulls[t].begin || j >= hulls[t].end) continue;
        const std::int64_t i = t * kStripRows, vectors = (std::min(kPanel, hulls[t].end - j) + kLanes - 1) / kLanes;
        kTiles<Mac, false, First...>.of[std::min<std::int64_t>(kStripRows, rows - i) - 1][vectors - 1](
            a + i * lda + w, lda, panels + j / kPanel * depth * kPanel + w * kPanel, kPanel, c + i * ldc + j, ldc,
            std::min(kDepthChunk, depth - w), w > 0, (w > 0 ? kZeros : first + i)...);
      }
}

// Whatever is summed up over blocks has left the near caches when its next block comes. Asked for where a product begins, it is there when
// the product is done: without, the long items of a forward stood at 80 to 90 % of what they reach.
FUSEDATTN_INLINE void prefetch_tile(const float* c, std::int64_t ldc, std::int64_t rows) {
  for (std::int64_t i = 0; i < rows; ++i) __builtin_prefetch(c + i * ldc, 1);
}

// C += A B for a tile (kColumns: C += A^T B): every panel of B meets all strips, so that it stays in the first-level cache. Each
// strip sums over the depth that it has something to do with, in elements. With `begun`, C is only written where a strip has none yet.
template <class Mac, bool kColumns>
void sum_products(const float* a, std::int64_t lda, const Panels& b, const Range* depths, std::int64_t rows, std::int64_t width,
                  float* c, std::int64_t ldc, const bool* begun = nullptr) {
  for (std::int64_t n = 0; n < width; n += kPanel) {
    const std::int64_t vectors = (std::min(kPanel, width - n) + kLanes - 1) / kLanes;
    for (std::int64_t i = 0; i < rows; i += kStripRows) {
      const Range depth{depths[i / kStripRows].begin / Mac::kDepth, words<Mac>(depths[i / kStripRows].end)};
      if (depth.empty()) continue;
      const std::int64_t strip_rows = std::min<std::int64_t>(kStripRows, rows - i);
      prefetch_tile(c + i * ldc + n, ldc, strip_rows);
      kTiles<Mac, kColumns>.of[strip_rows - 1][vectors - 1](
          kColumns ? a + depth.begin * lda + i : a + i * lda + depth.begin, lda, b.at(depth.begin, n), b.row_stride,
          c + i * ldc + n, ldc, depth.size(), begun == nullptr || begun[i / kStripRows]);
    }
  }
}

// After a product: strips with something to sum have begun.
inline void begin_strips(bool* begun, const Range* depths, std::int64_t rows) {
  for (std::int64_t i = 0; i < rows; i += kStripRows) begun[i / kStripRows] |= !depths[i / kStripRows].empty();
}

// For every strip of columns, the rows whose strips see one of them. Strips of rows that follow one another mostly have one hull: together
// they are looked at once, which is a thirtieth of the work of asking every strip of rows for every strip of columns.
inline void rows_that_see(const Range* hulls, std::int64_t rows, std::int64_t cols, Range* seen) {
  std::fill(seen, seen + strips_of(cols), Range{});
  for (std::int64_t i = 0; i < rows;) {
    const Range hull = meet(hulls[i / kStripRows], {0, cols});
    const std::int64_t first = i;
    do i += kStripRows;
    while (i < rows && hulls[i / kStripRows] == hulls[first / kStripRows]);
    if (hull.empty()) continue;
    for (std::int64_t j = hull.begin / kStripRows; j * kStripRows < hull.end; ++j)
      seen[j] = {seen[j].empty() ? first : seen[j].begin, std::min(i, rows)};
  }
}

template <class T>
FUSEDATTN_INLINE void store_scaled(T* to, const float* from, std::int64_t n, float factor) {
  std::int64_t d = 0;
  for (; d + kLanes <= n; d += kLanes) store(to + d, mul(load(from + d), broadcast(factor)));
  if (d < n) store_some(to + d, mul(load(from + d), broadcast(factor)), n - d);
}

// Of many rows, unless they are not wanted.
template <class T>
void store_rows(T* to, std::int64_t stride, const float* from, std::int64_t ld, std::int64_t rows, std::int64_t n, float factor) {
  if (to == nullptr) return;
  for (std::int64_t i = 0; i < rows; ++i, to += stride, from += ld) store_scaled(to, from, n, factor);
}
