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

// out = sum_t weights[t] * outs[t]; a part of weight 0 adds nothing, whatever it holds.
template <class T>
void merge_row_of(const MergeRow& row) {
  for (std::int64_t d = 0; d < row.width; d += kLanes) {
    const std::int64_t left = row.width - d;
    F32 total = zero();
    for (std::int64_t t = 0; t < row.count; ++t) {
      if (row.weights[t] == 0.0f) continue;
      const T* from = reinterpret_cast<const T*>(row.outs[t]) + d;
      total = fma(left >= kLanes ? load(from) : load_some(from, left), broadcast(row.weights[t]), total);
    }
    T* to = reinterpret_cast<T*>(row.out) + d;
    if (left >= kLanes)
      store(to, total);
    else
      store_some(to, total, left);
  }
}
