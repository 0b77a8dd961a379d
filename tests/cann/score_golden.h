// score_golden.h: a call of FlashAttentionScore built from a few words, and the reference in double beside it.
#ifndef FUSEDATTN_TESTS_CANN_SCORE_GOLDEN_H
#define FUSEDATTN_TESTS_CANN_SCORE_GOLDEN_H

#include <functional>

#include "reference/backward.h"
#include "reference/philox.h"
#include "score_call.h"

namespace fusedattn::tests {

enum class Pse { none, full, shared, one_row, packed_full, packed_rows, last_rows, slopes };

// A case: sizes, the sparse mode, what is added. ends: TND.
struct Words {
  std::string name = {};
  int version = 1;
  std::string layout = "BNSD";
  aclDataType dtype = ACL_FLOAT;
  int64_t B = 2, N1 = 4, N2 = 2, Sq = 9, Skv = 13, D = 16, Dv = 16, Dr = 0;
  std::vector<int64_t> q_ends = {}, kv_ends = {};
  int64_t T1 = 0, T2 = 0;  // packed rows; 0: where the last sequence ends
  int64_t mode = -1;       // -1: without a mask
  int64_t pre = 2147483647, next = 2147483647;
  std::vector<int64_t> prefix = {};
  Pse pse = Pse::none;
  int64_t pse_type = 1;
  std::vector<int64_t> q_start = {}, kv_start = {};
  double keep = 1.0;
  bool bits = true;  // of a dropout: given, else generated
  bool sink = false;
  std::string softmax_layout = "";
  Lie lie = Lie::contiguous;

  bool packed() const { return layout == "TND"; }
};

struct Sequence {
  int64_t q_begin, rows, kv_begin, columns;
};

inline Sequence sequence_of(const Words& w, int64_t b) {
  if (!w.packed()) return {0, w.Sq, 0, w.Skv};
  const auto at = static_cast<std::size_t>(b);
  const int64_t q = b ? w.q_ends[at - 1] : 0, kv = b ? w.kv_ends[at - 1] : 0;
  return {q, std::max<int64_t>(w.q_ends[at] - q, 0), kv, std::max<int64_t>(w.kv_ends[at] - kv, 0)};
}
inline int64_t batches(const Words& w) { return w.packed() ? static_cast<int64_t>(w.q_ends.size()) : w.B; }

inline Shape shape_of(const Words& w, int64_t heads, int64_t rows, int64_t dim) {
  if (w.layout == "BSH") return {w.B, rows, heads * dim};
  if (w.layout == "SBH") return {rows, w.B, heads * dim};
  if (w.layout == "BSND") return {w.B, rows, heads, dim};
  if (w.layout == "TND") return {rows, heads, dim};
  return {w.B, heads, rows, dim};
}

// Element [b, n, i, d] in the order of the shape. Packed: i counts from the beginning of the sequence.
inline int64_t index_of(const Words& w, int64_t heads, int64_t rows, int64_t dim, int64_t begin, int64_t b, int64_t n, int64_t i,
                        int64_t d) {
  if (w.layout == "TND") return ((begin + i) * heads + n) * dim + d;
  if (w.layout == "SBH") return ((i * w.B + b) * heads + n) * dim + d;
  if (w.layout == "BNSD") return ((b * heads + n) * rows + i) * dim + d;
  return ((b * rows + i) * heads + n) * dim + d;
}

// One call and its reference.
class ScoreCase {
 public:
  explicit ScoreCase(const Words& w) : w(w) {
    c.version = w.version, c.packed = w.packed() && w.version != 14;
    if (w.version > 10) c.version = w.version - 10;  // 14: V4 of the interface for all layouts, with TND
    c.set_layout(w.layout.c_str());
    std::strcpy(c.softmax_layout, w.softmax_layout.c_str());
    c.heads = w.N1, c.scale = 0.3, c.keep = w.keep, c.pse_type = w.pse_type;
    c.mode = std::max<int64_t>(w.mode, 0), c.pre = w.pre, c.next = w.next, c.seed = 77, c.offset = 5;
    q_rows = w.packed() ? (w.T1 ? w.T1 : w.q_ends.back()) : w.Sq;
    kv_rows = w.packed() ? (w.T2 ? w.T2 : w.kv_ends.back()) : w.Skv;
    const auto like = [&](int64_t heads, int64_t rows, int64_t dim) { return Array(w.dtype, shape_of(w, heads, rows, dim), w.lie); };
    c.query = like(w.N1, q_rows, w.D), c.key = like(w.N2, kv_rows, w.D), c.value = like(w.N2, kv_rows, w.Dv);
    c.query.fill(1), c.key.fill(2), c.value.fill(3);
    if (w.Dr) {
      c.query_rope = like(w.N1, q_rows, w.Dr), c.key_rope = like(w.N2, kv_rows, w.Dr);
      c.query_rope.fill(4), c.key_rope.fill(5);
      c.dq_rope = like(w.N1, q_rows, w.Dr), c.dk_rope = like(w.N2, kv_rows, w.Dr);
    }
    c.attention = like(w.N1, q_rows, w.Dv), c.dy = like(w.N1, q_rows, w.Dv);
    c.dy.fill(6);
    c.dq = like(w.N1, q_rows, w.D), c.dk = like(w.N2, kv_rows, w.D), c.dv = like(w.N2, kv_rows, w.Dv);
    const Shape stats = w.packed() ? Shape{q_rows, w.N1, 8} : Shape{w.B, w.N1, w.Sq, 8};
    c.max = Array(ACL_FLOAT, stats, w.lie), c.sum = Array(ACL_FLOAT, stats, w.lie);
    if (w.packed()) c.q_ends = w.q_ends, c.kv_ends = w.kv_ends;
    if (!w.prefix.empty()) c.prefix = w.prefix;
    if (!w.q_start.empty()) c.q_start = w.q_start;
    if (!w.kv_start.empty()) c.kv_start = w.kv_start;
    if (w.sink) c.sink = Array(ACL_FLOAT, {w.N1}, w.lie), c.sink.fill(7, 2.0), c.dsink = Array(ACL_FLOAT, {w.N1}, w.lie);
    make_mask();
    make_pse();
    if (w.keep < 1.0 && w.bits) make_bits();
  }

  bool sees(int64_t b, int64_t i, int64_t j) const {
    const Sequence s = sequence_of(w, b);
    const int64_t delta = s.columns - s.rows;
    const bool cut = b == cut_sequence();
    switch (w.mode) {
      case 0:
        return !hidden(b, i, j) && -w.pre <= j - i && j - i <= w.next;
      case 1:
      case 5:
        return !hidden(b, i, j);
      case 2:
        return j <= i;
      case 3:
        return j <= i + delta;
      case 4:
        return i + delta - w.pre <= j && j <= i + delta + w.next;
      case 6:
        return j <= i + delta || j < w.prefix[static_cast<std::size_t>(b)];
      case 7:
        return j <= i + delta + (cut ? w.next : 0);
      case 8:
        return cut ? i + delta - w.pre <= j && j <= i + delta + w.next : j <= i;
      default:
        return true;
    }
  }

  reference::Head head(int64_t b, int64_t n) const {
    const Sequence s = sequence_of(w, b);
    const int64_t h = n / (w.N1 / w.N2);
    reference::Head head{matrix(c.query, c.query_rope, b, n, w.N1, q_rows, w.D, s.q_begin, s.rows),
                         matrix(c.key, c.key_rope, b, h, w.N2, kv_rows, w.D, s.kv_begin, s.columns),
                         matrix(c.value, {}, b, h, w.N2, kv_rows, w.Dv, s.kv_begin, s.columns),
                         static_cast<double>(0.3f),
                         {}};
    reference::Terms& terms = head.terms;
    if (w.sink) terms.sink = c.sink.get(n);
    if (w.pse == Pse::slopes) {
      const bool both = !w.q_start.empty() && !w.kv_start.empty() && (w.mode != 8 || b == 0);
      terms.alibi = {c.pse.get(c.pse.shape().size() == 2 ? b * w.N1 + n : n), both ? w.q_start[0] : 0, both ? w.kv_start[0] : 0, 0,
                     w.pse_type == 3};
    } else if (w.pse != Pse::none) {
      terms.bias = reference::Matrix(s.rows, s.columns);
      terms.bias_before_scale = w.pse_type == 1;
      for (int64_t i = 0; i < s.rows; ++i)
        for (int64_t j = 0; j < s.columns; ++j) terms.bias.row(i)[j] = pse_at(b, n, i, j);
    }
    if (w.keep < 1.0 && (w.bits || w.version == 4 || w.version == 14)) {
      terms.keep = reference::Matrix(s.rows, s.columns);
      terms.keep_prob = static_cast<double>(static_cast<float>(w.keep));
      for (int64_t i = 0; i < s.rows; ++i)
        for (int64_t j = 0; j < s.columns; ++j) terms.keep.row(i)[j] = keeps(element(b, n, i, j)) ? 1.0 : 0.0;
    }
    return head;
  }

  // Statistic [b, n, i, lane] in the memory order of the call.
  double stat(const Array& which, int64_t b, int64_t n, int64_t i, int64_t lane) const {
    const Sequence s = sequence_of(w, b);
    if (!w.packed()) return which.get(((b * w.N1 + n) * w.Sq + i) * 8 + lane);
    if (w.softmax_layout == "same_as_input") return which.get(((s.q_begin + i) * w.N1 + n) * 8 + lane);
    return which.get((w.N1 * s.q_begin + n * s.rows + i) * 8 + lane);
  }

  const Words w;
  ScoreCall c;
  int64_t q_rows, kv_rows;

  int64_t index(int64_t b, int64_t n, int64_t i, int64_t d, int64_t heads, int64_t rows, int64_t dim, int64_t begin) const {
    return index_of(w, heads, rows, dim, begin, b, n, i, d);
  }

 private:
  reference::Matrix matrix(const Array& array, const Array& rope, int64_t b, int64_t n, int64_t heads, int64_t rows, int64_t dim,
                           int64_t begin, int64_t length) const {
    const int64_t more = rope ? w.Dr : 0;
    reference::Matrix m(length, dim + more);
    for (int64_t i = 0; i < length; ++i) {
      for (int64_t d = 0; d < dim; ++d) m.row(i)[d] = array.get(index(b, n, i, d, heads, rows, dim, begin));
      for (int64_t d = 0; d < more; ++d) m.row(i)[dim + d] = rope.get(index(b, n, i, d, heads, rows, more, begin));
    }
    return m;
  }

  int64_t cut_sequence() const {
    int64_t found = -1;
    for (int64_t b = 0; b < batches(w); ++b)
      if (sequence_of(w, b).rows > 0 && (found < 0 || w.mode == 7)) found = b;
    return found;
  }

  int64_t longest(bool rows) const {
    int64_t most = 0;
    for (int64_t b = 0; b < batches(w); ++b) most = std::max(most, rows ? sequence_of(w, b).rows : sequence_of(w, b).columns);
    return most;
  }

  // Full masks are per sequence without TND, shared with it.
  bool hidden(int64_t b, int64_t i, int64_t j) const {
    const int64_t rows = longest(true), columns = longest(false);
    return c.atten_mask.get((w.packed() ? 0 : b * rows * columns) + i * columns + j) != 0.0;
  }

  void make_mask() {
    if (w.mode < 0) return;
    if (w.mode >= 2 && w.mode != 5) {
      c.atten_mask = Array(ACL_BOOL, {w.mode == 6 ? 3072 : 2048, 2048});
      return;
    }
    const int64_t rows = longest(true), columns = longest(false);
    c.atten_mask = Array(w.packed() ? ACL_BOOL : ACL_UINT8, w.packed() ? Shape{rows, columns} : Shape{w.B, 1, rows, columns}, w.lie);
    for (int64_t e = 0; e < c.atten_mask.size(); ++e) c.atten_mask.set(e, e % 5 == 3 || e % 7 == 1 ? 1.0 : 0.0);
  }

  void make_pse() {
    int64_t scores = 0;
    for (int64_t b = 0; b < batches(w); ++b) scores += w.N1 * sequence_of(w, b).rows * sequence_of(w, b).columns;
    switch (w.pse) {
      case Pse::none:
        return;
      case Pse::full:
        c.pse = Array(w.dtype, {w.B, w.N1, w.Sq, w.Skv}, w.lie);
        break;
      case Pse::shared:
        c.pse = Array(w.dtype, {1, w.N1, w.Sq, w.Skv}, w.lie);
        break;
      case Pse::one_row:
        c.pse = Array(w.dtype, {w.B, w.N1, 1, w.Skv}, w.lie);
        break;
      case Pse::packed_full:
        c.pse = Array(w.dtype, {scores}, w.lie);
        break;
      case Pse::packed_rows:
        c.pse = Array(w.dtype, {w.N1 * w.kv_ends.back()}, w.lie);
        break;
      case Pse::last_rows: {
        c.pse = Array(w.dtype, {1, w.N1, 1024, w.Skv});
        for (int64_t n = 0; n < w.N1; ++n)
          for (int64_t r = 0; r < 1024; ++r)
            for (int64_t j = 0; j < w.Skv; ++j)
              c.pse.set((n * 1024 + r) * w.Skv + j, -0.01 * static_cast<double>((n + 1) * std::abs(r + w.Sq - 1024 - j)));
        return;
      }
      case Pse::slopes:
        c.pse = Array(ACL_FLOAT, w.N1 % 2 == 0 && !w.packed() ? Shape{w.B, w.N1} : Shape{w.N1}, w.lie);
        for (int64_t e = 0; e < c.pse.size(); ++e) c.pse.set(e, 0.1 + 0.05 * static_cast<double>(e));
        return;
    }
    c.pse.fill(8);
  }

  double pse_at(int64_t b, int64_t n, int64_t i, int64_t j) const {
    const Sequence s = sequence_of(w, b);
    switch (w.pse) {
      case Pse::full:
        return c.pse.get(((b * w.N1 + n) * w.Sq + i) * w.Skv + j);
      case Pse::shared:
        return c.pse.get((n * w.Sq + i) * w.Skv + j);
      case Pse::one_row:
        return c.pse.get((b * w.N1 + n) * w.Skv + j);
      case Pse::packed_full:
        return c.pse.get(element(b, n, i, j));
      case Pse::packed_rows:
        return c.pse.get(w.N1 * s.kv_begin + n * s.columns + j);
      default:
        return j > i ? 0.0 : c.pse.get((n * 1024 + 1023) * w.Skv + w.Skv - 1 - (i - j));
    }
  }

  // Of a score, as dropout and packed pse count it.
  int64_t element(int64_t b, int64_t n, int64_t i, int64_t j) const {
    int64_t before = 0;
    for (int64_t a = 0; a < b; ++a) before += w.N1 * sequence_of(w, a).rows * sequence_of(w, a).columns;
    return before + (n * sequence_of(w, b).rows + i) * sequence_of(w, b).columns + j;
  }

  void make_bits() {
    int64_t scores = element(batches(w) - 1, w.N1, 0, 0);
    c.drop_mask = Array(ACL_UINT8, {scores / 8 + 1}, w.lie);
    for (int64_t e = 0; e < c.drop_mask.size(); ++e) c.drop_mask.set(e, static_cast<double>((e * 37 + 11) % 256));
  }
  bool keeps(int64_t e) const {
    if (w.bits) return (static_cast<int64_t>(c.drop_mask.get(e / 8)) >> e % 8 & 1) != 0;
    return reference::keeps(static_cast<double>(static_cast<float>(w.keep)), 77, 5, static_cast<uint64_t>(e));
  }
};

}  // namespace fusedattn::tests
#endif
