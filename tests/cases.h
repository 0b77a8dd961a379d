// cases.h: the case list, sizes, masks and packing of every problem that is tested or timed, with its exact work.
#ifndef FUSEDATTN_TESTS_CASES_H
#define FUSEDATTN_TESTS_CASES_H

#include <fusedattn/fusedattn.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "terms.h"

namespace fusedattn::tests {

using std::int64_t;

// Order of the axes in memory, features last. `gaps` is bnsd with unused elements after every row, head and sequence.
enum class Layout { bnsd, bsnd, sbnd, gaps };

// The dense byte mask of a case: which axes it has (an axis it lacks repeats), and what a non-zero byte means.
struct Bytes {
  bool present = false;
  bool per_sequence = true;
  bool per_head = true;
  bool per_row = true;
  int32_t meaning = FUSEDATTN_NONZERO_HIDES;
  bool whole = false;  // packed: one matrix for all sequences, at the rows and columns of the tensors
  int64_t short_rows = 0;  // if any, so many rows see 40 columns, and those after them all
};

inline constexpr fusedattn_band kNoBand{FUSEDATTN_UNBOUNDED, FUSEDATTN_UNBOUNDED};
inline constexpr fusedattn_band kCausal{FUSEDATTN_UNBOUNDED, 0};

struct Case {
  std::string name;
  int64_t batch = 1;
  int64_t q_heads = 1;
  int64_t kv_heads = 1;
  int64_t q_len = 0;  // of the whole tensor when packed
  int64_t kv_len = 0;
  int64_t dim = 0;
  int64_t dim_v = 0;
  fusedattn_band top_left = kNoBand;
  fusedattn_band bottom_right = kNoBand;
  Bytes bytes = {};
  Layout layout = Layout::bnsd;
  std::vector<int64_t> q_ends = {};  // packed: cumulative ends
  std::vector<int64_t> kv_ends = {};
  double scale = NAN;  // NAN: 1 / sqrt(dim)
  std::vector<fusedattn_band> bands = {};  // one more per sequence
  std::vector<int64_t> prefix = {};        // per sequence
  ScoreTerms terms = {};
  StatsForm stats = {};
};

inline bool packed(const Case& c) { return !c.q_ends.empty() || !c.kv_ends.empty(); }

inline double scale_of(const Case& c) {
  return std::isnan(c.scale) ? 1.0 / std::sqrt(static_cast<double>(c.dim)) : c.scale;
}

// Where sequence b lies: rows [q_begin, q_begin + q_len) and columns [kv_begin, kv_begin + kv_len) of the tensors.
struct Sequence {
  int64_t q_begin = 0;
  int64_t q_len = 0;
  int64_t kv_begin = 0;
  int64_t kv_len = 0;
};

inline Sequence sequence_of(const Case& c, int64_t b) {
  if (!packed(c)) return {0, c.q_len, 0, c.kv_len};
  const auto at = static_cast<std::size_t>(b);
  const int64_t q_begin = b == 0 ? 0 : c.q_ends[at - 1];
  const int64_t kv_begin = b == 0 ? 0 : c.kv_ends[at - 1];
  return {q_begin, c.q_ends[at] - q_begin, kv_begin, c.kv_ends[at] - kv_begin};
}

// i + shift - left <= j <= i + shift + right
inline bool inside(const fusedattn_band& band, int64_t shift, int64_t i, int64_t j) {
  const int64_t distance = j - i - shift;
  const bool left = band.left == FUSEDATTN_UNBOUNDED || distance >= -band.left;
  const bool right = band.right == FUSEDATTN_UNBOUNDED || distance <= band.right;
  return left && right;
}

// The byte at (sequence, head, row, column), the same in every run. About a third of them hide; every fifth row hides
// all. Or, with short rows, the columns that these do not see.
inline bool byte_hides(const Bytes& bytes, int64_t b, int64_t n, int64_t i, int64_t j) {
  if (bytes.short_rows > 0) return i < bytes.short_rows && j >= 40;
  const int64_t row = bytes.per_row ? i : 0, head = bytes.per_head ? n : 0, sequence = bytes.per_sequence ? b : 0;
  if (bytes.per_row && (row + head) % 5 == 4) return true;
  const int64_t mixed = (row * 31 + head * 17 + sequence * 7 + j * 13) * 2654435761 % 1000003;
  return mixed % 3 == 0;
}

inline bool hidden_by_byte(const Case& c, const Sequence& s, int64_t b, int64_t n, int64_t i, int64_t j) {
  if (!c.bytes.present) return false;
  return c.bytes.whole ? byte_hides(c.bytes, 0, n, s.q_begin + i, s.kv_begin + j) : byte_hides(c.bytes, b, n, i, j);
}

// The edges that hold in a sequence: those of its own band from the top left, and its prefix.
inline fusedattn_band band_of(const Case& c, int64_t b) {
  return c.bands.empty() ? kNoBand : c.bands[static_cast<std::size_t>(b)];
}
inline int64_t prefix_of(const Case& c, int64_t b) {
  return c.prefix.empty() ? 0 : c.prefix[static_cast<std::size_t>(b)];
}

// Whether row i of query head n sees column j, both counted within sequence b. The definition of the mask.
inline bool sees(const Case& c, int64_t b, int64_t n, int64_t i, int64_t j) {
  const Sequence s = sequence_of(c, b);
  const bool in_bands = inside(c.top_left, 0, i, j) && inside(c.bottom_right, s.kv_len - s.q_len, i, j) &&
                        inside(band_of(c, b), 0, i, j);
  return (in_bands || j < prefix_of(c, b)) && !hidden_by_byte(c, s, b, n, i, j);
}

// The columns that bands and prefix show to a row, as first and last.
inline std::pair<int64_t, int64_t> columns_of(const Case& c, int64_t b, const Sequence& s, int64_t i) {
  int64_t first = 0, last = s.kv_len - 1;
  for (const auto& [band, shift] : {std::pair{c.top_left, int64_t{0}}, std::pair{c.bottom_right, s.kv_len - s.q_len},
                                    std::pair{band_of(c, b), int64_t{0}}}) {
    if (band.left != FUSEDATTN_UNBOUNDED) first = std::max(first, i + shift - band.left);
    if (band.right != FUSEDATTN_UNBOUNDED) last = std::min(last, i + shift + band.right);
  }
  return {first, std::max(last, std::min(prefix_of(c, b), s.kv_len) - 1)};
}

// The number of (row, column) pairs seen, summed over sequences and query heads.
inline int64_t visible_area(const Case& c) {
  int64_t area = 0;
  for (int64_t b = 0; b < c.batch; ++b) {
    const Sequence s = sequence_of(c, b);
    for (int64_t i = 0; i < s.q_len; ++i) {
      const auto [first, last] = columns_of(c, b, s, i);
      for (int64_t n = 0; c.bytes.present && n < c.q_heads; ++n) {
        for (int64_t j = first; j <= last; ++j) area += !hidden_by_byte(c, s, b, n, i, j);
      }
      if (!c.bytes.present) area += std::max<int64_t>(0, last - first + 1) * c.q_heads;
    }
  }
  return area;
}

// Useful floating point operations: two products forward (q k, p v), five backward (q k, d_out v, p d_out, dx k, dx q).
inline double forward_flops(const Case& c) {
  return 2.0 * static_cast<double>(visible_area(c)) * static_cast<double>(c.dim + c.dim_v);
}
inline double backward_flops(const Case& c) {
  return 2.0 * static_cast<double>(visible_area(c)) * static_cast<double>(3 * c.dim + 2 * c.dim_v);
}

// Builds lists of cases with little noise.
struct CaseList {
  std::vector<Case> cases;
  void add(Case c) {
    if (c.dim_v == 0) c.dim_v = c.dim;
    cases.push_back(std::move(c));
  }
  // [1, heads, len, dim] with as many key heads and columns.
  void square(const std::string& name, int64_t len, int64_t dim, int64_t heads = 1) {
    add({.name = name, .q_heads = heads, .kv_heads = heads, .q_len = len, .kv_len = len, .dim = dim});
  }
};

// Sizes around the edges of tiles and vectors, zero sizes, shared key heads.
inline void add_size_cases(CaseList& list) {
  for (const int64_t len : {1, 2, 3, 7, 17, 49, 63, 64, 65, 127, 129, 197}) {
    list.square("len" + std::to_string(len), len, 24, 2);
  }
  for (const int64_t len : {511, 513}) list.square("len" + std::to_string(len), len, 16);
  for (const int64_t dim : {1, 3, 8, 16, 40, 64, 65, 72, 80, 96, 112, 128, 192, 256, 512, 576, 768}) {
    list.add({.name = "dim" + std::to_string(dim), .q_len = 19, .kv_len = 70, .dim = dim});
  }
  for (const auto& [dim, dim_v] : std::vector<std::pair<int64_t, int64_t>>{
           {192, 128}, {64, 96}, {3, 17}, {17, 3}, {576, 512}, {1, 40}, {40, 1}, {16, 768}}) {
    list.add({.name = "dim" + std::to_string(dim) + "_dimv" + std::to_string(dim_v),
              .q_len = 33,
              .kv_len = 66,
              .dim = dim,
              .dim_v = dim_v});
  }
  for (const auto& [q_len, kv_len] : std::vector<std::pair<int64_t, int64_t>>{
           {1, 513}, {513, 1}, {2, 64}, {8, 197}, {65, 300}, {300, 77}, {3, 4099}, {1100, 5}}) {
    list.add({.name = "q" + std::to_string(q_len) + "_kv" + std::to_string(kv_len),
              .q_len = q_len,
              .kv_len = kv_len,
              .dim = 20});
  }
  // So few rows that nothing is packed, with and without columns that some do not see.
  for (const auto& [q_len, kv_len, dim] : std::vector<std::array<int64_t, 3>>{{1, 513, 64}, {2, 130, 32}, {3, 47, 128}, {5, 401, 16}, {8, 500, 48}}) {
    const std::string name = "few" + std::to_string(q_len);
    list.add({.name = name, .q_heads = 4, .kv_heads = 2, .q_len = q_len, .kv_len = kv_len, .dim = dim});
    list.add({.name = name + "_causal", .q_len = q_len, .kv_len = kv_len, .dim = dim, .bottom_right = kCausal});
  }
  list.add({.name = "grouped", .batch = 2, .q_heads = 6, .kv_heads = 2, .q_len = 34, .kv_len = 65, .dim = 32});
  list.add({.name = "one_key_head",
            .batch = 2,
            .q_heads = 5,
            .q_len = 40,
            .kv_len = 40,
            .dim = 64,
            .bottom_right = kCausal});
  list.add({.name = "batch0", .batch = 0, .q_len = 4, .kv_len = 4, .dim = 8});
  list.add({.name = "q0", .q_len = 0, .kv_len = 9, .dim = 8});
  list.add({.name = "kv0", .batch = 2, .q_heads = 2, .kv_heads = 2, .q_len = 9, .kv_len = 0, .dim = 8});
  list.add({.name = "scale1_peaked", .q_len = 65, .kv_len = 130, .dim = 64, .scale = 1.0});
  list.add({.name = "scale0", .q_len = 17, .kv_len = 33, .dim = 16, .scale = 0.0});
  list.add({.name = "scale_negative", .q_len = 17, .kv_len = 150, .dim = 16, .scale = -0.3});
}

// Bands: both alignments, windows, negative edges, edges far outside, bands that no row or only some rows satisfy.
inline void add_band_cases(CaseList& list) {
  struct Shape {
    const char* name;
    int64_t q_len, kv_len;
  };
  struct Bands {
    const char* name;
    fusedattn_band top_left, bottom_right;
  };
  const int64_t kAll = FUSEDATTN_UNBOUNDED;
  for (const Shape& shape : {Shape{"square", 150, 150}, Shape{"wide", 70, 200}, Shape{"tall", 200, 70}}) {
    for (const Bands& bands :
         {Bands{"causal_tl", kCausal, kNoBand}, Bands{"causal_br", kNoBand, kCausal},
          Bands{"window_br", kNoBand, {31, 0}}, Bands{"window_tl", {17, 40}, kNoBand},
          Bands{"diagonal", {0, 0}, kNoBand}, Bands{"left_only", {9, kAll}, kNoBand}, Bands{"above", {-3, 20}, kNoBand},
          Bands{"below", {60, -5}, kNoBand}, Bands{"nothing", {-5, 4}, kNoBand},
          Bands{"apart", {kAll, -150}, {kAll, 149}}, Bands{"both", {kAll, 20}, {40, 10}},
          Bands{"far", {1ll << 62, -kAll}, kNoBand}, Bands{"wide_open", {1ll << 62, 1ll << 62}, {1000, 1000}}}) {
      list.add({.name = std::string(bands.name) + "_" + shape.name,
                .q_heads = 2,
                .q_len = shape.q_len,
                .kv_len = shape.kv_len,
                .dim = 12,
                .top_left = bands.top_left,
                .bottom_right = bands.bottom_right});
    }
  }
  list.add({.name = "causal_long", .q_len = 1025, .kv_len = 1025, .dim = 8, .bottom_right = kCausal});
  // Rows are divided into tiles of some of these heights: one that sees a part of a block, and then one that sees all.
  for (const int64_t rows : {96, 144, 168, 192}) {
    list.add({.name = "short_rows_" + std::to_string(rows),
              .q_len = 2 * rows,
              .kv_len = 1100,
              .dim = 8,
              .bytes = {.present = true, .short_rows = rows}});
  }
  list.add({.name = "window_long", .q_len = 1300, .kv_len = 1300, .dim = 8, .bottom_right = {100, 0}});
}

// Packed sequences: of every length, empty ones on either side, with rows and columns behind the last end.
inline void add_packed_cases(CaseList& list) {
  const std::vector<int64_t> q_ends{1, 1, 18, 82, 82, 147}, kv_ends{3, 20, 20, 90, 91, 221};
  const Case base{.name = "packed",
                  .batch = 6,
                  .q_heads = 4,
                  .kv_heads = 2,
                  .q_len = 147,
                  .kv_len = 221,
                  .dim = 16,
                  .layout = Layout::bsnd,
                  .q_ends = q_ends,
                  .kv_ends = kv_ends};
  list.add(base);
  Case tail = base;
  tail.name = "packed_tail", tail.q_len = 150, tail.kv_len = 230, tail.layout = Layout::bnsd;
  list.add(tail);
  Case causal = tail;
  causal.name = "packed_causal_br", causal.bottom_right = kCausal;
  list.add(causal);
  causal.name = "packed_causal_tl", causal.bottom_right = kNoBand, causal.top_left = kCausal;
  list.add(causal);
  Case window = base;
  window.name = "packed_window", window.bottom_right = {20, -2}, window.layout = Layout::gaps;
  list.add(window);
  Case same = base;
  same.name = "packed_self", same.q_len = same.kv_len = 230, same.q_ends = same.kv_ends = kv_ends;
  same.bottom_right = kCausal, same.dim_v = 9;
  list.add(same);
  list.add(
      {.name = "packed_all_empty", .batch = 2, .q_len = 5, .kv_len = 6, .dim = 8, .q_ends = {0, 0}, .kv_ends = {0, 0}});
}

// Dense byte masks with every kind of repetition and both meanings, alone and with a band.
inline void add_byte_cases(CaseList& list) {
  const Case base{.name = "bytes",
                  .batch = 2,
                  .q_heads = 4,
                  .kv_heads = 2,
                  .q_len = 70,
                  .kv_len = 135,
                  .dim = 16,
                  .bytes = {.present = true}};
  for (const int axes : {7, 6, 5, 4, 3, 1, 0}) {
    Case c = base;
    c.bytes.per_sequence = axes & 4, c.bytes.per_head = axes & 2, c.bytes.per_row = axes & 1;
    c.bytes.meaning = axes % 2 ? FUSEDATTN_NONZERO_SHOWS : FUSEDATTN_NONZERO_HIDES;
    c.name = "bytes_axes" + std::to_string(axes);
    list.add(c);
  }
  Case c = base;
  c.name = "bytes_causal", c.bottom_right = kCausal;
  list.add(c);
  c = base, c.name = "bytes_packed", c.q_len = 90, c.kv_len = 140, c.q_ends = {20, 85}, c.kv_ends = {70, 140};
  c.bytes.meaning = FUSEDATTN_NONZERO_SHOWS;
  list.add(c);
}

// Held against the reference, every lane and type, forward and backward.
inline std::vector<Case> numerics_cases() {
  CaseList list;
  add_size_cases(list);
  add_band_cases(list);
  add_packed_cases(list);
  add_byte_cases(list);
  for (const auto& [name, layout] : std::vector<std::pair<const char*, Layout>>{
           {"bsnd", Layout::bsnd}, {"sbnd", Layout::sbnd}, {"gaps", Layout::gaps}}) {
    list.add({.name = std::string("layout_") + name,
              .batch = 2,
              .q_heads = 4,
              .kv_heads = 2,
              .q_len = 67,
              .kv_len = 93,
              .dim = 33,
              .dim_v = 20,
              .bottom_right = kCausal,
              .layout = layout});
  }
  return list.cases;
}

// Timed: square shapes uncut and causal, then what models ask for.
inline std::vector<Case> benchmark_cases() {
  CaseList list;
  const auto add = [&](const std::string& name, int64_t batch, int64_t heads, int64_t len, int64_t dim) {
    Case c{.name = name, .batch = batch, .q_heads = heads, .kv_heads = heads, .q_len = len, .kv_len = len, .dim = dim};
    list.add(c);
    c.name += "_causal", c.bottom_right = kCausal;
    list.add(c);
  };
  add("d128_s4096", 1, 8, 4096, 128);
  add("d64_s2048", 4, 4, 2048, 64);
  add("d64_s2048_many", 4, 32, 2048, 64);
  add("d128_s512", 8, 16, 512, 128);
  add("d64_s512", 8, 16, 512, 64);
  add("latency", 1, 1, 16, 64);
  list.square("short", 64, 64, 8);
  list.add({.name = "vision", .batch = 4, .q_heads = 16, .kv_heads = 16, .q_len = 197, .kv_len = 197, .dim = 64});
  list.add({.name = "swin", .batch = 64, .q_heads = 4, .kv_heads = 4, .q_len = 49, .kv_len = 49, .dim = 32});
  list.add({.name = "cross", .batch = 2, .q_heads = 10, .kv_heads = 10, .q_len = 4096, .kv_len = 77, .dim = 64});
  list.add({.name = "grouped_causal",
            .q_heads = 32,
            .kv_heads = 8,
            .q_len = 2048,
            .kv_len = 2048,
            .dim = 128,
            .bottom_right = kCausal});
  list.add({.name = "one_key_head_causal",
            .q_heads = 8,
            .q_len = 4096,
            .kv_len = 4096,
            .dim = 128,
            .bottom_right = kCausal});
  list.add({.name = "window512",
            .q_heads = 4,
            .kv_heads = 4,
            .q_len = 4096,
            .kv_len = 4096,
            .dim = 64,
            .bottom_right = {511, 0}});
  list.square("d72", 2048, 72, 4);
  list.square("d256", 2048, 256, 4);
  list.add(
      {.name = "d192_dv128", .q_heads = 4, .kv_heads = 4, .q_len = 2048, .kv_len = 2048, .dim = 192, .dim_v = 128});
  list.add({.name = "packed_causal",
            .batch = 5,
            .q_heads = 4,
            .kv_heads = 4,
            .q_len = 4096,
            .kv_len = 4096,
            .dim = 64,
            .bottom_right = kCausal,
            .layout = Layout::bsnd,
            .q_ends = {2048, 2148, 2660, 3684, 4096},
            .kv_ends = {2048, 2148, 2660, 3684, 4096}});
  return list.cases;
}

}  // namespace fusedattn::tests
#endif
