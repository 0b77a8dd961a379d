// contracts_test.cc: promises about bits and memory. Layouts, batches, scratch, guard pages and gaps change nothing.
#include <cmath>

#include "arithmetic.h"
#include "everywhere.h"

using namespace fusedattn::tests;

namespace {

// Sequence b of a case as a case of its own.
Case alone(const Case& c, int64_t b) {
  const Sequence s = sequence_of(c, b);
  Case one = c;
  one.batch = 1, one.q_len = s.q_len, one.kv_len = s.kv_len, one.q_ends.clear(), one.kv_ends.clear();
  if (!c.bands.empty()) one.bands = {band_of(c, b)};
  if (!c.prefix.empty()) one.prefix = {prefix_of(c, b)};
  one.bytes.whole = one.stats.blocks = false;
  if (present(c.terms.dropout)) one.terms.dropout.bits = true;  // elsewhere in the stream
  if (c.terms.bias.form == BiasForm::blocks) one.terms.bias.form = BiasForm::strided;
  if (c.terms.alibi.first_sequence && b > 0) one.terms.alibi.q_start = one.terms.alibi.kv_start = 0;
  return one;
}

// The score terms of sequence b, and its mask bytes, for the case of that sequence alone.
void copy_terms(const Tensors& whole, int64_t b, const Tensors& one, fusedattn_problem& problem) {
  const Case& c = whole.c;
  const Sequence s = sequence_of(c, b);
  const fusedattn_mask& mask = whole.problem().mask;
  const int64_t begin = c.bytes.whole ? s.q_begin * mask.row_stride + s.kv_begin : b * mask.batch_stride;
  if (c.bytes.present) {
    problem.mask.bytes = mask.bytes + begin;
    problem.mask.batch_stride = 0, problem.mask.head_stride = mask.head_stride, problem.mask.row_stride = mask.row_stride;
  }
  if (c.terms.alibi.present) {
    problem.alibi.slopes = whole.problem().alibi.slopes + (c.terms.alibi.per_sequence ? b * c.q_heads : 0);
  }
  const auto pairs = [&](const auto& visit) {
    for (int64_t n = 0; n < c.q_heads; ++n)
      for (int64_t i = 0; i < s.q_len; ++i)
        for (int64_t j = 0; j < s.kv_len; ++j) visit(n, i, j);
  };
  if (present(c.terms.bias))
    pairs([&](auto n, auto i, auto j) {
      const std::size_t unit = format_of(one.terms.bias.dtype).bytes;
      if (sees(c, b, n, i, j)) std::memcpy(one.terms.bias_at(0, n, i, j), whole.terms.bias_at(b, n, i, j), unit);
    });
  if (!present(c.terms.dropout)) return;
  std::fill_n(one.terms.bits.data(), one.terms.bits.size(), std::byte{0});
  pairs([&](auto n, auto i, auto j) {
    const auto e = static_cast<std::size_t>(dropout_element(one.c, 0, n, i, j));
    if (whole.terms.keeps(b, n, i, j)) one.terms.bits.data()[e / 8] |= static_cast<std::byte>(1 << e % 8);
  });
}

void check_same_statistics(const char* what, const Tensors& whole, const Tensor& a, int64_t b, const Tensors& one,
                           const Tensor& other) {
  for (int64_t n = 0; n < one.c.q_heads; ++n)
    for (int64_t i = 0; i < one.c.q_len; ++i)
      for (int64_t lane = 0; lane < one.c.stats.lanes; ++lane)
        if (whole.stat(a, b, n, i, lane) != one.stat(other, 0, n, i, lane))
          return check::complain(__FILE__, __LINE__, std::string(what) + ": differs from the batch");
}

// Copies the rows from `begin` of sequence `batch` into the whole of `to`.
void copy_rows(const Tensor& from, int64_t batch, int64_t begin, const Tensor& to) {
  to.each([&](auto, auto n, auto i, auto d) { to.set(0, n, i, d, from.get(batch, n, begin + i, d)); });
}

void check_same_rows(const char* what, const Tensor& whole, int64_t batch, int64_t begin, const Tensor& one) {
  int64_t differing = 0;
  one.each([&](auto, auto n, auto i, auto d) {
    differing += std::memcmp(one.at(0, n, i, d), whole.at(batch, n, begin + i, d), format_of(one.dtype).bytes) != 0;
  });
  if (differing > 0) check::complain(__FILE__, __LINE__, std::string(what) + ": differs from the batch");
}

// Every byte that is no element still reads 0xFF.
void check_gaps(const char* what, const Tensor& tensor) {
  std::vector<bool> is_element(tensor.memory.size(), false);
  tensor.each([&](auto b, auto n, auto i, auto d) {
    const auto first = static_cast<std::size_t>(tensor.at(b, n, i, d) - tensor.memory.data());
    for (std::size_t e = 0; e < format_of(tensor.dtype).bytes; ++e) is_element[first + e] = true;
  });
  for (std::size_t e = 0; e < is_element.size(); ++e) {
    if (!is_element[e] && tensor.memory.data()[e] != std::byte{0xFF}) {
      return check::complain(__FILE__, __LINE__, std::string(what) + ": written between its rows");
    }
  }
}

// Plans and runs one direction in scratch that holds NaN and ends where a forbidden page begins.
void run_in_poison(const Tensors& t, int32_t direction, const fusedattn_options& options) {
  const fusedattn_problem problem = t.problem();
  fusedattn_plan* plan = nullptr;
  if (!succeeds(fusedattn_plan_create(&problem, direction, &options, &plan))) return;
  const std::size_t bytes = fusedattn_plan_workspace(plan);
  const Memory scratch((bytes + 63) / 64 * 64, Place::before_guard);
  succeeds(fusedattn_plan_run(plan, nullptr, scratch.data(), bytes));
  fusedattn_plan_destroy(plan);
}

}  // namespace

TEST(layouts_give_the_same_bits) {
  for_all("layouts", [](Case c, int32_t dtype, const fusedattn_options& options) {
    c.layout = Layout::bnsd;
    const Tensors first(c, dtype);
    if (!run_both(first.problem(), options)) return;
    for (const Layout layout : {Layout::bsnd, Layout::sbnd, Layout::gaps}) {
      c.layout = layout;
      const Tensors t(c, dtype);
      if (run_both(t.problem(), options)) check_same_results(t, first);
    }
  });
}

TEST(nothing_is_written_between_rows) {
  for_all("gaps", [](Case c, int32_t dtype, const fusedattn_options& options) {
    c.layout = Layout::gaps;
    const Tensors t(c, dtype);
    if (!run_both(t.problem(), options)) return;
    for (const Tensor* tensor : {&t.out, &t.max, &t.sum, &t.dq, &t.dk, &t.dv, &t.terms.d_bias}) {
      check_gaps("a result", *tensor);
    }
  });
}

TEST(guard_pages_are_not_touched) {
  for_all("guards", [](const Case& c, int32_t dtype, const fusedattn_options& options) {
    const Tensors plain(c, dtype);
    if (!run_both(plain.problem(), options)) return;
    for (const Place place : {Place::before_guard, Place::after_guard}) {
      const Tensors t(c, dtype, place);
      const Memory bytes(t.bytes.size(), place);
      std::copy(t.bytes.begin(), t.bytes.end(), reinterpret_cast<std::uint8_t*>(bytes.data()));
      fusedattn_problem problem = t.problem();
      if (c.bytes.present) problem.mask.bytes = reinterpret_cast<const std::uint8_t*>(bytes.data());
      if (run_both(problem, options)) check_same_results(t, plain);
    }
  });
}

TEST(poisoned_scratch_changes_nothing) {
  for_all("poison", [](const Case& c, int32_t dtype, const fusedattn_options& options) {
    const Tensors plain(c, dtype), poisoned(c, dtype);
    if (!run_both(plain.problem(), options)) return;
    run_in_poison(poisoned, FUSEDATTN_FORWARD, options);
    run_in_poison(poisoned, FUSEDATTN_BACKWARD, options);
    check_same_results(poisoned, plain);
  });
}

TEST(a_sequence_alone_gives_the_bits_it_has_in_a_batch) {
  for_all("alone", [](const Case& c, int32_t dtype, const fusedattn_options& options) {
    const Tensors whole(c, dtype);
    if (!run_both(whole.problem(), options)) return;
    for (int64_t b = 0; b < c.batch; ++b) {
      const Sequence s = sequence_of(c, b);
      const int64_t batch = packed(c) ? 0 : b;
      Tensors one(alone(c, b), dtype);
      copy_rows(whole.q, batch, s.q_begin, one.q), copy_rows(whole.d_out, batch, s.q_begin, one.d_out);
      copy_rows(whole.k, batch, s.kv_begin, one.k), copy_rows(whole.v, batch, s.kv_begin, one.v);
      fusedattn_problem problem = one.problem();
      copy_terms(whole, b, one, problem);
      if (!run_both(problem, options)) return;
      check_same_rows("out", whole.out, batch, s.q_begin, one.out);
      check_same_statistics("max", whole, whole.max, b, one, one.max);
      check_same_statistics("sum", whole, whole.sum, b, one, one.sum);
      check_same_rows("dq", whole.dq, batch, s.q_begin, one.dq);
      check_same_rows("dk", whole.dk, batch, s.kv_begin, one.dk);
      check_same_rows("dv", whole.dv, batch, s.kv_begin, one.dv);
    }
  });
}

TEST(gradients_that_nobody_wants_may_be_null) {
  for_all("null", [](const Case& c, int32_t dtype, const fusedattn_options& options) {
    const Tensors t(c, dtype);
    if (!run_both(t.problem(), options)) return;
    for (const int wanted : {0, 1, 2, 4, 3, 6}) {
      const Tensors some(c, dtype);
      fusedattn_problem problem = some.problem();
      problem.out = t.problem().out, problem.stats = t.problem().stats;
      if (wanted & 1) problem.d_bias.data = problem.d_sink = nullptr;
      if (!(wanted & 1)) problem.dq.data = nullptr;
      if (!(wanted & 2)) problem.dk.data = nullptr;
      if (!(wanted & 4)) problem.dv.data = nullptr;
      if (!succeeds(fusedattn_backward(&problem, &options))) return;
      if (wanted & 1) CHECK(some.dq.bytes() == t.dq.bytes());
      if (wanted & 2) CHECK(some.dk.bytes() == t.dk.bytes());
      if (wanted & 4) CHECK(some.dv.bytes() == t.dv.bytes());
      if (!(wanted & 1)) CHECK(some.terms.d_bias.bytes() == t.terms.d_bias.bytes());
      if (!(wanted & 1)) CHECK(bytes_of(some.terms.d_sink) == bytes_of(t.terms.d_sink));
    }
  });
}

TEST(statistics_that_nobody_wants_may_be_null) {
  for_all("no statistics", [](const Case& c, int32_t dtype, const fusedattn_options& options) {
    const Tensors with(c, dtype), without(c, dtype);
    fusedattn_problem problem = without.problem();
    problem.stats.max = problem.stats.sum = nullptr;
    if (!run_both(with.problem(), options) || !succeeds(fusedattn_forward(&problem, &options))) return;
    CHECK(without.out.bytes() == with.out.bytes());
  });
}

// Infinities and invalid operations are part of computing rows that see nothing; a program that traps them must not meet ours.
TEST(how_the_caller_rounds_and_flushes_and_what_it_traps_changes_nothing) {
  for_all("arithmetic", contract_cases(), [](const Case& c, int32_t dtype, fusedattn_options options) {
    const Tensors plain(c, dtype);
    if (!run_both(plain.problem(), options)) return;
    for (const int32_t threads : {1, 3}) {
      options.threads = threads;
      const Tensors other(c, dtype);
      const fusedattn_problem problem = other.problem();
      bool done = false, kept = false;
      {
        const UnusualArithmetic caller;
        done = run_both(problem, options), kept = caller.still_set();
      }
      CHECK(kept);
      if (done) check_same_results(other, plain);
    }
  });
}

// Results of float32 and bfloat16 that are subnormal, processors may be told to make 0.
TEST(subnormal_halves_are_numbers) {
  std::vector<Case> cases{{.name = "few rows", .q_len = 5, .kv_len = 1, .dim = 37, .dim_v = 21}};
  cases.push_back({.name = "rows", .q_len = 70, .kv_len = 1, .dim = 37, .dim_v = 21});
  for_all("subnormal", cases, [](const Case& c, int32_t dtype, const fusedattn_options& options) {
    const Tensors t(c, dtype);
    const double value = 5 * std::ldexp(1.0, dtype == FUSEDATTN_FLOAT16 ? -24 : dtype == FUSEDATTN_BFLOAT16 ? -133 : -149);
    t.v.each([&](auto b, auto n, auto i, auto d) { t.v.set(b, n, i, d, value); });
    if (!run_both(t.problem(), options)) return;
    t.out.each([&](auto b, auto n, auto i, auto d) {
      const double out = t.out.get(b, n, i, d);
      CHECK(out == value || (out == 0 && dtype != FUSEDATTN_FLOAT16));
    });
  });
}

TEST_MAIN()
