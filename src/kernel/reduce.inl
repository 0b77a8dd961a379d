// Sums of partial results, in a fixed order.

// kVectors vectors of the sum of the parts, from element `at` of each on.
template <class T, int kVectors>
FUSEDATTN_INLINE void reduce(const ReduceItem& item, std::int64_t at, T* to, std::int64_t count) {
  F32 total[kVectors];
#pragma GCC unroll 16
  for (int n = 0; n < kVectors; ++n) total[n] = item.count > 0 ? load(item.parts[0] + at + n * kLanes) : zero();
  for (std::int64_t t = 1; t < item.count; ++t) {
    const float* part = item.parts[t] + at;
#pragma GCC unroll 16
    for (int n = 0; n < kVectors; ++n) total[n] = add(total[n], load(part + n * kLanes));
  }
#pragma GCC unroll 16
  for (int n = 0; n < kVectors; ++n) {
    total[n] = mul(total[n], broadcast(item.factor));
    if (kVectors > 1 || count >= kLanes)
      store(to + n * kLanes, total[n]);
    else
      store_some(to + n * kLanes, total[n], count);
  }
}

// out = factor * sum of the parts, rounded once.
template <class T>
void reduce_rows(const ReduceItem& item) {
  constexpr int kAtOnce = 4;
  const std::int64_t ld = leading(item.width);
  for (std::int64_t i = item.rows.begin; i < item.rows.end; ++i) {
    T* to = reinterpret_cast<T*>(item.out) + i * item.out_stride;
    std::int64_t d = 0;
    for (; d + kAtOnce * kLanes <= item.width; d += kAtOnce * kLanes) reduce<T, kAtOnce>(item, i * ld + d, to + d, item.width - d);
    for (; d < item.width; d += kLanes) reduce<T, 1>(item, i * ld + d, to + d, item.width - d);
  }
}
