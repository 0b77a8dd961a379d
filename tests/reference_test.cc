// reference_test.cc: the reference itself. Gradients against finite differences, identities of softmax, laws of merge.
#include "golden.h"
#include "plan/area.h"
#include "reference/merge.h"
#include "term_cases.h"

using namespace fusedattn::tests;
namespace reference = fusedattn::reference;

namespace {

// sum(out * d_out), the number whose gradients the backward computes.
template <class Sees>
double objective(const Head& head, const Matrix& d_out, const Sees& visible) {
  return reference::dot(reference::attention(head, visible).out.values.data(),
                                   d_out.values.data(), d_out.rows * d_out.cols);
}

// The central difference of the objective in one number inside head.
template <class Sees>
double difference(const Head& head, double& parameter, const Matrix& d_out, const Sees& visible) {
  const double step = 1e-5, middle = parameter;
  parameter = middle + step;
  const double above = objective(head, d_out, visible);
  parameter = middle - step;
  const double below = objective(head, d_out, visible);
  parameter = middle;
  return (above - below) / (2 * step);
}

// Every element of `parameter`, a matrix inside head.
template <class Sees>
void check_gradient(const Head& head, Matrix& parameter, const Matrix& gradient, const Matrix& d_out, const Sees& visible) {
  CHECK_EQ(gradient.values.size(), parameter.values.size());
  for (std::size_t e = 0; e < parameter.values.size(); ++e) {
    CHECK_NEAR(gradient.values[e], difference(head, parameter.values[e], d_out, visible), 1e-8);
  }
}

// The gradients of every query head of a case.
void check_gradients(const Case& c) {
  const Tensors t(c, FUSEDATTN_FLOAT32);
  for (int64_t b = 0; b < c.batch; ++b)
    for (int64_t n = 0; n < c.q_heads; ++n) {
      const Sequence s = sequence_of(c, b);
      Head head = head_of(t, b, n);
      const Matrix d_out = matrix_of(t.d_out, packed(c) ? 0 : b, n, s.q_begin, s.q_len);
      const auto visible = visible_to(c, b, n);
      const Gradients grad = reference::backward(head, reference::attention(head, visible), d_out, visible);
      check_gradient(head, head.q, grad.dq, d_out, visible);
      check_gradient(head, head.k, grad.dk, d_out, visible);
      check_gradient(head, head.v, grad.dv, d_out, visible);
      check_gradient(head, head.terms.bias, grad.d_bias, d_out, visible);
      if (c.terms.sink) CHECK_NEAR(grad.d_sink, difference(head, head.terms.sink, d_out, visible), 1e-8);
      if (!c.terms.sink) CHECK_EQ(grad.d_sink, 0.0);
    }
}

const Case kSmall{.name = "small", .q_len = 6, .kv_len = 9, .dim = 4, .dim_v = 3};

// Attention over the columns [begin, end) alone.
Forward part(const Head& head, const Case& c, int64_t begin, int64_t end) {
  return reference::attention(
      head, [&](int64_t i, int64_t j) { return begin <= j && j < end && sees(c, 0, 0, i, j); });
}

// The first `empty` rows see nothing, the others something.
void check_empty_rows(const Case& c, int64_t empty) {
  const GoldenHead golden = golden_head(Tensors(c, FUSEDATTN_FLOAT32), 0, 0);
  const Gradients grad = reference::backward(golden.head, golden.forward, golden.d_out, visible_to(c, 0, 0));
  for (int64_t i = 0; i < c.q_len; ++i) {
    const auto at = static_cast<std::size_t>(i);
    CHECK_EQ(golden.forward.max[at] == reference::kEmptyMax, i < empty);
    CHECK_EQ(golden.forward.sum[at] == reference::kEmptySum, i < empty);
    for (int64_t d = 0; i < empty && d < c.dim_v; ++d) CHECK_EQ(golden.forward.out.row(i)[d], 0.0);
    for (int64_t d = 0; i < empty && d < c.dim; ++d) CHECK_EQ(grad.dq.row(i)[d], 0.0);
  }
}

void check_same(const Forward& a, const Forward& b) {
  for (std::size_t e = 0; e < a.out.values.size(); ++e) CHECK_NEAR(a.out.values[e], b.out.values[e], 1e-13);
  for (std::size_t i = 0; i < a.max.size(); ++i) {
    CHECK_EQ(a.max[i], b.max[i]);
    CHECK_NEAR(a.sum[i] / b.sum[i], 1.0, 1e-13);
  }
}

}  // namespace

TEST(gradients_equal_finite_differences) {
  for (const fusedattn_band& band : {kNoBand, kCausal, fusedattn_band{2, -1}, fusedattn_band{-4, 4}}) {
    Case c = kSmall;
    c.bottom_right = band;
    check_gradients(c);
  }
}

// Every term alone and all at once, at a size where differences are quick.
TEST(gradients_of_every_term_equal_finite_differences) {
  for (const Case& from : term_cases()) {
    Case c = from;
    if (packed(c)) {
      c.batch = 4, c.q_ends = {1, 1, 5, 8}, c.kv_ends = {2, 4, 4, 10}, c.q_len = 9, c.kv_len = 11;
      if (!c.bands.empty()) c.bands = {kNoBand, {1, 1}, {0, 0}, {3, 2}};
      if (!c.prefix.empty()) c.prefix = {1, 0, 3, 4};
    } else {
      c.q_len = std::min<int64_t>(c.q_len, 6), c.kv_len = std::min<int64_t>(c.kv_len, 7);
    }
    for (fusedattn_band* band : {&c.top_left, &c.bottom_right})
      if (band->right != FUSEDATTN_UNBOUNDED) band->right = std::clamp<int64_t>(band->right, -2, 3);
    c.q_heads = 2, c.kv_heads = 1, c.dim = 3, c.dim_v = 2;
    check::run(c.name, [&] { check_gradients(c); });
  }
}

TEST(probabilities_sum_to_one) {
  const Tensors t(kSmall, FUSEDATTN_FLOAT32);
  Head head = head_of(t, 0, 0);
  std::fill(head.v.values.begin(), head.v.values.end(), 1.0);
  for (const double value : part(head, kSmall, 0, 9).out.values) CHECK_NEAR(value, 1.0, 1e-14);
}

TEST(rows_that_see_nothing) {
  Case c = kSmall;
  c.bottom_right = {0, -5};  // i + 3 <= j <= i - 2: no row
  for (const int64_t left : {int64_t{0}, int64_t{20}}) {
    c.bottom_right.left = left;  // 20: j <= i - 2, the rows from 2 on
    check_empty_rows(c, left == 0 ? c.q_len : 2);
  }
}

TEST(merging_any_split_of_the_columns_equals_the_whole) {
  Case c = kSmall;
  c.bottom_right = {3, 0};
  const Head head = head_of(Tensors(c, FUSEDATTN_FLOAT32), 0, 0);
  const Forward whole = part(head, c, 0, 9);
  for (int64_t split = 0; split <= 9; ++split) {
    const Forward left = part(head, c, 0, split), right = part(head, c, split, 9);
    check_same(reference::merge({left, right}), whole);
    check_same(reference::merge({right, left}), whole);
  }
  const Forward a = part(head, c, 0, 2), b = part(head, c, 2, 5), d = part(head, c, 5, 9);
  check_same(reference::merge({a, b, d}), whole);
  check_same(reference::merge({reference::merge({a, b}), d}), whole);
  check_same(reference::merge({a, reference::merge({b, d})}), whole);
}

TEST(storage_types_round_trip) {
  for (const int32_t dtype : {FUSEDATTN_BFLOAT16, FUSEDATTN_FLOAT16}) {
    for (int bits = 0; bits < 65536; ++bits) {
      const std::uint16_t from[2] = {static_cast<std::uint16_t>(bits), 0};
      const double value = load(dtype, from);
      if (!std::isfinite(value)) continue;
      std::uint16_t to[2] = {};
      store(dtype, to, value);
      CHECK_EQ(from[0], to[0]);
      store(dtype, to, value + std::copysign(0.9 * half_ulp(dtype, value), value));
      CHECK_EQ(from[0], to[0]);
    }
  }
}

TEST(visible_area_counts_what_is_seen) {
  std::vector<Case> cases = numerics_cases();
  for (const Case& c : term_cases()) cases.push_back(c);
  for (const Case& c : cases) {
    int64_t area = 0;
    for (int64_t b = 0; b < c.batch; ++b) {
      const Sequence s = sequence_of(c, b);
      for (int64_t n = 0; n < c.q_heads; ++n)
        for (int64_t i = 0; i < s.q_len; ++i)
          for (int64_t j = 0; j < s.kv_len; ++j) area += sees(c, b, n, i, j);
    }
    CHECK_EQ(area, visible_area(c));
  }
}

// The closed form of the plan against the intervals of the rows.
TEST(areas_of_bands_and_prefixes) {
  using fusedattn::Range;
  constexpr int64_t kAll = fusedattn::kUnbounded;
  for (const int64_t kv_len : {0, 1, 7, 20})
    for (const int64_t left : {kAll, int64_t{25}, int64_t{4}, int64_t{0}, int64_t{-2}, int64_t{-30}})
      for (const int64_t right : {kAll, int64_t{25}, int64_t{3}, int64_t{0}, int64_t{-1}, int64_t{-30}})
        for (const int64_t prefix : {0, 1, 5, 40})
          for (const Range rows : {Range{0, 13}, Range{3, 4}, Range{5, 31}, Range{2, 2}}) {
            if (prefix > 0 && left != kAll) continue;
            const fusedattn::Sight sight{{left, right}, prefix};
            int64_t area = 0;
            for (int64_t i = rows.begin; i < rows.end; ++i) area += std::max<int64_t>(0, sight.columns({i, i + 1}, kv_len).size());
            CHECK_EQ(visible_area(sight, rows, kv_len), area);
          }
}

TEST_MAIN()
