// merge_formula_test.cc: joining parts row by row against the formula in double: known answers, special values, every order of
// the statistics, log-sum-exps, threads, on every lane.
#include <array>
#include <bit>
#include <limits>

#include "everywhere.h"
#include "reference/merge.h"

using namespace fusedattn::tests;
using fusedattn::reference::Weighed;

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN(), kInf = std::numeric_limits<double>::infinity();

// How the statistics of a part lie: [batch, heads, rows, lanes]; packed [rows, heads, lanes]; packed in blocks [heads, q_len, lanes].
enum class Order { rows_inside, heads_inside, blocks };

struct Sizes {
  int64_t batch = 1, heads = 1, rows = 1, dim = 1;
  int32_t lanes = 1;
  Order order = Order::rows_inside;
  Layout layout = Layout::bnsd;
  std::vector<int64_t> ends{};  // packed
};

struct Part {
  Sizes z;
  Tensor out;
  std::vector<float> max, sum;

  Part(const Sizes& z, int32_t dtype)
      : z(z), out(dtype, {z.ends.empty() ? z.batch : 1, z.heads, z.rows, z.dim}, z.layout) {
    const auto count = static_cast<std::size_t>((z.ends.empty() ? z.batch : 1) * z.heads * z.rows * z.lanes);
    max.assign(count, 0.0f), sum.assign(count, 0.0f);
  }
  fusedattn_stats stats() const {
    float *const m = const_cast<float*>(max.data()), *const s = const_cast<float*>(sum.data());
    if (z.order == Order::rows_inside) return {m, s, z.heads * z.rows * z.lanes, z.rows * z.lanes, z.lanes, z.lanes, 0};
    return {m, s, z.heads * z.rows * z.lanes, z.lanes, z.heads * z.lanes, z.lanes, z.order == Order::blocks};
  }
  // Where lane 0 of a row lies: of sequence b, or packed of row i of the whole tensor.
  std::size_t at(int64_t b, int64_t n, int64_t i) const {
    int64_t place = (b * z.heads + n) * z.rows + i;
    if (z.order == Order::heads_inside) place = (b * z.rows + i) * z.heads + n;
    if (z.order == Order::blocks) {
      int64_t begin = 0, end = 0;
      for (const int64_t next : z.ends) {
        begin = end, end = next;
        if (i < end) break;
      }
      if (i >= end) begin = end, end = z.rows;
      place = begin * z.heads + n * (end - begin) + i - begin;
    }
    return static_cast<std::size_t>(place * z.lanes);
  }
  // f(b, n, i, at) for every row.
  template <class F>
  void each_row(const F& f) const {
    for (int64_t b = 0; b < out.batch; ++b)
      for (int64_t n = 0; n < z.heads; ++n)
        for (int64_t i = 0; i < z.rows; ++i) f(b, n, i, at(b, n, i));
  }
  // Outputs in (-2, 2), sums in [0.1, 100], maxima in (-30, 30), the same for every order of the statistics.
  void fill(std::uint64_t seed, bool copies = true) {
    out.fill(seed);
    each_row([&](int64_t b, int64_t n, int64_t i, std::size_t place) {
      std::uint64_t bits = seed * 77 + static_cast<std::uint64_t>((b * 1000 + n) * 1000 + i);
      for (int32_t lane = 0; lane < z.lanes; ++lane) {
        if (lane == 0 || !copies)
          for (int k = 0; k < 3; ++k) bits = (bits ^ bits >> 29) * 0xBF58476D1CE4E5B9u + static_cast<std::uint64_t>(lane);
        const auto to = place + static_cast<std::size_t>(lane);
        max[to] = static_cast<float>(static_cast<double>(bits & 0xFFFF) / 1092.0 - 30.0);
        sum[to] = static_cast<float>(0.1 + static_cast<double>(bits >> 20 & 0xFFFF) / 656.0);
      }
    });
  }
};

struct Terms {
  int32_t special = FUSEDATTN_MERGE_FORMULA, log_sum_exp = 0;
};

fusedattn_status join(const std::vector<const Part*>& parts, const Part& result, const fusedattn_options& options, Terms terms = {}) {
  std::vector<fusedattn_partial> partials;
  for (const Part* part : parts) partials.push_back({part->out.view(), part->stats()});
  const Sizes& z = result.z;
  const fusedattn_merge_problem problem{sizeof problem, result.out.dtype, static_cast<int32_t>(parts.size()),
                                        z.ends.empty() ? z.batch : static_cast<int64_t>(z.ends.size()), z.heads, z.rows, z.dim,
                                        partials.data(), {result.out.view(), result.stats()},
                                        z.ends.empty() ? nullptr : z.ends.data(), terms.special, terms.log_sum_exp};
  return fusedattn_merge(&problem, &options);
}

double ulp(double value) { return 2.0 * half_ulp(FUSEDATTN_FLOAT32, value); }

// NaN where the formula has it; otherwise within a tolerance.
void check_like(const char* what, double have, double want, double tolerance) {
  const bool good = std::isnan(want) ? std::isnan(have) : have == want || std::abs(have - want) <= tolerance;
  if (!good) check::complain(__FILE__, __LINE__, check::two(what, have, want));
}

// Every number of a result against the formula: max exact, sum within 8 ulp, float32 outputs within 16 ulp of the largest input, 16-bit
// ones half a unit of their own more.
void check_rows(const std::vector<const Part*>& parts, const Part& result, Terms terms = {}) {
  result.each_row([&](int64_t b, int64_t n, int64_t i, std::size_t place) {
    Weighed first;
    for (int32_t lane = result.z.lanes - 1; lane >= 0; --lane) {
      std::vector<double> maxima, sums;
      for (const Part* part : parts) {
        const std::size_t from = part->at(b, n, i) + static_cast<std::size_t>(part->z.lanes == result.z.lanes ? lane : 0);
        maxima.push_back(part->max[from]), sums.push_back(part->sum[from]);
      }
      first = terms.special == FUSEDATTN_MERGE_SAFE ? fusedattn::reference::weigh(maxima, sums)
                                                    : fusedattn::reference::weigh_by_formula(maxima, sums);
      const std::size_t at = place + static_cast<std::size_t>(lane);
      check_like("max", result.max[at], first.max, 0.0);
      check_like("sum", result.sum[at], first.sum, 8 * ulp(first.sum));
    }
    for (double& weight : first.weights) weight = std::abs(weight) <= 0x1p-150 ? 0.0 : weight;  // in float32
    for (int64_t d = 0; d < result.z.dim; ++d) {
      double want = 0.0, largest = 0.0;
      for (std::size_t p = 0; p < parts.size(); ++p) {
        const double value = parts[p]->out.get(b, n, i, d);
        if (first.weights[p] != 0.0 || terms.special == FUSEDATTN_MERGE_FORMULA) want += value * first.weights[p];
        if (std::isfinite(value)) largest = std::max(largest, std::abs(value));
      }
      const double own = std::isfinite(want) ? half_ulp(result.out.dtype, want) : 0.0;
      check_like("out", result.out.get(b, n, i, d), want, 16 * ulp(largest) + (result.out.dtype == FUSEDATTN_FLOAT32 ? 0.0 : own));
    }
  });
}

// body(options, dtype) on every lane in every type, as a test of its own.
template <class Body>
void everywhere(const char* name, const Body& body) {
  for (const std::string& lane : runnable_lanes(name))
    for (const int32_t dtype : kTypes)
      check::run(std::string(name) + "/" + format_of(dtype).name + "/" + lane, [&] { body(options_for(lane.c_str()), dtype); });
}

struct Answer {
  float max_p, sum_p;
  std::array<float, 4> out_p;
  float max_c, sum_c;
  std::array<float, 4> out_c;
  double max, sum;
  std::array<double, 4> out;
};
const Answer kAnswers[] = {
    {1, 2, {1, -2, 0.5f, 4}, 3, 0.5f, {0.25f, 8, -1, 0}, 3, 0.770670566, {0.513410767, 4.48785644, -0.473178466, 1.40485742}},
    {-5, 100, {1, 2, 3, 4}, -5, 100, {3, 2, 1, 0}, -5, 200, {2, 2, 2, 2}},
    {-FLT_MAX, 7, {9, 9, 9, 9}, 0.25f, 3, {1, 2, 3, 4}, 0.25, 3, {1, 2, 3, 4}},
    {0, 1, {1, 1, 1, 1}, 200, 1, {2, 2, 2, 2}, 200, 1, {2, 2, 2, 2}},
    {-INFINITY, 0, {0, 0, 0, 0}, 0.5f, 2, {1, 2, 3, 4}, 0.5, 2, {1, 2, 3, 4}}};

bool same_bytes(const Part& a, const Part& b) {
  const auto bytes = [](const std::vector<float>& x) { return std::string(reinterpret_cast<const char*>(x.data()), x.size() * sizeof x[0]); };
  return a.out.bytes() == b.out.bytes() && bytes(a.max) == bytes(b.max) && bytes(a.sum) == bytes(b.sum);
}

// Orders, lanes and layouts; every one reaches whole vectors and remainders.
std::vector<Sizes> shapes() {
  std::vector<Sizes> all;
  for (const int32_t lanes : {1, 8, 3}) {
    all.push_back({2, 3, 70, 37, lanes});
    all.push_back({2, 3, 70, 64, lanes, Order::rows_inside, Layout::sbnd});
    all.push_back({1, 5, 33, 16, lanes, Order::heads_inside, Layout::bsnd, {7, 7, 33}});
    all.push_back({1, 5, 33, 16, lanes, Order::blocks, Layout::bsnd, {0, 2, 5, 20}});  // a sequence without rows; rows of none
  }
  all.push_back({1, 1, 1, 1, 8});
  return all;
}

}  // namespace

TEST(known_answers) {
  everywhere("known_answers", [](const fusedattn_options& options, int32_t dtype) {
    for (const int32_t special : {FUSEDATTN_MERGE_SAFE, FUSEDATTN_MERGE_FORMULA})
      for (const Answer& a : kAnswers) {
        const Sizes z{.dim = 4};
        Part prev(z, dtype), cur(z, dtype), got(z, dtype);
        prev.max[0] = a.max_p, prev.sum[0] = a.sum_p, cur.max[0] = a.max_c, cur.sum[0] = a.sum_c;
        for (std::size_t d = 0; d < 4; ++d) {
          prev.out.set(0, 0, 0, static_cast<int64_t>(d), a.out_p[d]), cur.out.set(0, 0, 0, static_cast<int64_t>(d), a.out_c[d]);
        }
        succeeds(join({&prev, &cur}, got, options, {special, 0}));
        CHECK_EQ(got.max[0], a.max);
        CHECK_NEAR(got.sum[0], a.sum, 1e-6 * a.sum);
        for (std::size_t d = 0; d < 4; ++d)
          CHECK_NEAR(got.out.get(0, 0, 0, static_cast<int64_t>(d)), a.out[d], 1e-6 * std::abs(a.out[d]) + (dtype ? half_ulp(dtype, a.out[d]) : 0));
      }
  });
}

// Every pair of special statistics, with outputs that are not finite as well.
TEST(special_values) {
  const double maxima[] = {-kInf, -FLT_MAX, -5, 0, 3, 200, kInf, kNaN}, sums[] = {0, 1, 0.5, 100, FLT_MAX, -2, kNaN};
  everywhere("special_values", [&](const fusedattn_options& options, int32_t dtype) {
    const Sizes z{.rows = 8 * 7 * 8 * 7, .dim = 19, .lanes = 8};
    Part prev(z, dtype), cur(z, dtype), got(z, dtype);
    prev.out.fill(1), cur.out.fill(2);
    std::size_t row = 0;
    for (const double max_p : maxima)
      for (const double sum_p : sums)
        for (const double max_c : maxima)
          for (const double sum_c : sums) {
            for (std::size_t lane = 0; lane < 8; ++lane) {
              prev.max[row * 8 + lane] = static_cast<float>(max_p), prev.sum[row * 8 + lane] = static_cast<float>(sum_p);
              cur.max[row * 8 + lane] = static_cast<float>(max_c), cur.sum[row * 8 + lane] = static_cast<float>(sum_c);
            }
            const auto i = static_cast<int64_t>(row++);
            const std::uint32_t infinite = dtype == FUSEDATTN_FLOAT32 ? 0x7f800000u : dtype == FUSEDATTN_BFLOAT16 ? 0x7f80u : 0x7c00u;
            const std::uint32_t undefined = infinite | infinite >> 1;
            std::memcpy(prev.out.at(0, 0, i, 0), &infinite, format_of(dtype).bytes);
            std::memcpy(cur.out.at(0, 0, i, 18), &undefined, format_of(dtype).bytes);
          }
    for (const int32_t special : {FUSEDATTN_MERGE_SAFE, FUSEDATTN_MERGE_FORMULA}) {
      succeeds(join({&prev, &cur}, got, options, {special, 0}));
      check_rows({&prev, &cur}, got, {special, 0});
    }
  });
}

TEST(rows_in_every_order) {
  everywhere("rows_in_every_order", [](const fusedattn_options& options, int32_t dtype) {
    for (const Sizes& z : shapes())
      for (const bool copies : {true, false}) {
        Part a(z, dtype), b(z, dtype), c(z, dtype), got(z, dtype), swapped(z, dtype);
        a.fill(1, copies), b.fill(2, copies), c.fill(3, copies);
        succeeds(join({&a, &b}, got, options));
        check_rows({&a, &b}, got);
        succeeds(join({&b, &a}, swapped, options));
        CHECK(got.max == swapped.max && got.sum == swapped.sum);
#if defined(__has_builtin)
#if __has_builtin(__builtin_assoc_barrier)
        CHECK(same_bytes(got, swapped));
#endif
#endif
        succeeds(join({&a, &b, &c}, got, options));
        check_rows({&a, &b, &c}, got);
        succeeds(join({&a}, got, options));
        CHECK(same_bytes(got, a));
        succeeds(join({&a, &b}, got, options));
        succeeds(join({&a, &b}, b, options));
        CHECK(same_bytes(b, got));
      }
  });
}

// A part with one number a row beside one with eight copies, joined into four.
TEST(parts_of_other_lanes) {
  Part one({.rows = 20, .dim = 8, .lanes = 1}, FUSEDATTN_FLOAT32), eight({.rows = 20, .dim = 8, .lanes = 8}, FUSEDATTN_FLOAT32);
  Part four({.rows = 20, .dim = 8, .lanes = 4}, FUSEDATTN_FLOAT32);
  one.fill(1), eight.fill(2, false);
  succeeds(join({&one, &eight}, four, options_for(nullptr)));
  check_rows({&one, &eight}, four);
}

TEST(blocks_hold_what_token_order_holds) {
  Sizes z{1, 5, 33, 16, 8, Order::blocks, Layout::bsnd, {0, 2, 2, 5, 33}};
  Part a(z, FUSEDATTN_FLOAT32), b(z, FUSEDATTN_FLOAT32), got(z, FUSEDATTN_FLOAT32);
  z.order = Order::heads_inside;
  Part c(z, FUSEDATTN_FLOAT32), d(z, FUSEDATTN_FLOAT32), want(z, FUSEDATTN_FLOAT32);
  a.fill(1), b.fill(2), c.fill(1), d.fill(2);
  succeeds(join({&a, &b}, got, options_for(nullptr)));
  succeeds(join({&c, &d}, want, options_for(nullptr)));
  CHECK(got.out.bytes() == want.out.bytes());
  got.each_row([&](int64_t s, int64_t n, int64_t i, std::size_t at) {
    CHECK_EQ(got.max[at], want.max[want.at(s, n, i)]);
    CHECK_EQ(got.sum[at + 7], want.sum[want.at(s, n, i) + 7]);
  });
}

// max holds max + log(sum): the same weights, and the sum of a part is not looked at.
TEST(log_sum_exps) {
  everywhere("log_sum_exps", [](const fusedattn_options& options, int32_t dtype) {
    const Sizes z{1, 2, 90, 24};
    Part a(z, dtype), b(z, dtype), ones_a(z, dtype), ones_b(z, dtype), got(z, dtype), want(z, dtype);
    a.fill(1), b.fill(2), ones_a.fill(1), ones_b.fill(2);
    std::fill(ones_a.sum.begin(), ones_a.sum.end(), 1.0f), std::fill(ones_b.sum.begin(), ones_b.sum.end(), 1.0f);
    for (Part* part : {&a, &ones_a}) part->max[5] = part->max[6] = part->max[7] = -INFINITY, part->max[8] = NAN, part->max[10] = INFINITY;
    for (Part* part : {&b, &ones_b}) part->max[6] = -INFINITY, part->max[7] = -FLT_MAX, part->max[9] = NAN;
    succeeds(join({&a, &b}, got, options, {FUSEDATTN_MERGE_SAFE, 1}));
    succeeds(join({&ones_a, &ones_b}, want, options, {FUSEDATTN_MERGE_FORMULA, 0}));
    for (std::size_t i = 0; i < got.max.size(); ++i) {
      const double lse = i == 6 ? -kInf : want.max[i] + std::log(static_cast<double>(want.sum[i]));
      check_like("log-sum-exp", got.max[i], lse, 2 * ulp(want.max[i]) + 1e-6);
      CHECK_EQ(got.sum[i], 0.0f);
    }
    got.out.each([&](int64_t s, int64_t n, int64_t i, int64_t d) {
      const double expected = n == 0 && i == 6 ? 0.0 : n == 0 && (i == 5 || i == 7) ? b.out.get(s, n, i, d) : want.out.get(s, n, i, d);
      check_like("out", got.out.get(s, n, i, d), expected, 0.0);
    });
  });
}

TEST(threads_change_no_bit) {
  for (const Layout layout : {Layout::bnsd, Layout::sbnd}) {
    const Sizes z{2, 5, 700, 20, 8, Order::rows_inside, layout};
    Part a(z, FUSEDATTN_BFLOAT16), b(z, FUSEDATTN_BFLOAT16), one(z, FUSEDATTN_BFLOAT16), many(z, FUSEDATTN_BFLOAT16);
    a.fill(1), b.fill(2);
    succeeds(join({&a, &b}, one, options_for(nullptr, 1)));
    for (const int32_t threads : {2, 3, 7}) {
      succeeds(join({&a, &b}, many, options_for(nullptr, threads)));
      CHECK(same_bytes(one, many));
    }
  }
}

// A result that is written around the caches, against the same result written over a part.
TEST(large_results) {
  for (const int32_t dtype : {FUSEDATTN_FLOAT32, FUSEDATTN_BFLOAT16}) {
    const std::size_t bytes = format_of(dtype).bytes;
    const Sizes z{1, 1, static_cast<int64_t>((std::size_t{65} << 20) / (128 * bytes)), 128};
    Part a(z, dtype), b(z, dtype), got(z, dtype);
    const std::size_t words = static_cast<std::size_t>(a.out.elements) * bytes / 4;
    for (std::size_t i = 0; i < words; ++i) {
      const std::uint32_t bits = 0x3f003f00u + (static_cast<std::uint32_t>(i) * 2654435761u >> 24) * 0x10001u;
      std::memcpy(a.out.memory.data() + 4 * i, &bits, 4);
      const std::uint32_t other = bits ^ 0x00550033u;
      std::memcpy(b.out.memory.data() + 4 * i, &other, 4);
    }
    for (std::size_t i = 0; i < a.max.size(); ++i) a.max[i] = static_cast<float>(i % 7), b.max[i] = static_cast<float>(i % 5), a.sum[i] = b.sum[i] = 2.0f;
    succeeds(join({&a, &b}, got, options_for(nullptr, 2)));
    succeeds(join({&a, &b}, a, options_for(nullptr, 1)));
    CHECK(std::memcmp(a.out.memory.data(), got.out.memory.data(), 4 * words) == 0);
    CHECK(a.max == got.max && a.sum == got.sum);
  }
}

// A sum of 2^100 against one of 2^-126 shows the exponential itself: within 1 ulp, subnormal ones included.
TEST(the_exponential) {
  for (const std::string& lane : runnable_lanes("the_exponential")) {
    const Sizes z{.rows = 1 << 18};
    Part top(z, FUSEDATTN_FLOAT32), below(z, FUSEDATTN_FLOAT32), got(z, FUSEDATTN_FLOAT32);
    for (std::size_t i = 0; i < top.max.size(); ++i) {
      top.sum[i] = FLT_MIN, below.sum[i] = 0x1p100f;
      below.max[i] = -104.0f * static_cast<float>(i) / static_cast<float>(z.rows);
    }
    const fusedattn_options options = options_for(lane.c_str());
    succeeds(join({&top, &below}, got, options));
    double worst = 0.0;
    for (std::size_t i = 0; i < top.max.size(); ++i) {
      const double want = std::exp(static_cast<double>(below.max[i]));
      worst = std::max(worst, std::abs(std::ldexp(static_cast<double>(got.sum[i]), -100) - want) / ulp(want));
    }
    if (worst > 1.0) check::complain(__FILE__, __LINE__, lane + ": off by " + std::to_string(worst) + " ulp");
  }
}

TEST_MAIN()
