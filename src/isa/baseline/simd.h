// The vector type of the baseline lane: four floats in the compiler's own vector extension; SSE2 on x86-64, NEON on Arm.
typedef float F32 __attribute__((vector_size(16)));
typedef std::uint32_t U32 __attribute__((vector_size(16)));

constexpr int kLanes = 4;
constexpr int kStripRows = 6;     // 6 x 2 accumulators + 2 + 1 in 16 registers
constexpr int kPanelVectors = 2;
constexpr int kStepsAtOnce = 1;    // steps of depth between two branches: the compiler keeps more in memory
constexpr bool kFinishesTiles = false;  // a tile of scores leaves no registers for what follows on it
constexpr int kTileStrips = 3;     // strips of a forward tile: 18 rows of 256 scores take 18 KB of a 32 KB first-level cache
constexpr int kMostGradientStrips = 16;  // of a backward tile: 96 rows
constexpr std::int64_t kBlockBytes = 256 * 1024;  // keys and values of one block: half of a 512 KB second-level cache

FUSEDATTN_INLINE F32 broadcast(float x) { return F32{x, x, x, x}; }
FUSEDATTN_INLINE F32 broadcast_from(const float* p) { return broadcast(*p); }
FUSEDATTN_INLINE F32 zero() { return F32{0, 0, 0, 0}; }
FUSEDATTN_INLINE F32 add(F32 a, F32 b) { return a + b; }
FUSEDATTN_INLINE F32 sub(F32 a, F32 b) { return a - b; }
FUSEDATTN_INLINE F32 mul(F32 a, F32 b) { return a * b; }
FUSEDATTN_INLINE F32 div(F32 a, F32 b) { return a / b; }
FUSEDATTN_INLINE F32 fma(F32 a, F32 b, F32 c) { return a * b + c; }
FUSEDATTN_INLINE F32 max(F32 a, F32 b) { return a > b ? a : b; }  // b if either is NaN, as in every lane
FUSEDATTN_INLINE F32 min(F32 a, F32 b) { return a < b ? a : b; }

FUSEDATTN_INLINE F32 bits(U32 x) { return reinterpret_cast<F32>(x); }
FUSEDATTN_INLINE U32 bits(F32 x) { return reinterpret_cast<U32>(x); }
// a where x is at most y, else b, also where either is NaN.
FUSEDATTN_INLINE F32 choose_at_most(F32 x, F32 y, F32 a, F32 b) { return x <= y ? a : b; }

FUSEDATTN_INLINE F32 shift_to_exponent(F32 x) { return bits(bits(x) << 23); }

FUSEDATTN_INLINE float sum(F32 x) { return (x[0] + x[1]) + (x[2] + x[3]); }
FUSEDATTN_INLINE float maximum(F32 x) { return std::max(std::max(x[0], x[1]), std::max(x[2], x[3])); }

FUSEDATTN_INLINE void transpose(F32 (&r)[kLanes]) {
  F32 t[kLanes];
  for (int i = 0; i < kLanes; ++i) t[i] = F32{r[0][i], r[1][i], r[2][i], r[3][i]};
  for (int i = 0; i < kLanes; ++i) r[i] = t[i];
}

FUSEDATTN_INLINE F32 load(const float* p) {
  F32 x;
  std::memcpy(&x, p, sizeof x);
  return x;
}
FUSEDATTN_INLINE void store(float* p, F32 x) { std::memcpy(p, &x, sizeof x); }
// What an operation makes of the lanes of kLanes vectors, a lane each; none are folded into one before, see AVX-512.
constexpr int kFolded = 1;
template <class Op>
FUSEDATTN_INLINE F32 across(const Op& op, const F32 (&x)[kLanes]) {
  F32 lanes[kLanes] = {x[0], x[1], x[2], x[3]};
  transpose(lanes);
  return op(op(lanes[0], lanes[1]), op(lanes[2], lanes[3]));
}

// The first n (0 to 4) elements of x, the rest of `rest`.
FUSEDATTN_INLINE F32 keep_first(F32 x, std::int64_t n, F32 rest) {
  for (std::int64_t i = n; i < kLanes; ++i) x[i] = rest[i];
  return x;
}

FUSEDATTN_INLINE F32 load(const bf16* p) {
  U32 x = {p[0].bits, p[1].bits, p[2].bits, p[3].bits};
  return bits(x << 16);
}
FUSEDATTN_INLINE U32 round_bf16(F32 x) {
  const U32 u = bits(x);
  return x == x ? u + 0x7fffu + ((u >> 16) & 1u) : U32{} + 0x7fc00000u;
}
FUSEDATTN_INLINE void store(bf16* p, F32 x) {
  const U32 rounded = round_bf16(x);
  for (int i = 0; i < kLanes; ++i) p[i].bits = static_cast<std::uint16_t>(rounded[i] >> 16);
}
// Two vectors of bfloat16 apart as even and odd elements, which takes no shuffles; see kernel/merge.inl. Little endian.
FUSEDATTN_INLINE void load_pairs(const bf16* p, F32& even, F32& odd) {
  U32 both;
  std::memcpy(&both, p, sizeof both);
  even = bits(both << 16), odd = bits(both & 0xffff0000u);
}
FUSEDATTN_INLINE void store_pairs(bf16* p, F32 even, F32 odd) {
  const U32 both = round_bf16(even) >> 16 | (round_bf16(odd) & 0xffff0000u);
  std::memcpy(p, &both, sizeof both);
}
FUSEDATTN_INLINE void store_pairs_around(bf16* p, F32 even, F32 odd) { store_pairs(p, even, odd); }

// Half precision without hardware: rebias the exponent; subnormals by an exact float32 subtraction or addition.
FUSEDATTN_INLINE float widen(f16 h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h.bits & 0x8000u) << 16;
  const std::uint32_t magnitude = h.bits & 0x7fffu;
  std::uint32_t u;
  if (magnitude >= 0x7c00u) {
    u = 0x7f800000u | (magnitude & 0x3ffu) << 13;
  } else if (magnitude >= 0x400u) {
    u = (magnitude << 13) + (112u << 23);
  } else {
    const float tiny = static_cast<float>(magnitude) * 0x1p-24f;
    std::memcpy(&u, &tiny, sizeof u);
  }
  u |= sign;
  float x;
  std::memcpy(&x, &u, sizeof x);
  return x;
}
FUSEDATTN_INLINE f16 narrow(float x) {
  std::uint32_t u;
  std::memcpy(&u, &x, sizeof u);
  const std::uint32_t sign = u >> 16 & 0x8000u;
  const std::uint32_t magnitude = u & 0x7fffffffu;
  std::uint32_t h;
  if (magnitude > 0x7f800000u) {
    h = 0x7e00u;
  } else if (magnitude >= 0x477ff000u) {  // rounds past the largest finite half, 65504
    h = 0x7c00u;
  } else if (magnitude >= 0x38800000u) {
    h = (magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
  } else {
    float shifted;
    std::memcpy(&shifted, &magnitude, sizeof shifted);
    shifted += 0.5f;  // the unit in the last place of 0.5 is 2^-24, the smallest half
    std::uint32_t v;
    std::memcpy(&v, &shifted, sizeof v);
    h = v - 0x3f000000u;
  }
  return {static_cast<std::uint16_t>(sign | h)};
}
FUSEDATTN_INLINE F32 load(const f16* p) { return F32{widen(p[0]), widen(p[1]), widen(p[2]), widen(p[3])}; }
FUSEDATTN_INLINE void store(f16* p, F32 x) {
  for (int i = 0; i < kLanes; ++i) p[i] = narrow(x[i]);
}

// Around the caches in lanes that have such an instruction.
template <class T>
FUSEDATTN_INLINE void store_around(T* p, F32 x) {
  store(p, x);
}
FUSEDATTN_INLINE void store_fence() {}

// x where the word is below the threshold, 0 elsewhere.
FUSEDATTN_INLINE F32 keep_below(F32 x, const std::uint16_t* words, std::int32_t threshold) {
  for (int i = 0; i < kLanes; ++i) x[i] = words[i] < threshold ? x[i] : 0.0f;
  return x;
}

// Two 64-bit lanes, for the random stream of dropout.
typedef std::uint64_t Wide __attribute__((vector_size(16)));
constexpr std::int64_t kWideLanes = 2;
FUSEDATTN_INLINE Wide broadcast_wide(std::uint64_t x) { return Wide{x, x}; }
FUSEDATTN_INLINE Wide upper_half(Wide x) { return x >> 32; }
FUSEDATTN_INLINE Wide multiply_lower(Wide a, Wide b) { return (a & 0xffffffffu) * (b & 0xffffffffu); }
FUSEDATTN_INLINE Wide exclusive_or(Wide a, Wide b) { return a ^ b; }
FUSEDATTN_INLINE Wide count_from(std::uint64_t first) { return Wide{first, first + 1}; }
FUSEDATTN_INLINE void store_blocks(std::uint16_t* to, Wide w0, Wide w1, Wide w2, Wide w3) {
  for (int i = 0; i < 2; ++i) {
    const std::uint64_t words[4] = {w0[i], w1[i], w2[i], w3[i]};
    for (int n = 0; n < 8; ++n) to[8 * i + n] = static_cast<std::uint16_t>(words[n / 2] >> 16 * (n % 2));
  }
}

// `hidden` where the byte hides, x elsewhere.
FUSEDATTN_INLINE F32 hide(F32 x, const std::uint8_t* bytes, bool nonzero_hides, F32 hidden) {
  for (int i = 0; i < kLanes; ++i) x[i] = (bytes[i] != 0) == nonzero_hides ? hidden[i] : x[i];
  return x;
}
