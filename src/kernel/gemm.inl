// Products of a strip of rows with a panel of columns, the innermost loops of everything.
//
//   C[m][n] (+)= sum_k A[m][k] * B[k][n]        m < rows of a strip, n < a panel of kPanelVectors * kLanes columns
//
// One 32-bit word is one step of depth: a float32, or (Dot) a pair of bfloat16 that are neighbours along the depth.
// A is read by broadcasts, from rows (A[m][k] at a[m * lda + k]) or from columns (at a[k * lda + m], for products with a
// transposed matrix); B by vectors, at b[k * ldb]. The accumulators live in registers only if the compiler unrolls every loop
// that touches them, hence the pragmas: without them GCC 12 keeps the array in memory and the loop runs 3.4 times slower.
struct Fma {
  static constexpr int kDepth = 1;  // elements in a word
  static FUSEDATTN_INLINE F32 multiply_add(F32 a, F32 b, F32 c) { return fma(a, b, c); }
  // Elements of a row, from j on.
  template <int kVectors>
  static FUSEDATTN_INLINE void store_row(float* row, std::int64_t j, const F32 (&x)[kVectors]) {
#pragma GCC unroll 16
    for (int n = 0; n < kVectors; ++n) store(row + j + n * kLanes, x[n]);
  }
  // 0 in place of what is not finite.
  static void clean_words(float* data, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) data[i] = std::isfinite(data[i]) ? data[i] : 0.0f;
  }
  static float of_row(const float* row, std::int64_t j) { return row[j]; }
  static float of_pairs(const float* pairs, std::int64_t ld, std::int64_t i, std::int64_t j) { return pairs[i * ld + j]; }
};

constexpr std::int64_t kPanel = kPanelVectors * kLanes;

// One step of depth; the lane's kStepsAtOnce of them stand between two branches.
template <class Mac, int kRows, int kVectors, bool kColumns>
FUSEDATTN_INLINE void multiply_step(const float*& a, std::int64_t lda, const float*& b, std::int64_t ldb,
                                    F32 (&acc)[kRows][kVectors]) {
  F32 column[kVectors];
#pragma GCC unroll 16
  for (int n = 0; n < kVectors; ++n) column[n] = load(b + n * kLanes);
#pragma GCC unroll 16
  for (int m = 0; m < kRows; ++m) {
    const F32 row = broadcast_from(kColumns ? a + m : a + m * lda);
#pragma GCC unroll 16
    for (int n = 0; n < kVectors; ++n) acc[m][n] = Mac::multiply_add(row, column[n], acc[m][n]);
  }
  a += kColumns ? lda : 1;
  b += ldb;
  // Keeps the compiler from mixing loads of several steps, for which there are no registers.
  __asm__ volatile("" : "+r"(a), "+r"(b) : : "memory");
}

constexpr float kZeros[kStripRows] = {};  // what further parts of a sum begin with
FUSEDATTN_INLINE F32 beginning_of_row(int) { return zero(); }
FUSEDATTN_INLINE F32 beginning_of_row(int m, const float* first) { return broadcast_from(first + m); }

// The sums of a tile, in registers. They begin with 0, or with what `first`, if there is one, has of each row.
template <class Mac, int kRows, int kVectors, bool kColumns, class... First>
FUSEDATTN_INLINE void multiply(const float* a, std::int64_t lda, const float* b, std::int64_t ldb, std::int64_t depth, F32 (&acc)[kRows][kVectors],
                               First... first) {
#pragma GCC unroll 16
  for (int m = 0; m < kRows; ++m) {
    const F32 beginning = beginning_of_row(m, first...);
#pragma GCC unroll 16
    for (int n = 0; n < kVectors; ++n) acc[m][n] = beginning;
  }
  std::int64_t k = depth;
  for (; k >= kStepsAtOnce; k -= kStepsAtOnce)
#pragma GCC unroll 8
    for (int step = 0; step < kStepsAtOnce; ++step) multiply_step<Mac, kRows, kVectors, kColumns>(a, lda, b, ldb, acc);
  for (; k > 0; --k) multiply_step<Mac, kRows, kVectors, kColumns>(a, lda, b, ldb, acc);
}

template <class Mac, int kRows, int kVectors, bool kColumns, class... First>
void multiply_tile(const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float* c, std::int64_t ldc,
                   std::int64_t depth, bool accumulate, First... first) {
  F32 acc[kRows][kVectors];
  multiply<Mac, kRows, kVectors, kColumns>(a, lda, b, ldb, depth, acc, first...);
#pragma GCC unroll 16
  for (int m = 0; m < kRows; ++m)
#pragma GCC unroll 16
    for (int n = 0; n < kVectors; ++n) {
      float* at = c + m * ldc + n * kLanes;
      store(at, accumulate ? add(load(at), acc[m][n]) : acc[m][n]);
    }
}

// A whole tile, whose sums finish(i, j, sums) takes from the registers.
template <class Mac, class Finish, class... First>
void multiply_whole_tile(const float* a, std::int64_t lda, const float* b, std::int64_t depth, std::int64_t i, std::int64_t j, const Finish& finish,
                         First... first) {
  F32 acc[kStripRows][kPanelVectors];
  multiply<Mac, kStripRows, kPanelVectors, false>(a, lda, b, kPanel, depth, acc, first...);
  finish(i, j, acc);
}

template <class... First>
using MultiplyTile = void (*)(const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float* c,
                              std::int64_t ldc, std::int64_t depth, bool accumulate, First... first);

// The tile for 1..kStripRows rows and 1..kPanelVectors vectors.
template <class Mac, bool kColumns, class... First>
struct Tiles {
  MultiplyTile<First...> of[kStripRows][kPanelVectors];

  template <int kRows>
  constexpr void fill_row() {
    of[kRows - 1][0] = &multiply_tile<Mac, kRows, 1, kColumns, First...>;
    if constexpr (kPanelVectors >= 2) of[kRows - 1][1] = &multiply_tile<Mac, kRows, 2, kColumns, First...>;
    if constexpr (kPanelVectors >= 3) of[kRows - 1][2] = &multiply_tile<Mac, kRows, 3, kColumns, First...>;
    if constexpr (kPanelVectors >= 4) of[kRows - 1][3] = &multiply_tile<Mac, kRows, 4, kColumns, First...>;
    if constexpr (kRows > 1) fill_row<kRows - 1>();
  }
  constexpr Tiles() : of{} { fill_row<kStripRows>(); }
};

template <class Mac, bool kColumns, class... First>
constexpr Tiles<Mac, kColumns, First...> kTiles{};

constexpr std::int64_t round_up(std::int64_t n, std::int64_t unit) { return (n + unit - 1) / unit * unit; }

constexpr std::int64_t strips_of(std::int64_t rows) { return (rows + kStripRows - 1) / kStripRows; }

// The size of parts of n, as few as possible and about equal: multiples of the unit, of which `most` is one.
constexpr std::int64_t even_part(std::int64_t n, std::int64_t most, std::int64_t unit) {
  const std::int64_t parts = std::max<std::int64_t>(1, (n + most - 1) / most);
  return round_up(std::max<std::int64_t>(1, (n + parts - 1) / parts), unit);
}

// A right-hand side: element (k, n) at data[n / kPanel * panel_stride + k * row_stride + n % kPanel].
struct Panels {
  const float* data;
  std::int64_t row_stride, panel_stride;
  const float* at(std::int64_t k, std::int64_t n) const {
    return data + n / kPanel * panel_stride + n % kPanel + k * row_stride;
  }
};
