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

// kLanes words of a row from word w on.
template <class Mac, class T>
FUSEDATTN_INLINE F32 load_words(const T* row, std::int64_t w, std::int64_t elements) {
  const std::int64_t left = elements - w * Mac::kDepth;
  if constexpr (Mac::kDepth == 1) {
    return left >= kLanes ? load(row + w) : load_some(row + w, left);
  } else {
    return left >= 2 * kLanes ? Mac::load(row + 2 * w) : Mac::load_some(row + 2 * w, left);
  }
}

// One vector of words along the rows: feature d of row `even`, and with pairs also of row `odd` (null: zero).
template <class Mac, class T>
FUSEDATTN_INLINE F32 load_pairs(const T* even, [[maybe_unused]] const T* odd, std::int64_t d, std::int64_t elements) {
  const std::int64_t left = elements - d;
  const F32 first = left >= kLanes ? load(even + d) : load_some(even + d, left);
  if constexpr (Mac::kDepth == 1) {
    return first;
  } else {
    const F32 second = odd == nullptr ? zero() : left >= kLanes ? load(odd + d) : load_some(odd + d, left);
    return Mac::pair(first, second);
  }
}

template <class Mac, class T>
void pack_rows(const T* from, std::int64_t stride, std::int64_t rows, std::int64_t elements, float* to, std::int64_t ld) {
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t w = 0; w < words<Mac>(elements); w += kLanes)
      store(to + i * ld + w, load_words<Mac>(from + i * stride, w, elements));
}

template <class Mac, class T>
void pack_pairs(const T* from, std::int64_t stride, std::int64_t rows, std::int64_t elements, const Panels& to) {
  for (std::int64_t i = 0; i < rows; i += Mac::kDepth) {
    const T* even = from + i * stride;
    const T* odd = i + 1 < rows ? even + stride : nullptr;
    for (std::int64_t d = 0; d < elements; d += kLanes)
      store(const_cast<float*>(to.at(i / Mac::kDepth, d)), load_pairs<Mac>(even, odd, d, elements));
  }
}

// Zeros for the rows [rows, end) of such panels.
template <class Mac>
void pad_pairs(std::int64_t rows, std::int64_t end, std::int64_t elements, const Panels& to) {
  for (std::int64_t k = words<Mac>(rows); k < words<Mac>(end); ++k)
    for (std::int64_t d = 0; d < elements; d += kLanes) store(const_cast<float*>(to.at(k, d)), zero());
}

template <class Mac, class T>
void pack_transposed(const T* from, std::int64_t stride, std::int64_t rows, std::int64_t elements, float* to,
                     std::int64_t panel_stride) {
  const std::int64_t depth = words<Mac>(elements);
  for (std::int64_t j = 0; j < round_up(rows, kPanel); j += kLanes) {
    float* panel = to + j / kPanel * panel_stride + j % kPanel;
    for (std::int64_t w = 0; w < depth; w += kLanes) {
      F32 block[kLanes];
      for (int t = 0; t < kLanes; ++t)
        block[t] = j + t < rows ? load_words<Mac>(from + (j + t) * stride, w, elements) : zero();
      transpose(block);
      const std::int64_t count = std::min<std::int64_t>(kLanes, depth - w);
      for (std::int64_t t = 0; t < count; ++t) store(panel + (w + t) * kPanel, block[t]);
    }
  }
}
