// large_scores_test.cc: equal scores give equal probabilities, however large they are.
#include "everywhere.h"

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
