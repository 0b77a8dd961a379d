// Products of tiles, strip by strip, each strip only inside the hull of what its rows see.
constexpr std::int64_t kDepthChunk = 256;  // words of depth in one pass: a panel then fits the first-level cache

// C = A B^T for a tile: packed panels of columns against the strips of rows that see one of them.
template <class Mac>
void inner_products(const float* a, std::int64_t lda, const float* panels, std::int64_t depth, std::int64_t rows,
                    const Range* hulls, float* c, std::int64_t ldc) {
  const std::int64_t strips = (rows + kStripRows - 1) / kStripRows;
  std::int64_t last = 0;
  for (std::int64_t t = 0; t < strips; ++t) last = std::max(last, hulls[t].end);
  for (std::int64_t w = 0; w < depth; w += kDepthChunk)
    for (std::int64_t j = 0; j < last; j += kPanel)
      for (std::int64_t t = 0; t < strips; ++t) {
        if (j < hulls[t].begin || j >= hulls[t].end) continue;
        const std::int64_t i = t * kStripRows;
        kTiles<Mac, false>.of[std::min<std::int64_t>(kStripRows, rows - i) - 1][kPanelVectors - 1](
            a + i * lda + w, lda, panels + j / kPanel * depth * kPanel + w * kPanel, kPanel, c + i * ldc + j, ldc,
            std::min(kDepthChunk, depth - w), w > 0);
      }
}

// The rows whose strips see one of these columns.
inline Range rows_that_see(Range columns, const Range* hulls, std::int64_t rows) {
  Range seen;
  for (std::int64_t t = 0; t * kStripRows < rows; ++t) {
    if (meet(hulls[t], columns).empty()) continue;
    const Range strip{t * kStripRows, std::min<std::int64_t>((t + 1) * kStripRows, rows)};
    seen = seen.empty() ? strip : Range{seen.begin, strip.end};
  }
  return seen;
}

// C += A^T B for strips of columns: dV += P^T dO and dK += dS^T Q.
template <class Mac>
void outer_products(const float* a, std::int64_t lda, const Panels& b, std::int64_t rows, std::int64_t cols, const Range* hulls,
                    std::int64_t width, float* c, std::int64_t ldc) {
  for (std::int64_t j = 0; j < cols; j += kStripRows) {
    const std::int64_t strip = std::min<std::int64_t>(kStripRows, cols - j);
    const Range seen = rows_that_see({j, j + strip}, hulls, rows);
    if (seen.empty()) continue;
    const Range depth{seen.begin / Mac::kDepth, words<Mac>(seen.end)};
    multiply_strip<Mac, true>(strip, a + depth.begin * lda + j, lda, b, depth, width, c + j * ldc, ldc, true);
  }
}

template <class T>
FUSEDATTN_INLINE void store_scaled(T* to, const float* from, std::int64_t n, float factor) {
  std::int64_t d = 0;
  for (; d + kLanes <= n; d += kLanes) store(to + d, mul(load(from + d), broadcast(factor)));
  if (d < n) store_some(to + d, mul(load(from + d), broadcast(factor)), n - d);
}
