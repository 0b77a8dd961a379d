// The first n < kLanes elements of a vector, for lanes without masked loads: through a buffer, never touching what lies behind.
template <class T>
FUSEDATTN_INLINE F32 load_some(const T* p, std::int64_t n) {
  T buffer[kLanes] = {};
  std::memcpy(buffer, p, static_cast<std::size_t>(n) * sizeof(T));
  return load(buffer);
}

template <class T>
FUSEDATTN_INLINE void store_some(T* p, F32 x, std::int64_t n) {
  T buffer[kLanes];
  store(buffer, x);
  std::memcpy(p, buffer, static_cast<std::size_t>(n) * sizeof(T));
}
