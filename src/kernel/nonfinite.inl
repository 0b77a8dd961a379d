// Note [What is hidden may be NaN]
//
// Products multiply whole strips and panels: a hidden pair takes part with weight 0. That is exact as long as the other factor is
// finite, but 0 * NaN is NaN, and a NaN or infinity in a hidden key or value must reach nobody. So packing also finds out whether
// what it packs is finite (one multiply-add a vector). If not, and if a tile hides anything, the product takes a copy in which 0
// replaces what is not finite, and only the pairs that do see each other get the rest added: to[i] += weight[i,j] * from[j].

// Sums that become NaN once they have met words of which one is not finite: several, for each waits for itself.
class Checks {
 public:
  template <class Mac, int kVectors>
  FUSEDATTN_INLINE void take(const F32 (&words)[kVectors]) {
    static_assert(kVectors <= kPanelVectors);
#pragma GCC unroll 16
    for (int n = 0; n < kVectors; ++n) sums_[n] = Mac::multiply_add(words[n], zero(), sums_[n]);
  }
  bool finite() const {
    F32 all = sums_[0];
    for (int n = 1; n < kPanelVectors; ++n) all = add(all, sums_[n]);
    return sum(all) == 0.0f;
  }

 private:
  F32 sums_[kPanelVectors] = {};
};

// The part of a row that is not finite, 0 elsewhere; false if there is none.
template <class T>
bool nonfinite_part(const T* row, std::int64_t elements, float* part) {
  bool any = false;
  for (std::int64_t d = 0; d < elements; d += kLanes) {
    const std::int64_t left = elements - d;
    store(part + d, left >= kLanes ? load(row + d) : load_some(row + d, left));
    for (std::int64_t n = d; n < d + kLanes; ++n) {
      const bool keep = !std::isfinite(part[n]);
      part[n] = keep ? part[n] : 0.0f;
      any = any || keep;
    }
  }
  return any;
}

inline void add_weighted(float* to, float weight, const float* part, std::int64_t n) {
  for (std::int64_t d = 0; d < n; d += kLanes) store(to + d, fma(broadcast(weight), load(part + d), load(to + d)));
}

FUSEDATTN_INLINE bool sees(const Seen& seen, const std::uint8_t* bytes, bool nonzero_hides, std::int64_t column) {
  return column >= seen.columns.begin && column < seen.columns.end && !(seen.holes && !shows(bytes[column], nonzero_hides));
}

constexpr std::int64_t kMostFeatures = 1536;  // see check.cc
