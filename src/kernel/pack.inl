// Copies of tensors in the shapes that products read fastest, converted to words (see gemm.inl) on the way.
//
// pack_rows         words along the features:  to[row * ld + word]                     (left-hand sides)
// pack_pairs        words along the rows:      to[row / kDepth * ld + feature]         (right-hand sides that sum over rows)
// pack_transposed   panels of columns:         to[row / kPanel * stride + word * kPanel + row % kPanel]
//                                              (right-hand sides that sum over features)
// What pads a vector or a word is zero; what would pad a panel with whole vectors is not written, and nobody reads it.
template <class Mac>
constexpr std::int64_t words(std::int64_t elements) {
  return (elements + Mac::kDepth - 1) / Mac::kDepth;
}

// kLanes words of a row from word w on: all of them inside the row, or as many as there are.
template <class Mac, class T>
FUSEDATTN_INLINE F32 load_words(const T* row, std::int64_t w) {
  if constexpr (Mac::kDepth == 1)
    return load(row + w);
  else
    return Mac::load(row + 2 * w);
}
template <class Mac, class T>
FUSEDATTN_INLINE F32 load_words(const T* row, std::int64_t w, std::int64_t elements) {
  const std::int64_t left = elements - w * Mac::kDepth;
  if (left >= kLanes * Mac::kDepth) return load_words<Mac>(row, w);
  if constexpr (Mac::kDepth == 1)
    return load_some(row + w, left);
  else
    return Mac::load_some(row + 2 * w, left);
}

// Words along the rows: `elements` features of a row, or pairs of them and those of the next row, of zeros if there is none.
template <class Mac, class T, int kVectors>
FUSEDATTN_INLINE void load_along_rows(const T* row, [[maybe_unused]] const T* next, std::int64_t elements, F32 (&x)[kVectors]) {
  if constexpr (Mac::kDepth == 1) {
#pragma GCC unroll 16
    for (int n = 0; n < kVectors; ++n) x[n] = load_words<Mac>(row, n * kLanes, elements);
  } else {
    Mac::pair_rows(row, next, elements, x);
  }
}

// Times a factor, which for words of pairs is 1, -1 or 0. False if something packed is not finite (looked for in float32 words only).
template <class Mac, class T>
bool pack_rows(const Rows<T> rows, float* to, std::int64_t ld, float factor) {
  Checks check;
  float* const first = to;
  const std::int64_t elements = rows.elements, whole = elements / (kLanes * Mac::kDepth) * kLanes;
  const auto pack = [&](auto& x, std::int64_t w) FUSEDATTN_ALWAYS {
    if constexpr (Mac::kDepth == 1) {
      for (F32& words : x) words = mul(words, broadcast(factor));
      check.take<Mac>(x);
    }
    float* place = to + w;
    for (const F32& words : x) store(place, words), place += kLanes;
  };
  for (std::int64_t i = 0; i < rows.rows; ++i, to += ld) {
    const T* const from = rows.row(i);
    std::int64_t w = 0;
    for (; (w + kPanel) * Mac::kDepth <= elements; w += kPanel) {
      F32 panel[kPanelVectors];
#pragma GCC unroll 16
      for (int n = 0; n < kPanelVectors; ++n) panel[n] = load_words<Mac>(from, w + n * kLanes);
      pack(panel, w);
    }
    for (; w < words<Mac>(elements); w += kLanes) {
      F32 vector[1] = {w < whole ? load_words<Mac>(from, w) : load_words<Mac>(from, w, elements)};
      pack(vector, w);
    }
  }
  if constexpr (Mac::kDepth > 1)
    if (factor != 1.0f) Mac::multiply_words(first, rows.rows * ld, factor);
  return check.finite();
}

// Rows of words, for products that read them.
struct WordRows {
  const float* data;
  std::int64_t ld;
};

// Whether rows lie in memory as pack_rows() would lay them out, close enough to one another to share the caches with what products read beside them.
template <class Mac, class T>
bool lie_as_words(const Rows<T>& rows) {
  return Mac::kDepth > 1 && rows.elements % Mac::kDepth == 0 && rows.stride % Mac::kDepth == 0 && std::abs(rows.stride) <= 2 * rows.elements;
}

// False if something packed is not finite.
template <class Mac, class T>
bool pack_pairs(const Rows<T> rows, const Panels& to) {
  Checks check;
  const std::int64_t elements = rows.elements;
  for (std::int64_t i = 0; i < rows.rows; i += Mac::kDepth) {
    const T* const from = rows.row(i);
    const auto next = [&](std::int64_t d) { return Mac::kDepth > 1 && i + 1 < rows.rows ? from + rows.stride + d : nullptr; };
    float* at = const_cast<float*>(to.at(i / Mac::kDepth, 0));
    const auto pack = [&](auto& x, std::int64_t d, std::int64_t count, float* place) {
      load_along_rows<Mac>(from + d, next(d), count, x);
      check.take<Mac>(x);
      for (const F32& words : x) store(place, words), place += kLanes;
    };
    for (std::int64_t d = 0; d < elements; d += kPanel, at += to.panel_stride) {
      F32 panel[kPanelVectors], vector[1];
      if (d + kPanel <= elements)
        pack(panel, d, kPanel, at);
      else
        for (std::int64_t n = 0; d + n < elements; n += kLanes) pack(vector, d + n, std::min<std::int64_t>(kLanes, elements - d - n), at + n);
    }
  }
  return check.finite();
}

// Reads kLanes rows side by side, which is not the order in which they come from memory.
template <class Mac, class T>
void pack_transposed(const Rows<T> rows, float* to, std::int64_t panel_stride) {
  constexpr int kLines = std::max<int>(1, kLanes * kLanes * Mac::kDepth / kLine<T>);  // of a step
  const std::int64_t depth = words<Mac>(rows.elements);
  Ahead<T> ahead(rows);
  for (std::int64_t j = 0; j < rows.rows; j += kLanes) {
    float* panel = to + j / kPanel * panel_stride + j % kPanel;
    for (std::int64_t w = 0; w < depth; w += kLanes) {
      if (w * kLanes * Mac::kDepth % kLine<T> == 0) ahead.template ask<kLines>();
      F32 block[kLanes];
      for (int t = 0; t < kLanes; ++t)
        block[t] = j + t < rows.rows ? load_words<Mac>(rows.row(j + t), w, rows.elements) : zero();
      transpose(block);
      const std::int64_t count = std::min<std::int64_t>(kLanes, depth - w);
      for (std::int64_t t = 0; t < count; ++t) store(panel + (w + t) * kPanel, block[t]);
    }
  }
}
