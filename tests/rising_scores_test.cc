// rising_scores_test.cc: scores that rise or fall along the columns, so that what rows subtract must follow them, and scores that become
// probabilities in registers: the reference's results, and the same bits whichever way a row went.
#include "everywhere.h"
#include "golden.h"

using namespace fusedattn::tests;

namespace {

// Several blocks of columns and panels beside them, whole strips of rows and a rest.
std::vector<Case> long_cases() {
  const Case base{.name = "uncut", .q_heads = 4, .kv_heads = 2, .q_len = 28, .kv_len = 1700, .dim = 24, .dim_v = 16};
  std::vector<Case> cases{base};
  Case c = base;
  c.name = "causal", c.q_len = 70, c.kv_len = 1300, c.bottom_right = kCausal;
  cases.push_back(c);
  c.name = "window", c.bottom_right = {700, 0};
  cases.push_back(c);
  c = base, c.name = "sink", c.terms.sink = true;
  cases.push_back(c);
  c = base, c.name = "few rows", c.q_len = 2, c.kv_len = 3000;
  cases.push_back(c);
  return cases;
}

// Adds a share of its own to the scores of every row: `step` times as much for every 256 columns, up or down or not at all.
void slope(const Tensors& t, double step) {
  const double shares[] = {1.0, -1.0, 0.5, 0.0, 1.0, -0.25, 0.125};
  t.q.each([&](auto b, auto n, auto i, auto d) {
    if (d == 0) t.q.set(b, n, i, d, shares[(i + n) % 7]);
  });
  t.k.each([&](auto b, auto n, auto j, auto d) {
    if (d == 0) t.k.set(b, n, j, d, step / scale_of(t.c) * std::floor(static_cast<double>(j) / 32.0) / 8.0);
  });
}

// Hides some columns from some rows of every strip, the others from none.
constexpr int64_t kEvery = 5;
void hide_some(Tensors& t) {
  for (std::size_t n = 0; n < t.bytes.size(); ++n) {
    const auto i = static_cast<int64_t>(n) / t.c.kv_len % t.c.q_len, j = static_cast<int64_t>(n) % t.c.kv_len;
    t.bytes[n] = i % kEvery == 2 && j % 7 == 3;
  }
}

}  // namespace

TEST(scores_that_rise_and_fall) {
  for (const double step : {0.4, 8.4, 20.0}) {
    for_all("rise " + std::to_string(step), long_cases(), [&](const Case& c, int32_t dtype, const fusedattn_options& options) {
      const Tensors t(c, dtype);
      slope(t, step);
      const std::vector<GoldenHead> golden = golden_of(t);
      if (!run_both(t.problem(), options)) return;
      const std::string lane = options.lane;
      compare_forward(t, golden, tolerance_of(lane, dtype));
      compare_backward(t, golden, tolerance_of(lane, dtype));
    });
  }
}

// Rows that see everything, or what a band shows them, in strips where others do not: the bits that they have where all do.
TEST(bits_do_not_tell_what_other_rows_see) {
  for (const double step : {0.0, 8.4}) {
    for_all("other rows " + std::to_string(step), long_cases(), [&](Case c, int32_t dtype, const fusedattn_options& options) {
      const Tensors plain(c, dtype);
      c.bytes = {.present = true, .per_sequence = false, .per_head = false};
      Tensors holes(c, dtype);
      hide_some(holes);
      for (const Tensors* t : {&plain, static_cast<const Tensors*>(&holes)}) slope(*t, step);
      if (!run_both(plain.problem(), options) || !run_both(holes.problem(), options)) return;
      for (const auto& [have, want] :
           {std::pair{&holes.out, &plain.out}, std::pair{&holes.max, &plain.max}, std::pair{&holes.sum, &plain.sum}, std::pair{&holes.dq, &plain.dq}})
        want->each([&](auto b, auto n, auto i, auto d) {
          if (i % kEvery != 2) CHECK(have->get(b, n, i, d) == want->get(b, n, i, d));
        });
    });
  }
}

TEST_MAIN()
