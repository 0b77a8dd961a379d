// Reductions of many vectors at once over their lanes: a sum or a maximum of each, a lane each, for half of the shuffles of one after the other.
struct Add {
  FUSEDATTN_INLINE F32 operator()(F32 a, F32 b) const { return add(a, b); }
};
struct Max {
  FUSEDATTN_INLINE F32 operator()(F32 a, F32 b) const { return max(a, b); }
};

// What vectors of memory are on the way: every kFolded of them one, where the lane has fold().
template <class Op, int kVectors>
FUSEDATTN_INLINE F32 folded(const Op& op, const F32 (&x)[kVectors], int n) {
  if constexpr (kFolded == 4)
    return fold(op, x[n], x[n + 1], x[n + 2], x[n + 3]);
  else
    return x[n];
}

// Of kLanes vectors of which every kFolded are folded already, one after another in memory.
template <class Op>
FUSEDATTN_INLINE F32 across_folded(const Op& op, const float* p) {
  F32 x[kLanes / kFolded];
#pragma GCC unroll 16
  for (int n = 0; n < kLanes / kFolded; ++n) x[n] = load(p + n * kLanes);
  return across(op, x);
}

// Of kLanes vectors, one after another in memory.
template <class Op>
FUSEDATTN_INLINE F32 across_lanes(const Op& op, const float* p) {
  F32 x[kLanes / kFolded];
#pragma GCC unroll 16
  for (int n = 0; n < kLanes / kFolded; ++n) {
    F32 some[kFolded];
#pragma GCC unroll 16
    for (int m = 0; m < kFolded; ++m) some[m] = load(p + (n * kFolded + m) * kLanes);
    x[n] = folded(op, some, 0);
  }
  return across(op, x);
}
