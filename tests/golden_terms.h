// golden_terms.h: what the reference takes of a case's score terms, and the gradients of bias and sink held to it.
#ifndef FUSEDATTN_TESTS_GOLDEN_TERMS_H
#define FUSEDATTN_TESTS_GOLDEN_TERMS_H

#include "compare.h"
#include "reference/backward.h"

namespace fusedattn::tests {

inline reference::Terms terms_of(const Tensors& t, int64_t b, int64_t n) {
  const ScoreTerms& terms = t.c.terms;
  const Sequence s = sequence_of(t.c, b);
  reference::Terms result;
  result.softcap = static_cast<double>(static_cast<float>(terms.softcap));
  const auto fill = [&](reference::Matrix& matrix, const auto& value) {
    matrix = reference::Matrix(s.q_len, s.kv_len);
    for (int64_t i = 0; i < s.q_len; ++i)
      for (int64_t j = 0; j < s.kv_len; ++j)
        if (sees(t.c, b, n, i, j)) matrix.row(i)[j] = value(i, j);
  };
  if (present(terms.bias)) {
    fill(result.bias, [&](int64_t i, int64_t j) { return load(t.terms.bias.dtype, t.terms.bias_at(b, n, i, j)); });
    result.bias_before_scale = terms.bias.before_scale;
  }
  if (terms.alibi.present) {
    const bool starts = b == 0 || !terms.alibi.first_sequence;
    result.alibi = {t.terms.slope(b, n), starts ? terms.alibi.q_start : 0, starts ? terms.alibi.kv_start : 0,
                    terms.alibi.bottom_right ? s.kv_len - s.q_len : 0, terms.alibi.square_root};
  }
  if (present(terms.dropout)) {
    fill(result.keep, [&](int64_t i, int64_t j) { return t.terms.keeps(b, n, i, j) ? 1.0 : 0.0; });
    result.keep_prob = static_cast<double>(static_cast<float>(terms.dropout.keep_prob));
  }
  if (terms.sink) result.sink = static_cast<double>(TermTensors::floats(t.terms.sink)[n]);
  return result;
}

// A sum over many rows: its exact value, and how far a result may lie from it beyond its own rounding.
struct Sum {
  double value = 0.0;
  double allowed = 0.0;
};

// d_bias, element by element of the bias, and d_sink by head: sums over all that a bias or a sink is added to.
struct TermGradients {
  std::vector<Sum> bias;
  std::vector<Sum> sink;
};

inline TermGradients no_gradients(const Tensors& t) {
  return {std::vector<Sum>(static_cast<std::size_t>(t.terms.d_bias.elements)),
          std::vector<Sum>(static_cast<std::size_t>(t.c.q_heads))};
}

// Adds what one query head of one sequence contributes. `rounded` are the gradients with a delta from the saved output;
// a probability of 1 has a dx that may be off by `allowed`.
inline void add_bias_gradient(const Tensors& t, int64_t b, int64_t n, const reference::Head& head,
                              const reference::Forward& forward, const reference::Gradients& exact,
                              const reference::Gradients& rounded, double allowed, TermGradients& sums) {
  if (sums.bias.empty()) return;
  for (int64_t i = 0; i < head.q.rows; ++i)
    for (int64_t j = 0; j < head.k.rows; ++j) {
      if (!sees(t.c, b, n, i, j)) continue;
      Sum& sum = sums.bias[static_cast<std::size_t>(t.terms.bias_element(b, n, i, j))];
      const double p = reference::probability(forward, i, reference::score(head, i, j)), value = exact.d_bias.row(i)[j];
      sum.value += value;
      sum.allowed += p * allowed + 2 * std::abs(value - rounded.d_bias.row(i)[j]);
    }
}

// d_sink is a sum of p_sink * delta; each of its terms carries the rounding of the scores and of delta, which is a sum of
// products of up to `reach` and may be taken from the output as it was saved.
inline void add_sink_gradient(const Tensors& t, int64_t n, const reference::Head& head, const reference::Forward& forward,
                              const reference::Forward& saved, const reference::Matrix& d_out, double exact, double reach,
                              double arithmetic, TermGradients& sums) {
  if (!t.c.terms.sink || head.k.rows == 0) return;
  Sum& sum = sums.sink[static_cast<std::size_t>(n)];
  sum.value += exact;
  for (int64_t i = 0; i < head.q.rows; ++i) {
    const double p = reference::probability(forward, i, head.terms.sink);
    const double delta = reference::dot(d_out.row(i), forward.out.row(i), head.v.cols);
    const double from_saved = reference::dot(d_out.row(i), saved.out.row(i), head.v.cols);
    sum.allowed += p * (2 * std::abs(delta - from_saved) + arithmetic * (std::abs(delta) + reach));
  }
}

inline void compare_term_gradients(const Tensors& t, const TermGradients& sums, double arithmetic) {
  const Tensor& d_bias = t.terms.d_bias;
  std::vector<double> values;
  for (const Sum& sum : sums.bias) values.push_back(sum.value);
  const double allowance = arithmetic * largest(values);
  d_bias.each([&](auto b, auto n, auto i, auto j) {
    const auto e = static_cast<std::size_t>(b * d_bias.batch_stride + n * d_bias.head_stride + i * d_bias.row_stride + j);
    compare_one("d_bias", {b, n, i, j}, d_bias.get(b, n, i, j), sums.bias[e].value,
                half_ulp(d_bias.dtype, sums.bias[e].value) + sums.bias[e].allowed + allowance);
  });
  for (std::size_t n = 0; t.c.terms.sink && n < sums.sink.size(); ++n) {
    const double want = sums.sink[n].value, got = static_cast<double>(TermTensors::floats(t.terms.d_sink)[n]);
    const double allowed = half_ulp(FUSEDATTN_FLOAT32, want) + sums.sink[n].allowed;
    compare_one("d_sink", {0, static_cast<int64_t>(n), 0, 0}, got, want, allowed);
  }
}

}  // namespace fusedattn::tests
#endif
