// score_terms_test.cc: how right a capped score is, infinities and NaN in a bias, sinks at their ends, the bits of every term with any number of
// threads.
#include <cfloat>

#include "everywhere.h"

using namespace fusedattn::tests;

namespace {

// The bases of the cases above, with a bias of every pair and nothing else.
std::vector<Case> bias_cases() {
  std::vector<Case> cases;
  for (Case c : {padded_base("padded"), packed_base("packed"), long_base("long")}) {
    c.bottom_right = kCausal, c.terms.bias = {.form = BiasForm::strided};
    cases.push_back(c);
    c.name += "_before", c.terms.bias.before_scale = true, c.terms.bias.dtype = FUSEDATTN_FLOAT32;
    cases.push_back(c);
  }
  return cases;
}

void set_bias(const Tensors& t, int64_t b, int64_t n, int64_t i, int64_t j, float value) {
  std::byte* const at = t.terms.bias_at(b, n, i, j);
  const auto pattern = std::bit_cast<std::uint32_t>(value);
  const auto upper = static_cast<std::uint16_t>(pattern >> 16);
  const auto half = static_cast<std::uint16_t>((upper & 0x8000) | 0x7C00 | (std::isnan(value) ? 1 : 0));  // in float16
  switch (t.terms.bias.dtype) {
    case FUSEDATTN_FLOAT32: std::memcpy(at, &value, sizeof value); break;
    case FUSEDATTN_BFLOAT16: std::memcpy(at, &upper, sizeof upper); break;
    default: std::memcpy(at, &half, sizeof half);
  }
}

// Elements that differ or are NaN, of the rows `wanted(b, n, i)` of a tensor of rows.
template <class Rows>
int64_t differing(const Tensors& t, const Tensor& have, const Tensor& want, const Rows& wanted) {
  int64_t count = 0;
  for (int64_t b = 0; b < t.c.batch; ++b) {
    const Sequence s = sequence_of(t.c, b);
    const int64_t batch = packed(t.c) ? 0 : b;
    for (int64_t n = 0; n < have.heads; ++n)
      for (int64_t i = 0; i < s.q_len; ++i)
        for (int64_t d = 0; d < have.dim && wanted(b, n, i); ++d)
          count += !(have.get(batch, n, s.q_begin + i, d) == want.get(batch, n, s.q_begin + i, d));
  }
  return count;
}

void set_sink(const Tensors& t, float value) {
  for (int64_t n = 0; n < t.c.q_heads; ++n) TermTensors::floats(t.terms.sink)[n] = value;
}

std::vector<Case> sink_cases() {
  std::vector<Case> cases;
  for (Case c : {padded_base("padded"), packed_base("packed"), long_base("long")}) {
    c.top_left = {FUSEDATTN_UNBOUNDED, -9}, c.terms.sink = true;
    cases.push_back(c);
  }
  return cases;
}

}  // namespace

// What bytes hide, -infinity hides too: the same bits of everything, rows without any key included.
TEST(a_bias_of_minus_infinity_hides) {
  for_all("minus infinity", bias_cases(), [](Case c, int32_t dtype, const fusedattn_options& options) {
    c.bytes.present = true;
    const Tensors bytes(c, dtype);
    c.bytes.present = false;
    const Tensors bias(c, dtype);
    for (int64_t b = 0; b < c.batch; ++b)
      for (int64_t n = 0; n < c.q_heads; ++n)
        for (int64_t i = 0; i < sequence_of(c, b).q_len; ++i)
          for (int64_t j = 0; j < sequence_of(c, b).kv_len; ++j)
            if (byte_hides(bytes.c.bytes, b, n, i, j)) set_bias(bias, b, n, i, j, -INFINITY);
    if (run_both(bytes.problem(), options) && run_both(bias.problem(), options)) check_same_results(bias, bytes);
  });
}

// NaN and +infinity make their row NaN, and no other row of out, dq or the statistics.
TEST(what_is_not_finite_in_a_bias_stays_in_its_row) {
  for (const float value : {static_cast<float>(NAN), INFINITY}) {
    const char* name = std::isnan(value) ? "NaN bias" : "infinite bias";
    for_all(name, bias_cases(), [&](const Case& c, int32_t dtype, const fusedattn_options& options) {
      const Tensors clean(c, dtype), dirty(c, dtype);
      const int64_t b = c.batch - 1, n = c.q_heads - 1, i = sequence_of(c, b).q_len - 2, j = 3;
      set_bias(dirty, b, n, i, j, value);
      if (!run_both(clean.problem(), options) || !run_both(dirty.problem(), options)) return;
      const auto row = [&](auto in_b, auto in_n, auto in_i) { return in_b == b && in_n == n && in_i == i; };
      const auto others = [&](auto in_b, auto in_n, auto in_i) { return !row(in_b, in_n, in_i); };
      for (const auto& [have, want] : {std::pair{&dirty.out, &clean.out}, std::pair{&dirty.dq, &clean.dq}}) {
        CHECK_EQ(differing(dirty, *have, *want, others), 0);
        CHECK_EQ(differing(dirty, *have, *have, row), have->dim);  // NaN is not equal to itself
      }
      for (const auto& [have, want] : {std::pair{&dirty.max, &clean.max}, std::pair{&dirty.sum, &clean.sum}})
        CHECK_EQ(differing(dirty, *have, *want, others), 0);
      CHECK(std::isnan(dirty.terms.d_bias.get(b, n, i, j)));
      CHECK(std::isnan(dirty.dv.get(packed(c) ? 0 : b, c.kv_heads - 1, sequence_of(c, b).kv_begin + j, 0)));
    });
  }
}

// No sink and a sink that weighs nothing give the same bits.
TEST(a_sink_of_minus_infinity_is_none) {
  for_all("sink -inf", sink_cases(), [](Case c, int32_t dtype, const fusedattn_options& options) {
    const Tensors sink(c, dtype);
    set_sink(sink, -INFINITY);
    c.terms.sink = false;
    const Tensors none(c, dtype);
    if (!run_both(sink.problem(), options) || !run_both(none.problem(), options)) return;
    const auto have = results(sink), want = results(none);
    for (std::size_t r = 0; r + 1 < have.size(); ++r) CHECK(have[r] == want[r]);
    for (int64_t n = 0; n < c.q_heads; ++n) CHECK_EQ(TermTensors::floats(sink.terms.d_sink)[n], 0.0f);
  });
}

// A sink that outweighs every key leaves zeros behind, and rows that see nothing have it as their only score.
TEST(a_sink_that_outweighs_all) {
  for_all("large sink", sink_cases(), [](const Case& c, int32_t dtype, const fusedattn_options& options) {
    for (const float value : {1e4f, 1e30f, FLT_MAX}) {
      const Tensors t(c, dtype);
      set_sink(t, value);
      if (!run_both(t.problem(), options)) return;
      for (const Tensor* result : {&t.out, &t.dq, &t.dk, &t.dv}) {
        int64_t wrong = 0;
        result->each([&](auto b, auto n, auto i, auto d) { wrong += result->get(b, n, i, d) != 0.0; });
        CHECK_EQ(wrong, 0);
      }
      for (int64_t n = 0; n < c.q_heads; ++n) CHECK_EQ(TermTensors::floats(t.terms.d_sink)[n], 0.0f);
      for (int64_t b = 0; b < c.batch; ++b)
        for (int64_t i = 0; i < sequence_of(c, b).q_len; ++i) {
          const bool keys = sequence_of(c, b).kv_len > 0;
          CHECK_EQ(t.stat(t.max, b, 0, i), keys ? static_cast<double>(value) : 0.0);
          CHECK_EQ(t.stat(t.sum, b, 0, i), keys ? 1.0 : 0.0);
        }
    }
  });
}

// Very small, it is still what a row has that sees nothing else.
TEST(rows_that_see_nothing_but_a_sink) {
  for_all("small sink", sink_cases(), [](const Case& c, int32_t dtype, const fusedattn_options& options) {
    for (const float value : {0.25f, -300.0f, -1e30f}) {
      const Tensors t(c, dtype);
      set_sink(t, value);
      if (!run_both(t.problem(), options)) return;
      for (int64_t b = 0; b < c.batch; ++b) {
        const Sequence s = sequence_of(c, b);
        for (int64_t i = 0; i < std::min<int64_t>(9, s.q_len) && s.kv_len > 0; ++i) {  // row 9 is the first to see a column
          CHECK_EQ(t.stat(t.max, b, 0, i), static_cast<double>(value));
          CHECK_EQ(t.stat(t.sum, b, 0, i), 1.0);
          CHECK_EQ(t.out.get(packed(c) ? 0 : b, 0, s.q_begin + i, 0), 0.0);
          CHECK_EQ(t.dq.get(packed(c) ? 0 : b, 0, s.q_begin + i, 0), 0.0);
        }
      }
    }
  });
}

TEST(a_sink_of_nan_stays_in_its_head) {
  for_all("NaN sink", sink_cases(), [](const Case& c, int32_t dtype, const fusedattn_options& options) {
    const Tensors clean(c, dtype), dirty(c, dtype);
    TermTensors::floats(dirty.terms.sink)[0] = NAN;
    if (!run_both(clean.problem(), options) || !run_both(dirty.problem(), options)) return;
    const auto others = [](auto, auto n, auto) { return n != 0; };
    CHECK_EQ(differing(dirty, dirty.out, clean.out, others), 0);
    CHECK_EQ(differing(dirty, dirty.dq, clean.dq, others), 0);
    CHECK(std::isnan(dirty.out.get(0, 0, c.q_len - 10, 0)));
    CHECK(std::isnan(TermTensors::floats(dirty.terms.d_sink)[0]));
    CHECK_EQ(TermTensors::floats(dirty.terms.d_sink)[1], TermTensors::floats(clean.terms.d_sink)[1]);
  });
}

// The maximum of a row of one column is its capped score: right relative to itself, from nothing to far above the cap. Rounding of the
// queries' factor, of the cap and of the units is beside that of tanh.
TEST(a_capped_score_is_right_relative_to_itself) {
  for (const double cap : {1e-18, 0.3, 50.0, 1e9, 1e18}) {
    const Case c{.name = "cap", .q_len = 1500, .kv_len = 1, .dim = 1, .dim_v = 1, .scale = 1.0, .terms = {.softcap = cap}};
    for_all("cap" + std::to_string(cap), {c}, [&](const Case&, int32_t dtype, const fusedattn_options& options) {
      const Tensors t(c, dtype);
      if (dtype != FUSEDATTN_FLOAT32) return;
      const double stored = static_cast<double>(static_cast<float>(cap));
      t.k.set(0, 0, 0, 0, 1.0);
      for (int64_t i = 0; i < c.q_len; ++i)
        t.q.set(0, 0, i, 0, cap * (i % 2 ? -1.0 : 1.0) * std::exp2(static_cast<double>(i) / 40 - 30));
      const fusedattn_problem problem = t.problem();
      CHECK(succeeds(fusedattn_forward(&problem, &options)));
      for (int64_t i = 0; i < c.q_len; ++i)
        CHECK_NEAR(t.stat(t.max, 0, 0, i) / (stored * std::tanh(t.q.get(0, 0, i, 0) / stored)), 1.0, 6e-7);
    });
  }
}

TEST(any_number_of_threads_gives_the_same_bits) {
  for_all("threads", term_contract_cases(), [](const Case& c, int32_t dtype, fusedattn_options options) {
    const Tensors one(c, dtype);
    if (!run_both(one.problem(), options)) return;
    for (const int32_t threads : {2, 3, 7}) {
      const Tensors many(c, dtype);
      options.threads = threads;
      if (run_both(many.problem(), options)) check_same_results(many, one);
    }
  });
}

TEST_MAIN()
