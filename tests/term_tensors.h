// term_tensors.h: the tensors of a case's score terms, and their part of the problem.
#ifndef FUSEDATTN_TESTS_TERM_TENSORS_H
#define FUSEDATTN_TESTS_TERM_TENSORS_H

#include "reference/philox.h"
#include "tensor.h"

namespace fusedattn::tests {

inline int64_t longest_q(const Case& c) {
  int64_t longest = 0;
  for (int64_t b = 0; b < c.batch; ++b) longest = std::max(longest, sequence_of(c, b).q_len);
  return longest;
}

inline int64_t longest_kv(const Case& c) {
  int64_t longest = 0;
  for (int64_t b = 0; b < c.batch; ++b) longest = std::max(longest, sequence_of(c, b).kv_len);
  return longest;
}

// Pairs of row and column of one head in the sequences before b.
inline int64_t pairs_before(const Case& c, int64_t b) {
  int64_t pairs = 0;
  for (int64_t before = 0; before < b; ++before) pairs += sequence_of(c, before).q_len * sequence_of(c, before).kv_len;
  return pairs;
}

// The largest column - row that is seen anywhere, and not a column more: a line that is read along the diagonals ends there.
inline int64_t farthest_right(const Case& c) {
  int64_t farthest = -longest_q(c);
  for (int64_t b = 0; b < c.batch; ++b) {
    const Sequence s = sequence_of(c, b);
    for (int64_t i = 0; i < s.q_len; ++i) farthest = std::max(farthest, columns_of(c, b, s, i).second - i);
  }
  return farthest;
}

// The element of dropout that belongs to a pair.
inline int64_t dropout_element(const Case& c, int64_t b, int64_t n, int64_t i, int64_t j) {
  const Sequence s = sequence_of(c, b);
  return c.q_heads * pairs_before(c, b) + (n * s.q_len + i) * s.kv_len + j;
}

struct TermTensors {
  Case c;
  Tensor bias, d_bias;  // a bias in blocks is one row of all its elements
  Memory slopes, sink, d_sink, bits;

  TermTensors() = default;
  TermTensors(const Case& c, int32_t dtype, Place place) : c(c) {
    if (present(c.terms.bias)) make_bias(c.terms.bias.dtype < 0 ? dtype : c.terms.bias.dtype, place);
    const auto heads = static_cast<std::size_t>(c.q_heads), sequences = static_cast<std::size_t>(c.batch);
    if (c.terms.alibi.present) {
      slopes = Memory(sizeof(float) * heads * (c.terms.alibi.per_sequence ? sequences : 1), place);
      for (std::size_t at = 0; at < slopes.size() / sizeof(float); ++at)
        floats(slopes)[at] = 0.5f / static_cast<float>(1 + at % 7);
    }
    if (c.terms.sink) {
      sink = Memory(sizeof(float) * heads, place), d_sink = Memory(sizeof(float) * heads, place);
      for (std::size_t n = 0; n < heads; ++n) floats(sink)[n] = 1.5f - 0.75f * static_cast<float>(n);
    }
    if (c.terms.dropout.bits) make_bits(place);
  }

  static float* floats(const Memory& memory) { return reinterpret_cast<float*>(memory.data()); }

  // The element of the bias that is added to a pair.
  int64_t bias_element(int64_t b, int64_t n, int64_t i, int64_t j) const {
    const BiasTerm& term = c.terms.bias;
    const Sequence s = sequence_of(c, b);
    if (term.form == BiasForm::blocks)
      return term.per_row ? dropout_element(c, b, n, i, j) : c.q_heads * s.kv_begin + n * s.kv_len + j;
    const int64_t row = term.form == BiasForm::diagonal ? longest_q(c) - 1 - i : term.per_row ? i * bias.row_stride : 0;
    return (term.per_sequence ? b : 0) * bias.batch_stride + (term.per_head ? n : 0) * bias.head_stride + row + j;
  }
  std::byte* bias_at(int64_t b, int64_t n, int64_t i, int64_t j) const {
    return bias.memory.data() + static_cast<std::size_t>(bias_element(b, n, i, j)) * format_of(bias.dtype).bytes;
  }

  float slope(int64_t b, int64_t n) const {
    return floats(slopes)[(c.terms.alibi.per_sequence ? b * c.q_heads : 0) + n];
  }
  bool keeps(int64_t b, int64_t n, int64_t i, int64_t j) const {
    const DropoutTerm& term = c.terms.dropout;
    const auto e = static_cast<std::size_t>(dropout_element(c, b, n, i, j));
    if (term.bits) return (static_cast<unsigned>(bits.data()[e / 8]) >> e % 8 & 1) != 0;
    return reference::keeps(term.keep_prob, term.seed, term.offset, e);
  }

  void write(fusedattn_problem& p) const {
    const ScoreTerms& terms = c.terms;
    p.softcap = terms.softcap;
    if (present(terms.bias)) write_bias(p);
    if (terms.alibi.present) {
      const AlibiTerm& alibi = terms.alibi;
      p.alibi = {floats(slopes),    alibi.per_sequence ? c.q_heads : 0, 1, alibi.q_start, alibi.kv_start, alibi.square_root,
                 alibi.bottom_right, alibi.first_sequence,              0};
    }
    p.dropout = {terms.dropout.keep_prob, terms.dropout.bits ? reinterpret_cast<const uint8_t*>(bits.data()) : nullptr,
                 terms.dropout.seed, terms.dropout.offset};
    if (terms.sink) p.sink = floats(sink), p.d_sink = floats(d_sink);
  }

 private:
  void make_bias(int32_t dtype, Place place) {
    const BiasTerm& term = c.terms.bias;
    const int64_t sequences = term.per_sequence ? c.batch : 1, heads = term.per_head ? c.q_heads : 1;
    if (term.form == BiasForm::blocks) {
      const int64_t columns = packed(c) ? c.kv_ends.back() : 0;
      const int64_t elements = c.q_heads * (term.per_row ? pairs_before(c, c.batch) : columns);
      bias = Tensor(dtype, {1, 1, 1, elements}, Layout::bnsd, place);
    } else if (term.form == BiasForm::diagonal) {
      bias = Tensor(dtype, {sequences, heads, 1, longest_q(c) + farthest_right(c)}, Layout::bnsd, place);
    } else {
      const std::array<int64_t, 4> shape{sequences, heads, term.per_row ? longest_q(c) : 1, longest_kv(c)};
      bias = Tensor(dtype, shape, c.layout, place), d_bias = Tensor(dtype, shape, c.layout, place);
    }
    bias.fill(11);
  }

  void make_bits(Place place) {
    const auto elements = static_cast<std::size_t>(c.q_heads * pairs_before(c, c.batch));
    bits = Memory((elements + 7) / 8, place);
    if (elements > 0) std::memset(bits.data(), 0, bits.size());
    for (std::size_t e = 0; e < elements; ++e) {
      const bool keep = reference::keeps(kept_part(c.terms.dropout), c.terms.dropout.seed, c.terms.dropout.offset, e);
      if (keep) bits.data()[e / 8] |= static_cast<std::byte>(1 << e % 8);
    }
  }

  void write_bias(fusedattn_problem& p) const {
    const BiasTerm& term = c.terms.bias;
    const bool blocks = term.form == BiasForm::blocks, diagonal = term.form == BiasForm::diagonal;
    const std::size_t first = diagonal ? static_cast<std::size_t>(longest_q(c) - 1) * format_of(bias.dtype).bytes : 0;
    p.bias = {bias.memory.data() + first,
              term.per_sequence ? bias.batch_stride : 0,
              term.per_head ? bias.head_stride : 0,
              diagonal ? -1 : term.per_row ? bias.row_stride : 0,
              bias.dtype,
              term.before_scale,
              blocks,
              0};
    if (!blocks && !diagonal) p.d_bias = d_bias.view();
  }
};

}  // namespace fusedattn::tests
#endif
