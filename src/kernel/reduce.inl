// Sums of partial results, in a fixed order.

// out = factor * sum of the parts, rounded once.
template <class T>
void reduce_rows(const ReduceItem& item) {
  const std::int64_t ld = leading(item.width);
  for (std::int64_t i = item.rows.begin; i < item.rows.end; ++i) {
    T* to = reinterpret_cast<T*>(item.out) + i * item.out_stride;
    for (std::int64_t d = 0; d < item.width; d += kLanes) {
      F32 total = load(item.parts[0] + i * ld + d);
      for (std::int64_t t = 1; t < item.count; ++t) total = add(total, load(item.parts[t] + i * ld + d));
      total = mul(total, broadcast(item.factor));
      if (d + kLanes <= item.width)
        store(to + d, total);
      else
        store_some(to + d, total, item.width - d);
    }
  }
}
