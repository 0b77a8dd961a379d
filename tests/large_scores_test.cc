// large_scores_test.cc: equal scores give equal probabilities, however large they are, the only score of a row has no gradient, and a backward has the
// weights of its forward.
#include "everywhere.h"
#include "golden.h"

using namespace fusedattn::tests;

namespace {

void fill_constant(const Tensor& t, double value) {
  t.each([&](auto b, auto n, auto i, auto d) { t.set(b, n, i, d, value); });
}

void check_equal(const char* what, const Tensor& have, const Tensor& want) {
  want.each([&](auto b, auto n, auto i, auto d) {
    const double expected = want.get(b, n, i, d), allowed = half_ulp(want.dtype, expected) * 2 + 1e-5;
    if (!(std::abs(have.get(b, n, i, d) - expected) <= allowed)) check::complain(__FILE__, __LINE__, what);
  });
}

}  // namespace

// Queries and keys of 240 each: scores of 240 * 240 * dim * scale, up to 1e13, against scores of 0.
TEST(equal_scores_of_any_size) {
  for_all("equal scores", contract_cases(), [](Case c, int32_t dtype, const fusedattn_options& options) {
    const Tensors zero(c, dtype);
    fill_constant(zero.q, 0.0);
    if (!run_both(zero.problem(), options)) return;
    for (const double scale : {1.0, 1e3, 1e6, -1e3}) {
      c.scale = scale;
      const Tensors large(c, dtype);
      fill_constant(large.q, 240.0), fill_constant(large.k, 240.0);
      if (!run_both(large.problem(), options)) return;
      check_equal("out", large.out, zero.out);
      check_equal("sum", large.sum, zero.sum);
      check_equal("dv", large.dv, zero.dv);
    }
  });
}

// Its weight is 1 but for the rounding of the score and of the maximum, which differ.
TEST(a_key_alone_gives_its_score_no_gradient) {
  std::vector<Case> cases;
  for (const int64_t rows : {1, 5, 9, 40}) {
    const std::string name = std::to_string(rows);
    cases.push_back({.name = name, .batch = 50, .q_len = rows, .kv_len = 1, .dim = 16, .dim_v = 16, .scale = 3.0});
    cases.push_back({.name = name + " of many", .batch = 9, .q_len = rows, .kv_len = rows, .dim = 21, .dim_v = 33, .top_left = {0, 0}, .scale = 3.0});
  }
  for_all("alone", cases, [](const Case& c, int32_t dtype, const fusedattn_options& options) {
    if (dtype == FUSEDATTN_FLOAT32) return;  // delta comes from out there
    const Tensors t(c, dtype);
    if (!run_both(t.problem(), options)) return;
    for (const Tensor* gradient : {&t.dq, &t.dk}) {
      gradient->each([&](auto b, auto n, auto i, auto d) { CHECK(gradient->get(b, n, i, d) == 0.0); });
    }
  });
}

// A backward sums scores up as the forward did: where products of pairs take the numbers as they are and the scale is a power of two, their rounding
// cancels against that of the maximum. The other lanes round the scaled queries.
TEST(weights_of_a_backward_are_those_of_the_forward) {
  const Case c{.name = "1e5", .q_len = 66, .kv_len = 576, .dim = 64, .dim_v = 64, .scale = 0.125};
  for (const std::string& lane : runnable_lanes("weights")) {
    const Tensors t(c, FUSEDATTN_BFLOAT16);
    t.q.each([&](auto b, auto n, auto i, auto d) { t.q.set(b, n, i, d, 1e5 * t.q.get(b, n, i, d)); });
    const std::vector<GoldenHead> golden = golden_of(t);
    if (!run_both(t.problem(), options_for(lane.c_str()))) return;
    const Matrix want = golden_gradients(t, 0, 0, golden[0]).grad.dv;
    double off = 0.0, all = 0.0;
    t.dv.each([&](auto b, auto n, auto j, auto d) {
      off += std::pow(t.dv.get(b, n, j, d) - want.row(j)[d], 2.0), all += std::pow(want.row(j)[d], 2.0);
    });
    const double allowed = lane.find("bf16") != std::string::npos ? 4e-3 : 4e-2;
    if (!(std::sqrt(off / all) <= allowed)) check::complain(__FILE__, __LINE__, lane + ": dv off by " + std::to_string(std::sqrt(off / all)));
  }
}

TEST(a_scale_that_leaves_float32_is_refused) {
  const Case c{.name = "scale", .q_len = 1, .kv_len = 1, .dim = 1, .dim_v = 1};
  for (const double scale : {2.4e38, -1e300, static_cast<double>(INFINITY), static_cast<double>(NAN)}) {
    fusedattn_problem problem = Tensors(c, FUSEDATTN_FLOAT32).problem();
    problem.scale = scale;
    CHECK(fusedattn_forward(&problem, nullptr) == FUSEDATTN_INVALID_ARGUMENT);
    CHECK(std::string(fusedattn_last_error()).find("scale is ") == 0);
  }
}

TEST_MAIN()
