// golden.h: what the reference says about the tensors of a case, and how far a result may lie from it.
#ifndef FUSEDATTN_TESTS_GOLDEN_H
#define FUSEDATTN_TESTS_GOLDEN_H

#include <vector>

#include "check.h"
#include "reference/backward.h"
#include "tensors.h"

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
          matrix_of(t.v, batch, h, s.kv_begin, s.kv_len), static_cast<double>(static_cast<float>(scale_of(t.c)))};
}

inline double largest(const std::vector<double>& values) {
  double result = 0.0;
  for (const double value : values) result = std::max(result, std::abs(value));
  return result;
}

// The largest length of a row.
inline double longest(const Matrix& matrix) {
  double result = 0.0;
  for (int64_t i = 0; i < matrix.rows; ++i) {
    result = std::max(result, std::sqrt(reference::dot(matrix.row(i), matrix.row(i), matrix.cols)));
  }
  return result;
}

// One query head of one sequence, answered forward.
struct GoldenHead {
  Head head;
  Matrix d_out;
  Forward forward;
  double largest_score = 0.0;
};

// One query head answered backward. A gradient that is zero in exact arithmetic is a difference of numbers up to its
// reach.
struct GoldenGradients {
  Gradients grad;
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

// The exact gradients, and how far those may lie from them that take delta from the output as it was saved, rounded: a row may
// do either, and a sum over rows may mix them.
inline GoldenGradients golden_gradients(const Tensors& t, int64_t b, int64_t n, const GoldenHead& golden) {
  const Sequence s = sequence_of(t.c, b);
  const Head& head = golden.head;
  Forward saved = golden.forward;
  saved.out = matrix_of(t.out, packed(t.c) ? 0 : b, n, s.q_begin, s.q_len);
  const Gradients exact = reference::backward(head, golden.forward, golden.d_out, visible_to(t.c, b, n));
  const Gradients rounded = reference::backward(head, saved, golden.d_out, visible_to(t.c, b, n));
  const double reach = longest(golden.d_out) * longest(head.v) * std::abs(head.scale);
  return {exact, reach * longest(head.k), reach * longest(head.q), 2 * largest_difference(exact.dq, rounded.dq),
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

// Compares rows [begin, begin + expected.rows) of one head; `what` names the tensor in a complaint.
inline void compare(const char* what, const Tensor& got, int64_t b, int64_t head, int64_t begin, const Matrix& expected,
                    double allowance) {
  double worst = 0.0;
  std::string where;
  for (int64_t i = 0; i < expected.rows; ++i)
    for (int64_t d = 0; d < expected.cols; ++d) {
      const double want = expected.row(i)[d], have = got.get(b, head, begin + i, d);
      const double excess = std::abs(have - want) / (half_ulp(got.dtype, want) + allowance);
      if (excess <= worst) continue;
      worst = std::isnan(excess) ? INFINITY : excess;
      std::ostringstream text;
      text << what << "[" << b << "," << head << "," << begin + i << "," << d << "] is " << have << ", expected "
           << want << " (error " << std::abs(have - want) << ", " << excess << " times what is allowed)";
      where = text.str();
    }
  if (worst > 1.0) check::complain(__FILE__, __LINE__, where);
}

// Rows [begin, end) of every head must be exactly zero: they belong to no sequence.
inline void compare_zero(const char* what, const Tensor& got, int64_t begin, int64_t end) {
  for (int64_t n = 0; n < got.heads; ++n)
    for (int64_t i = begin; i < end; ++i)
      for (int64_t d = 0; d < got.dim; ++d)
        if (got.get(0, n, i, d) != 0.0)
          return check::complain(__FILE__, __LINE__, std::string(what) + ": tail is not 0");
}

// max and sum: empty rows exactly, others relative to the size of the scores.
inline void compare_stats(const Tensors& t, int64_t b, int64_t n, int64_t begin, const GoldenHead& golden) {
  const double allowed = 2e-6 * std::max(1.0, golden.largest_score);
  for (std::size_t i = 0; i < golden.forward.max.size(); ++i) {
    const double max = t.max.get(b, n, begin + static_cast<int64_t>(i), 0);
    const double sum = t.sum.get(b, n, begin + static_cast<int64_t>(i), 0);
    if (golden.forward.max[i] == reference::kEmptyMax || golden.forward.sum[i] == 0.0) {
      CHECK_EQ(max, golden.forward.max[i]);
      CHECK_EQ(sum, golden.forward.sum[i]);
    } else {
      CHECK_NEAR(max, golden.forward.max[i], allowed);
      CHECK_NEAR(max + std::log(sum), golden.forward.max[i] + std::log(golden.forward.sum[i]), allowed);
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
      compare_stats(t, batch, n, begin, head);
    }
  if (!packed(t.c)) return;
  compare_zero("out", t.out, t.c.q_ends.back(), t.c.q_len);
  compare_zero("max", t.max, t.c.q_ends.back(), t.c.q_len);
  compare_zero("sum", t.sum, t.c.q_ends.back(), t.c.q_len);
}

// The gradients of the query heads that share key head h of sequence b: dq of each, and the sums of dk and dv.
inline void compare_group(const Tensors& t, int64_t b, int64_t h, const GoldenHead* golden,
                          const Tolerance& tolerance) {
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
  }
  compare("dk", t.dk, batch, h, s.kv_begin, dk, arithmetic * largest(dk.values) + dk_allowed);
  compare("dv", t.dv, batch, h, s.kv_begin, dv, arithmetic * largest(dv.values));
}

inline void compare_backward(const Tensors& t, const std::vector<GoldenHead>& golden, const Tolerance& tolerance) {
  const int64_t group = t.c.q_heads / t.c.kv_heads;
  for (int64_t b = 0; b < t.c.batch; ++b)
    for (int64_t h = 0; h < t.c.kv_heads; ++h) {
      compare_group(t, b, h, golden.data() + b * t.c.q_heads + h * group, tolerance);
    }
  if (!packed(t.c)) return;
  compare_zero("dq", t.dq, t.c.q_ends.back(), t.c.q_len);
  compare_zero("dk", t.dk, t.c.kv_ends.back(), t.c.kv_len);
  compare_zero("dv", t.dv, t.c.kv_ends.back(), t.c.kv_len);
}

}  // namespace fusedattn::tests
#endif
