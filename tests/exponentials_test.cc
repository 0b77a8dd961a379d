// exponentials_test.cc: 2^x of a float32 forward is as exact as float32 down to the smallest probabilities, and then 0, whatever a lane makes it of.
#include "everywhere.h"

using namespace fusedattn::tests;

// Row i gives its first key the score 0, the one that counts -d, d from 0 to 90, and all others -200, which weigh nothing.
TEST(exponentials_are_exact_to_float32) {
  constexpr int64_t kRows = 9000;
  const Case base{.name = "two keys", .q_len = kRows, .kv_len = 2, .dim = 2, .dim_v = 1, .scale = 1.0};
  Case more = base;
  more.name = "blocks of keys", more.kv_len = 1300;
  for (const std::string& lane : runnable_lanes("exponentials"))
    for (const Case& c : {base, more}) {
      const Tensors t(c, FUSEDATTN_FLOAT32);
      const int64_t counts = c.kv_len > 2 ? 1201 : 1;
      t.q.each([&](auto b, auto n, auto i, auto d) { t.q.set(b, n, i, d, d == 0 ? 90.0 * std::pow(static_cast<double>(i) / kRows, 2.0) : 1.0); });
      t.k.each([&](auto b, auto n, auto j, auto d) { t.k.set(b, n, j, d, d == 0 ? (j == counts ? -1.0 : 0.0) : (j == counts || j == 0 ? 0.0 : -200.0)); });
      t.v.each([&](auto b, auto n, auto j, auto d) { t.v.set(b, n, j, d, j == counts ? 1.0 : 0.0); });
      const fusedattn_problem problem = t.problem();
      const fusedattn_options options = options_for(lane.c_str());
      if (!succeeds(fusedattn_forward(&problem, &options))) return;
      t.out.each([&](auto b, auto n, auto i, auto d) {
        const double score = t.q.get(b, n, i, 0), weight = std::exp(-score), expected = weight / (1.0 + weight);
        if (score > 88.0) CHECK_EQ(t.out.get(b, n, i, d), 0.0);
        if (score > 87.3) return;  // subnormal, which some processors keep
        // 2^x, the sum and the division by it; and the rounding of x = -d log2(e), a product of two rounded factors.
        const double allowed = expected * (5e-7 + 2e-7 * score), off = std::abs(t.out.get(b, n, i, d) - expected);
        if (!(off <= allowed)) check::complain(__FILE__, __LINE__, lane + ", " + c.name + ", d = " + std::to_string(score) + ": off by " + std::to_string(off / expected * 1e7) + "e-7");
      });
    }
}

TEST_MAIN()
