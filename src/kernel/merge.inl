// Rows of a merge: out[row] = sum_t weights[row, t] * outs[t][row], added in the order of the parts, rounded once.

// A product that is rounded before it is added, where the compiler can be told: two parts then add up alike in either order.
FUSEDATTN_INLINE F32 rounded(F32 product) {
#ifdef __has_builtin
#if __has_builtin(__builtin_assoc_barrier)
  return __builtin_assoc_barrier(product);
#endif
#endif
  return product;
}

template <class T>
FUSEDATTN_INLINE F32 term(const T* from, std::int64_t left, F32 weight) {
  return rounded(mul(left >= kLanes ? load(from) : load_some(from, left), weight));
}

template <bool kAround, class T>
FUSEDATTN_INLINE void put(T* to, std::int64_t left, F32 x) {
  if (left < kLanes)
    store_some(to, x, left);
  else if constexpr (kAround)
    store_around(to, x);
  else
    store(to, x);
}

// Two vectors of neighbouring elements: halves, or even and odd ones where that takes fewer operations.
template <class T>
FUSEDATTN_INLINE void load_two(const T* p, F32& x, F32& y) {
  if constexpr (std::is_same_v<T, bf16>)
    load_pairs(p, x, y);
  else
    x = load(p), y = load(p + kLanes);
}
template <bool kAround, class T>
FUSEDATTN_INLINE void put_two(T* p, F32 x, F32 y) {
  if constexpr (std::is_same_v<T, bf16>)
    kAround ? store_pairs_around(p, x, y) : store_pairs(p, x, y);
  else
    put<kAround>(p, kLanes, x), put<kAround>(p + kLanes, kLanes, y);
}

// The usual merge, in which all counts.
template <bool kAround, class T>
FUSEDATTN_INLINE void merge_two(const T* a, const T* b, const float* weights, std::int64_t width, T* to) {
  const F32 weight_a = broadcast(weights[0]), weight_b = broadcast(weights[1]);
  std::int64_t d = 0;
  for (; d + 2 * kLanes <= width; d += 2 * kLanes) {
    F32 a0, a1, b0, b1;
    load_two(a + d, a0, a1), load_two(b + d, b0, b1);
    const F32 x = add(rounded(mul(a0, weight_a)), rounded(mul(b0, weight_b))), y = add(rounded(mul(a1, weight_a)), rounded(mul(b1, weight_b)));
    put_two<kAround>(to + d, x, y);
  }
  for (; d < width; d += kLanes)
    put<kAround>(to + d, width - d, add(term(a + d, width - d, weight_a), term(b + d, width - d, weight_b)));
}

template <class T>
void merge_many(const MergeRows& m, std::int64_t row, const float* weights, T* to) {
  for (std::int64_t d = 0; d < m.width; d += kLanes) {
    F32 total = zero();
    bool begun = false;
    for (std::int64_t t = 0; t < m.count; ++t) {
      if (m.skips_zeros && weights[t] == 0.0f) continue;
      const T* from = reinterpret_cast<const T*>(m.outs[t] + row * m.steps[t]) + d;
      const F32 one = term(from, m.width - d, broadcast(weights[t]));
      total = begun ? add(total, one) : one;
      begun = true;
    }
    put<false>(to + d, m.width - d, total);
  }
}

// Half of a page. From memory on Zen 3, rows of 256 bytes: 62 ns a row instead of 82; in the caches, where it is left out, 5 ns more.
constexpr std::int64_t kBytesAhead = 2048;

// Processors foresee a stream within a page of memory alone: the first lines of each would be waited for.
FUSEDATTN_INLINE void ask_for_row(const MergeRows& m, std::int64_t row, std::int64_t bytes) {
  for (std::int64_t t = 0; t < m.count; ++t)
    for (std::int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(m.outs[t] + row * m.steps[t] + at);
}

template <class T>
void merge_rows(const MergeRows& m) {
  const std::int64_t bytes = m.width * static_cast<std::int64_t>(sizeof(T)), ahead = (kBytesAhead + bytes - 1) / bytes;
  constexpr std::uintptr_t kVectorBytes = kLanes * sizeof(float);  // two vectors of 16-bit elements
  for (std::int64_t row = 0; row < m.rows; ++row) {
    if (m.from_memory) ask_for_row(m, row + ahead, bytes);
    const float* weights = m.weights + row * m.weights_step;
    T* to = reinterpret_cast<T*>(m.out + row * m.out_step);
    if (m.count != 2 || (m.skips_zeros && (weights[0] == 0.0f || weights[1] == 0.0f))) {
      merge_many(m, row, weights, to);
      continue;
    }
    const T* a = reinterpret_cast<const T*>(m.outs[0] + row * m.steps[0]);
    const T* b = reinterpret_cast<const T*>(m.outs[1] + row * m.steps[1]);
    if (m.around_caches && reinterpret_cast<std::uintptr_t>(to) % kVectorBytes == 0)
      merge_two<true>(a, b, weights, m.width, to);
    else
      merge_two<false>(a, b, weights, m.width, to);
  }
  if (m.around_caches) store_fence();
}

// e^x for finite x <= 0 within 1 ulp (measured over all of them, see merge_test.cc), subnormal results included; at 0 exactly 1.
// x = n ln 2 + r; ln 2 in two parts, of which the first times n is exact; e^r = 1 + r + r^2 q(r), q after Cephes' expf.
FUSEDATTN_INLINE F32 exp_below_zero(F32 x) {
  constexpr float kQ[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
  const F32 magic = broadcast(12582912.0f + 127.0f);
  const auto power_of_two = [&](F32 n) { return shift_to_exponent(add(n, magic)); };  // -127 < n < 128
  x = max(x, broadcast(-105.0f));                                                     // rounds to 0
  const F32 n = sub(add(mul(x, broadcast(1.44269504088896340736f)), magic), magic);
  const F32 r = fma(n, broadcast(2.12194440e-4f), fma(n, broadcast(-0.693359375f), x));
  F32 q = broadcast(kQ[0]);
#pragma GCC unroll 5
  for (int k = 1; k < 6; ++k) q = fma(q, r, broadcast(kQ[k]));
  const F32 p = add(fma(mul(r, r), q, r), broadcast(1.0f));
  const F32 high = max(n, broadcast(-100.0f));
  return mul(mul(p, power_of_two(high)), power_of_two(sub(n, high)));
}

// top = max_t max[t], terms[t] = sum[t] exp(max[t] - top), in place of the sums. All finite.
void weigh_rows(const WeighedRows& w) {
  for (std::int64_t i = 0; i < kWeighedRows; i += kLanes) {
    F32 top = load(w.max + i);
    for (std::int64_t t = 1; t < w.count; ++t) top = max(top, load(w.max + t * kWeighedRows + i));
    store(w.top + i, top);
    for (std::int64_t t = 0; t < w.count; ++t) {
      const std::int64_t at = t * kWeighedRows + i;
      store(w.terms + at, mul(load(w.terms + at), exp_below_zero(sub(load(w.max + at), top))));
    }
  }
}
