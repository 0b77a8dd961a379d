// hidden_nan_test.cc: NaN in a key or value reaches no row to which the column is hidden.
#include "everywhere.h"

using namespace fusedattn::tests;

// A key, value, query or gradient that is hidden from everyone may hold anything.
TEST(what_nobody_sees_may_be_nan) {
  for_all("unseen NaN", [](Case c, int32_t dtype, const fusedattn_options& options) {
    c.bottom_right = {FUSEDATTN_UNBOUNDED,
                      -1};  // the last column of a sequence, and where it is as long, the first row
    const Tensors clean(c, dtype), dirty(c, dtype);
    for (int64_t b = 0; b < c.batch; ++b) {
      const Sequence s = sequence_of(c, b);
      const int64_t batch = packed(c) ? 0 : b, last = s.kv_begin + s.kv_len - 1;
      for (int64_t h = 0; h < c.kv_heads; ++h) {
        for (int64_t d = 0; d < c.dim; ++d) std::memset(dirty.k.at(batch, h, last, d), 0xFF, format_of(dtype).bytes);
        for (int64_t d = 0; d < c.dim_v; ++d) std::memset(dirty.v.at(batch, h, last, d), 0xFF, format_of(dtype).bytes);
      }
    }
    if (run_both(clean.problem(), options) && run_both(dirty.problem(), options)) check_same_results(dirty, clean);
  });
}

// A bias that nobody sees may hold anything: that of hidden pairs, and that between rows.
TEST(a_bias_that_nobody_sees_may_be_nan) {
  for_all("unseen bias", term_contract_cases(), [](const Case& c, int32_t dtype, const fusedattn_options& options) {
    const Tensors clean(c, dtype), dirty(c, dtype);
    const TermTensors& terms = dirty.terms;
    if (!present(c.terms.bias)) return;
    std::vector<bool> seen(static_cast<std::size_t>(terms.bias.elements));
    for (int64_t b = 0; b < c.batch; ++b) {
      const Sequence s = sequence_of(c, b);
      for (int64_t n = 0; n < c.q_heads; ++n)
        for (int64_t i = 0; i < s.q_len; ++i)
          for (int64_t j = 0; j < s.kv_len; ++j)
            if (sees(c, b, n, i, j)) seen[static_cast<std::size_t>(terms.bias_element(b, n, i, j))] = true;
    }
    const std::size_t unit = format_of(terms.bias.dtype).bytes;
    for (std::size_t e = 0; e < seen.size(); ++e)
      if (!seen[e]) std::memset(terms.bias.memory.data() + e * unit, 0xFF, unit);
    CHECK(std::count(seen.begin(), seen.end(), false) > 0 || c.name == "all_terms_long" || c.name == "diagonal");
    if (run_both(clean.problem(), options) && run_both(dirty.problem(), options)) check_same_results(dirty, clean);
  });
}

// A value that one row sees reaches no other row.
TEST(nan_reaches_only_rows_that_see_it) {
  for_all("seen NaN", [](const Case& c, int32_t dtype, const fusedattn_options& options) {
    if (c.name != "causal") return;
    const Tensors clean(c, dtype), dirty(c, dtype);
    for (int64_t d = 0; d < c.dim_v; ++d) {  // seen by the last row of two heads alone
      std::memset(dirty.v.at(0, 0, c.kv_len - 1, d), 0xFF, format_of(dtype).bytes);
    }
    if (!run_both(clean.problem(), options) || !run_both(dirty.problem(), options)) return;
    CHECK(std::isnan(dirty.out.get(0, 0, c.q_len - 1, 0)));
    int64_t differing = 0;
    for (const auto& [a, b] : {std::pair{&clean.out, &dirty.out}, std::pair{&clean.dq, &dirty.dq}}) {
      a->each([&](auto batch, auto n, auto i, auto d) {
        if (i < c.q_len - 1) differing += a->get(batch, n, i, d) != b->get(batch, n, i, d);
      });
    }
    CHECK_EQ(differing, 0);
  });
}

// An infinite key that a cap makes an ordinary weight: 0 times infinity in dq of the rows that see it, and nowhere else.
TEST(an_infinite_key_reaches_dq_of_the_rows_that_see_it) {
  for_all("infinite key", [](Case c, int32_t dtype, const fusedattn_options& options) {
    c.terms.softcap = 2.0, c.terms.bias.before_scale = false;
    const int64_t group = c.q_heads / c.kv_heads;
    for (const double place : {0.0, 0.6}) {
      const Tensors clean(c, dtype), dirty(c, dtype);
      const Sequence s = sequence_of(c, 0);
      const auto column = static_cast<int64_t>(place * static_cast<double>(s.kv_len - 1));
      const std::uint32_t infinite = dtype == FUSEDATTN_FLOAT32 ? 0xff800000u : dtype == FUSEDATTN_BFLOAT16 ? 0xff80u : 0xfc00u;
      std::memcpy(dirty.k.at(0, 0, s.kv_begin + column, 0), &infinite, format_of(dtype).bytes);
      if (!run_both(clean.problem(), options) || !run_both(dirty.problem(), options)) return;
      int64_t wrong = 0;
      dirty.dq.each([&](auto b, auto n, auto row, auto d) {
        const int64_t i = row - s.q_begin;
        const bool reached = b == 0 && n < group && i >= 0 && i < s.q_len && sees(c, 0, n, i, column);
        const double x = dirty.dq.get(b, n, row, d);
        if (reached && d == 0) wrong += std::isfinite(x);
        if (!reached) wrong += x != clean.dq.get(b, n, row, d);
      });
      CHECK_EQ(wrong, 0);
    }
  });
}

TEST_MAIN()
