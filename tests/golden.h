// golden.h: what the reference says about the tensors of a case, and how far a result may lie from it.
#ifndef FUSEDATTN_TESTS_GOLDEN_H
#define FUSEDATTN_TESTS_GOLDEN_H

#include <optional>

#include "golden_terms.h"

namespace fusedattn::tests {

using reference::Forward;
using reference::Gradients;
using reference::Head;
using reference::Matrix;

// Rows [begin, begin + len) of one head.
inline Matrix matrix_of(const Tensor& tensor, int64_t b, int64_t head, int64_t begin, int64_t len) {
  Matrix result(len, tensor.dim);
  for (int64_t i = 0; i < len; ++i)
    for (int64_t d = 0; d < tensor.dim; ++d) result.row(i)[d] = tensor.get(b, head, begin + i, d);
  return result;
}

// Query head n of sequence b with its key head.
inline Head head_of(const Tensors& t, int64_t b, int64_t n) {
  const Sequence s = sequence_of(t.c, b);
  const int64_t batch = packed(t.c) ? 0 : b, h = n / (t.c.q_heads / t.c.kv_heads);
  return {matrix_of(t.q, batch, n, s.q_begin, s.q_len), matrix_of(t.k, batch, h, s.kv_begin, s.kv_len),
          matrix_of(t.v, batch, h, s.kv_begin, s.kv_len), static_cast<double>(static_cast<float>(scale_of(t.c))),
          terms_of(t, b, n)};
}

// The largest length of a row.
inline double longest(const Matrix& matrix) {
  double result = 0.0;
  for (int64_t i = 0; i < matrix.rows; ++i) {
    result = std::max(result, std::sqrt(reference::dot(matrix.row(i), matrix.row(i), matrix.cols)));
  }
  return result;
}

// One query head of one sequence, answered forward, and backward once somebody asks: the reference takes longer than all that is held to it.
struct GoldenHead {
  Head head;
  Matrix d_out;
  Forward forward;
  double largest_score = 0.0;
  mutable std::optional<Gradients> exact = std::nullopt;
};

// One query head answered backward. A gradient that is zero in exact arithmetic is a difference of numbers up to its
// reach.
struct GoldenGradients {
  Gradients grad;
  Gradients rounded;  // those with a delta from the saved output
  double dx_reach = 0.0;
  double dq_reach = 0.0;
  double dk_reach = 0.0;
  double dq_rounding = 0.0;  // what a delta from the saved output may change
  double dk_rounding = 0.0;
};

inline auto visible_to(const Case& c, int64_t b, int64_t n) {
  return [&c, b, n](int64_t i, int64_t j) { return sees(c, b, n, i, j); };
}

inline GoldenHead golden_head(const Tensors& t, int64_t b, int64_t n) {
  const Sequence s = sequence_of(t.c, b);
  GoldenHead golden{head_of(t, b, n), matrix_of(t.d_out, packed(t.c) ? 0 : b, n, s.q_begin, s.q_len), {}};
  golden.forward = reference::attention(golden.head, visible_to(t.c, b, n));
  for (const double max : golden.forward.max) {
    if (max != reference::kEmptyMax) golden.largest_score = std::max(golden.largest_score, std::abs(max));
  }
  return golden;
}

inline double largest_difference(const Matrix& a, const Matrix& b) {
  double worst = 0.0;
  for (std::size_t i = 0; i < a.values.size(); ++i) worst = std::max(worst, std::abs(a.values[i] - b.values[i]));
  return worst;
}

// The forward as the library saved it: exact statistics, but an output in its storage type.
inline Forward saved_forward(const Tensors& t, int64_t b, int64_t n, const GoldenHead& golden) {
  const Sequence s = sequence_of(t.c, b);
  Forward saved = golden.forward;
  saved.out = matrix_of(t.out, packed(t.c) ? 0 : b, n, s.q_begin, s.q_len);
  return saved;
}

// The exact gradients, and how far those may lie from them that take delta from the output as it was saved, rounded: a row may
// do either, and a sum over rows may mix them.
inline GoldenGradients golden_gradients(const Tensors& t, int64_t b, int64_t n, const GoldenHead& golden) {
  const Head& head = golden.head;
  const Forward saved = saved_forward(t, b, n, golden);
  if (!golden.exact) golden.exact = reference::backward(head, golden.forward, golden.d_out, visible_to(t.c, b, n));
  const Gradients& exact = *golden.exact;
  const Gradients rounded = reference::backward(head, saved, golden.d_out, visible_to(t.c, b, n));
  const double dx_reach = longest(golden.d_out) * longest(head.v) / head.terms.keep_prob;
  const double reach = dx_reach * std::abs(head.scale);
  return {exact,
          rounded,
          dx_reach,
          reach * longest(head.k),
          reach * longest(head.q),
          2 * largest_difference(exact.dq, rounded.dq),
          2 * largest_difference(exact.dk, rounded.dk)};
}

// A case answered forward: query heads as [b * q_heads + n].
inline std::vector<GoldenHead> golden_of(const Tensors& t) {
  std::vector<GoldenHead> heads;
  for (int64_t b = 0; b < t.c.batch; ++b)
    for (int64_t n = 0; n < t.c.q_heads; ++n) heads.push_back(golden_head(t, b, n));
  return heads;
}

// An element may be off by half a unit of its storage type, plus `arithmetic` relative to the largest element of its
// head (times the largest score over 8, where that is more than 1: scores carry their rounding into the exponent), plus
// `cancelled` relative to reach, for gradients that are differences of larger numbers.
struct Tolerance {
  double arithmetic;
  double cancelled;
};

// Arithmetic in float32 leaves about 2e-6 of the largest element behind whatever the storage type. A lane that
// multiplies bfloat16 directly also rounds probabilities and score gradients to 8 bits, half a unit of which is 2^-9.
inline Tolerance tolerance_of(const std::string& lane, int32_t dtype) {
  const bool dot = dtype == FUSEDATTN_BFLOAT16 && lane.find("bf16") != std::string::npos;
  return dot ? Tolerance{.arithmetic = 1.0 / 256, .cancelled = 1e-4} : Tolerance{.arithmetic = 2e-6, .cancelled = 1e-6};
}

// max and sum: empty rows exactly, others relative to the size of the scores; the same in every lane.
inline void compare_stats(const Tensors& t, int64_t b, int64_t n, const GoldenHead& golden) {
  const double allowed = 2e-6 * std::max(1.0, golden.largest_score);
  for (int64_t i = 0; i < golden.head.q.rows; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const double want_max = golden.forward.max[at], want_sum = golden.forward.sum[at];
    const double max = t.stat(t.max, b, n, i), sum = t.stat(t.sum, b, n, i);
    if (want_max == reference::kEmptyMax || want_sum == 0.0) {
      CHECK_EQ(max, want_max);
      CHECK_EQ(sum, want_sum);
    } else {
      CHECK_NEAR(max, want_max, allowed);
      CHECK_NEAR(max + std::log(sum), want_max + std::log(want_sum), allowed);
    }
    for (int64_t lane = 1; lane < t.c.stats.lanes; ++lane) {
      CHECK_EQ(t.stat(t.max, b, n, i, lane), max);
      CHECK_EQ(t.stat(t.sum, b, n, i, lane), sum);
    }
  }
}

inline void compare_forward(const Tensors& t, const std::vector<GoldenHead>& golden, const Tolerance& tolerance) {
  for (int64_t b = 0; b < t.c.batch; ++b)
    for (int64_t n = 0; n < t.c.q_heads; ++n) {
      const GoldenHead& head = golden[static_cast<std::size_t>(b * t.c.q_heads + n)];
      const int64_t batch = packed(t.c) ? 0 : b, begin = sequence_of(t.c, b).q_begin;
      const double arithmetic = tolerance.arithmetic * std::max(1.0, head.largest_score / 8);
      compare("out", t.out, batch, n, begin, head.forward.out, arithmetic * largest(head.forward.out.values));
      compare_stats(t, b, n, head);
    }
  if (!packed(t.c)) return;
  compare_zero("out", t.out, t.c.q_ends.back(), t.c.q_len);
  const int64_t rows = t.c.stats.blocks ? t.c.q_heads : 1;  // of the statistics, for each row of the tensors
  compare_zero("max", t.max, rows * t.c.q_ends.back(), rows * t.c.q_len);
  compare_zero("sum", t.sum, rows * t.c.q_ends.back(), rows * t.c.q_len);
}

inline void add_term_gradients(const Tensors& t, int64_t b, int64_t n, const GoldenHead& golden,
                               const GoldenGradients& gradients, const Tolerance& tolerance, TermGradients& sums) {
  const double factor = t.c.terms.bias.before_scale ? std::abs(golden.head.scale) : 1.0;
  const double scores = std::max(1.0, golden.largest_score / 8), arithmetic = tolerance.arithmetic * scores;
  add_bias_gradient(t, b, n, golden.head, golden.forward, gradients.grad, gradients.rounded,
                    tolerance.cancelled * scores * gradients.dx_reach * factor, sums);
  add_sink_gradient(t, n, golden.head, golden.forward, saved_forward(t, b, n, golden), golden.d_out,
                    gradients.grad.d_sink, gradients.dx_reach, arithmetic, sums);
}

// The gradients of the query heads that share key head h of sequence b: dq of each, and the sums of dk and dv. Those of
// bias and sink are added to `sums`.
inline void compare_group(const Tensors& t, int64_t b, int64_t h, const GoldenHead* golden,
                          const Tolerance& tolerance, TermGradients& sums) {
  const Sequence s = sequence_of(t.c, b);
  const int64_t batch = packed(t.c) ? 0 : b, group = t.c.q_heads / t.c.kv_heads;
  Matrix dk(s.kv_len, t.c.dim), dv(s.kv_len, t.c.dim_v);
  double dk_allowed = 0.0, arithmetic = tolerance.arithmetic;
  for (int64_t g = 0; g < group; ++g) {
    const GoldenGradients got = golden_gradients(t, b, h * group + g, golden[g]);
    arithmetic = std::max(arithmetic, tolerance.arithmetic * golden[g].largest_score / 8);
    compare("dq", t.dq, batch, h * group + g, s.q_begin, got.grad.dq,
            arithmetic * largest(got.grad.dq.values) + tolerance.cancelled * got.dq_reach + got.dq_rounding);
    reference::add(dk.values.data(), 1.0, got.grad.dk.values.data(), s.kv_len * t.c.dim);
    reference::add(dv.values.data(), 1.0, got.grad.dv.values.data(), s.kv_len * t.c.dim_v);
    dk_allowed += tolerance.cancelled * got.dk_reach + got.dk_rounding;
    add_term_gradients(t, b, h * group + g, golden[g], got, tolerance, sums);
  }
  compare("dk", t.dk, batch, h, s.kv_begin, dk, arithmetic * largest(dk.values) + dk_allowed);
  compare("dv", t.dv, batch, h, s.kv_begin, dv, arithmetic * largest(dv.values));
}

inline void compare_backward(const Tensors& t, const std::vector<GoldenHead>& golden, const Tolerance& tolerance) {
  const int64_t group = t.c.q_heads / t.c.kv_heads;
  TermGradients sums = no_gradients(t);
  double arithmetic = tolerance.arithmetic;
  for (const GoldenHead& head : golden) arithmetic = std::max(arithmetic, tolerance.arithmetic * head.largest_score / 8);
  for (int64_t b = 0; b < t.c.batch; ++b)
    for (int64_t h = 0; h < t.c.kv_heads; ++h) {
      compare_group(t, b, h, golden.data() + b * t.c.q_heads + h * group, tolerance, sums);
    }
  compare_term_gradients(t, sums, arithmetic);
  if (!packed(t.c)) return;
  compare_zero("dq", t.dq, t.c.q_ends.back(), t.c.q_len);
  compare_zero("dk", t.dk, t.c.kv_ends.back(), t.c.kv_len);
  compare_zero("dv", t.dv, t.c.kv_ends.back(), t.c.kv_len);
}

}  // namespace fusedattn::tests
#endif
