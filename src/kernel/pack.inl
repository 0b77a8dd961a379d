// Copies of tensors in the shapes that products read fastest, converted to words (see gemm.inl) on the way.
//
// pack_rows         words along the features:  to[row * ld + word]                     (left-hand sides)
// pack_pairs        words along the rows:      to[row / kDepth * ld + feature]         (right-hand sides that sum over rows)
// pack_transposed   panels of columns:         to[row / kPanel * stride + word * kPanel + row % kPanel]
//                                              (right-hand sides that sum over features)
// What pads a panel or a vector is zero.
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

// One vector of words along the rows, from whole or partial vectors of one row, or with pairs of two.
template <class Mac>
FUSEDATTN_INLINE F32 words_along_rows(F32 even, [[maybe_unused]] F32 odd, F32& check) {
  check = check_finite(check, even);
  if constexpr (Mac::kDepth == 1) {
    return even;
  } else {
    check = check_finite(check, odd);
    return Mac::pair(even, odd);
  }
}

// Times a factor, which for words of pairs is 1, -1 or 0. False if something packed is not finite (looked for in float32 words only).
template <class Mac, class T>
bool pack_rows(const T* from, std::int64_t stride, std::int64_t rows, std::int64_t elements, float* to, std::int64_t ld, float factor = 1.0f) {
  F32 check = zero();
  float* const first = to;
  const std::int64_t whole = elements / (kLanes * Mac::kDepth) * kLanes;
  for (std::int64_t i = 0; i < rows; ++i, from += stride, to += ld)
    for (std::int64_t w = 0; w < words<Mac>(elements); w += kLanes) {
      F32 x = w < whole ? load_words<Mac>(from, w) : load_words<Mac>(from, w, elements);
      if constexpr (Mac::kDepth == 1) x = mul(x, broadcast(factor)), check = check_finite(check, x);
      store(to + w, x);
    }
  if constexpr (Mac::kDepth > 1)
    if (factor != 1.0f) Mac::multiply_words(first, rows * ld, factor);
  return sum(check) == 0.0f;
}

// False if something packed is not finite.
template <class Mac, class T>
bool pack_pairs(const T* from, std::int64_t stride, std::int64_t rows, std::int64_t elements, const Panels& to) {
  F32 check = zero();
  for (std::int64_t i = 0; i < rows; i += Mac::kDepth, from += Mac::kDepth * stride) {
    const T* odd = from + stride;
    const bool two = Mac::kDepth > 1 && i + 1 < rows;
    float* at = const_cast<float*>(to.at(i / Mac::kDepth, 0));
    for (std::int64_t d = 0; d < elements; d += kPanel, at += to.panel_stride)
      if (d + kPanel <= elements) {
#pragma GCC unroll 16
        for (int n = 0; n < kPanel; n += kLanes)
          store(at + n, words_along_rows<Mac>(load(from + d + n), two ? load(odd + d + n) : zero(), check));
      } else {
        for (std::int64_t n = 0; d + n < elements; n += kLanes) {
          const std::int64_t left = std::min<std::int64_t>(kLanes, elements - d - n);
          store(at + n, words_along_rows<Mac>(load_some(from + d + n, left), two ? load_some(odd + d + n, left) : zero(), check));
        }
      }
  }
  return sum(check) == 0.0f;
}

// Zeros for the rows [rows, end) of such panels.
template <class Mac>
void pad_pairs(std::int64_t rows, std::int64_t end, std::int64_t elements, const Panels& to) {
  for (std::int64_t k = words<Mac>(rows); k < words<Mac>(end); ++k)
    for (std::int64_t d = 0; d < elements; d += kLanes) store(const_cast<float*>(to.at(k, d)), zero());
}

// Reads kLanes rows side by side, which is not the order in which they come from memory.
template <class Mac, class T>
void pack_transposed(const T* from, std::int64_t stride, std::int64_t rows, std::int64_t elements, float* to,
                     std::int64_t panel_stride) {
  constexpr int kLines = std::max<int>(1, kLanes * kLanes * Mac::kDepth / kLine<T>);  // of a step
  const std::int64_t depth = words<Mac>(elements);
  Ahead<T> ahead(Rows<T>{from, stride, rows, elements});
  for (std::int64_t j = 0; j < round_up(rows, kPanel); j += kLanes) {
    float* panel = to + j / kPanel * panel_stride + j % kPanel;
    for (std::int64_t w = 0; w < depth; w += kLanes) {
      if (w * kLanes * Mac::kDepth % kLine<T> == 0) ahead.template ask<kLines>();
      F32 block[kLanes];
      for (int t = 0; t < kLanes; ++t)
        block[t] = j + t < rows ? load_words<Mac>(from + (j + t) * stride, w, elements) : zero();
      transpose(block);
      const std::int64_t count = std::min<std::int64_t>(kLanes, depth - w);
      for (std::int64_t t = 0; t < count; ++t) store(panel + (w + t) * kPanel, block[t]);
    }
  }
}
