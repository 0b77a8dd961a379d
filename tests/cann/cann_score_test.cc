// cann_score_test.cc: attention score and gradient, every version of every interface, held to the reference in double.
#include "score_golden.h"

using namespace fusedattn::tests;

namespace {

const Stream& stream() {
  static const Stream the_stream;
  return the_stream;
}

double tolerance(aclDataType dtype) { return dtype == ACL_FLOAT ? 1e-5 : dtype == ACL_FLOAT16 ? 2e-3 : 1.6e-2; }

// The largest error of what was compared, relative to its largest number.
struct Worst {
  double error = 0, size = 1e-30;
  void look(double have, double want) {
    error = std::max(error, std::isnan(have) ? INFINITY : std::abs(have - want)), size = std::max(size, std::abs(want));
  }
  void judge(const char* what, double allowed) const {
    CHECK_THAT(error <= allowed * std::max(size, 0.05), check::two(what, error, size) + " (error, largest)");
  }
};

void compare_forward(const ScoreCase& t, const std::vector<fusedattn::reference::Forward>& golden) {
  const Words& w = t.w;
  Worst out, statistics;
  for (int64_t b = 0; b < batches(w); ++b)
    for (int64_t n = 0; n < w.N1; ++n) {
      const Sequence s = sequence_of(w, b);
      const auto& want = golden[static_cast<std::size_t>(b * w.N1 + n)];
      for (int64_t i = 0; i < s.rows; ++i) {
        for (int64_t d = 0; d < w.Dv; ++d)
          out.look(t.c.attention.get(t.index(b, n, i, d, w.N1, t.q_rows, w.Dv, s.q_begin)), want.out.row(i)[d]);
        const auto at = static_cast<std::size_t>(i);
        for (int64_t lane = 0; lane < 8; ++lane) {
          const double max = t.stat(t.c.max, b, n, i, lane), sum = t.stat(t.c.sum, b, n, i, lane);
          if (want.max[at] == fusedattn::reference::kEmptyMax || want.sum[at] == 0) {
            CHECK_EQ(max, want.max[at]);
            CHECK_EQ(sum, want.sum[at]);
          } else {
            statistics.look(max, want.max[at]), statistics.look(max + std::log(sum), want.max[at] + std::log(want.sum[at]));
          }
        }
      }
    }
  out.judge("attentionOut", tolerance(w.dtype));
  statistics.judge("statistics", 1e-5);
}

struct Sum {
  std::vector<double> numbers;
  explicit Sum(const Array& array) : numbers(static_cast<std::size_t>(array.size())) {}
  double& operator[](int64_t i) { return numbers[static_cast<std::size_t>(i)]; }
  void compare(const char* what, const Array& have, double allowed) const {
    Worst worst;
    for (int64_t i = 0; i < have.size(); ++i) worst.look(have.get(i), numbers[static_cast<std::size_t>(i)]);
    worst.judge(what, allowed);
  }
};

void compare_backward(const ScoreCase& t, const std::vector<fusedattn::reference::Forward>& golden) {
  const Words& w = t.w;
  const ScoreCall& c = t.c;
  Sum dq(c.dq), dk(c.dk), dv(c.dv);
  std::vector<double> dq_rope(static_cast<std::size_t>(w.Dr ? c.dq_rope.size() : 0)),
      dk_rope(static_cast<std::size_t>(w.Dr ? c.dk_rope.size() : 0));
  std::vector<double> dsink(static_cast<std::size_t>(w.N1));
  for (int64_t b = 0; b < batches(w); ++b)
    for (int64_t n = 0; n < w.N1; ++n) {
      const Sequence s = sequence_of(w, b);
      const int64_t h = n / (w.N1 / w.N2);
      fusedattn::reference::Matrix dy(s.rows, w.Dv);
      for (int64_t i = 0; i < s.rows; ++i)
        for (int64_t d = 0; d < w.Dv; ++d) dy.row(i)[d] = c.dy.get(t.index(b, n, i, d, w.N1, t.q_rows, w.Dv, s.q_begin));
      const auto grad = fusedattn::reference::backward(t.head(b, n), golden[static_cast<std::size_t>(b * w.N1 + n)], dy,
                                                       [&](int64_t i, int64_t j) { return t.sees(b, i, j); });
      dsink[static_cast<std::size_t>(n)] += grad.d_sink;
      for (int64_t i = 0; i < s.rows; ++i) {
        for (int64_t d = 0; d < w.D; ++d) dq[t.index(b, n, i, d, w.N1, t.q_rows, w.D, s.q_begin)] += grad.dq.row(i)[d];
        for (int64_t d = 0; d < w.Dr; ++d)
          dq_rope[static_cast<std::size_t>(t.index(b, n, i, d, w.N1, t.q_rows, w.Dr, s.q_begin))] += grad.dq.row(i)[w.D + d];
      }
      for (int64_t j = 0; j < s.columns; ++j) {
        for (int64_t d = 0; d < w.D; ++d) dk[t.index(b, h, j, d, w.N2, t.kv_rows, w.D, s.kv_begin)] += grad.dk.row(j)[d];
        for (int64_t d = 0; d < w.Dr; ++d)
          dk_rope[static_cast<std::size_t>(t.index(b, h, j, d, w.N2, t.kv_rows, w.Dr, s.kv_begin))] += grad.dk.row(j)[w.D + d];
        for (int64_t d = 0; d < w.Dv; ++d) dv[t.index(b, h, j, d, w.N2, t.kv_rows, w.Dv, s.kv_begin)] += grad.dv.row(j)[d];
      }
    }
  const double allowed = 4 * tolerance(w.dtype);
  dq.compare("dq", c.dq, allowed), dk.compare("dk", c.dk, allowed), dv.compare("dv", c.dv, allowed);
  const auto compare = [&](const char* what, const Array& have, const std::vector<double>& want, double bound) {
    Worst worst;
    for (int64_t i = 0; i < have.size(); ++i) worst.look(have.get(i), want[static_cast<std::size_t>(i)]);
    worst.judge(what, bound);
  };
  if (w.Dr) compare("dqRope", c.dq_rope, dq_rope, allowed), compare("dkRope", c.dk_rope, dk_rope, allowed);
  if (w.sink) compare("dsink", c.dsink, dsink, allowed);
  if (c.dpse)
    for (const double value : c.dpse.numbers()) CHECK_EQ(value, 0.0);
}

void answer(const Words& w) {
  check::run(w.name + "/V" + std::to_string(w.version) + "/" + w.layout, [&] {
    ScoreCase t(w);
    std::vector<fusedattn::reference::Forward> golden;
    for (int64_t b = 0; b < batches(w); ++b)
      for (int64_t n = 0; n < w.N1; ++n)
        golden.push_back(fusedattn::reference::attention(t.head(b, n), [&](int64_t i, int64_t j) { return t.sees(b, i, j); }));
    t.c.run(false, stream());
    compare_forward(t, golden);
    if (t.c.pse) t.c.dpse = Array(t.c.pse.dtype(), t.c.pse.shape());
    t.c.run(true, stream());
    compare_backward(t, golden);
  });
}

constexpr int64_t kMax = 2147483647;

const Words kFixed[] = {
    {.name = "plain"},
    {.name = "plain", .layout = "BSND"},
    {.name = "plain", .layout = "BSH"},
    {.name = "plain", .layout = "SBH"},
    {.name = "float16", .layout = "BSH", .dtype = ACL_FLOAT16},
    {.name = "bfloat16", .layout = "SBH", .dtype = ACL_BF16, .mode = 1},
    {.name = "narrow values", .layout = "BSH", .D = 24, .Dv = 10},
    {.name = "gaps", .layout = "BSND", .mode = 1, .lie = Lie::gaps},
    {.name = "strided", .layout = "BSH", .mode = 1, .pse = Pse::full, .keep = 0.75, .lie = Lie::every_second},
    {.name = "transposed", .version = 3, .mode = 0, .pse = Pse::full, .sink = true, .lie = Lie::reversed_axes},
    {.name = "transposed",
     .version = 3,
     .layout = "SBH",
     .mode = 1,
     .pse = Pse::one_row,
     .keep = 0.5,
     .sink = true,
     .lie = Lie::reversed_axes},
    {.name = "window", .mode = 0, .pre = 4, .next = 3},
    {.name = "mask", .mode = 1},
    {.name = "left-top causal", .mode = 2},
    {.name = "right-bottom causal", .mode = 3},
    {.name = "rows that see nothing", .Sq = 13, .Skv = 9, .mode = 3},
    {.name = "band", .mode = 4, .pre = 3, .next = 1},
    {.name = "prefix as a mask", .mode = 5, .prefix = {5, 9}},
    {.name = "prefix", .mode = 6, .prefix = {5, 9}},
    {.name = "pse type 1", .pse = Pse::full},
    {.name = "pse type 0", .version = 2, .pse = Pse::shared, .pse_type = 0},
    {.name = "pse of one row", .version = 2, .pse = Pse::one_row, .pse_type = 0},
    {.name = "slopes", .version = 2, .Sq = 11, .Skv = 11, .mode = 2, .pse = Pse::slopes, .pse_type = 2, .q_start = {2}, .kv_start = {1}},
    {.name = "slopes, one start alone",
     .version = 2,
     .N1 = 3,
     .N2 = 3,
     .Sq = 11,
     .Skv = 11,
     .pse = Pse::slopes,
     .pse_type = 3,
     .q_start = {2}},
    {.name = "dropout", .mode = 2, .keep = 0.6},
    {.name = "sink", .version = 3, .mode = 2, .sink = true},
    {.name = "unified", .version = 4, .layout = "BSH", .mode = 2, .keep = 0.8, .bits = false, .sink = true},
    {.name = "rotary parts", .version = 4, .layout = "BSH", .dtype = ACL_BF16, .Dr = 8, .mode = 3},
    {.name = "rotary parts", .version = 4, .dtype = ACL_BF16, .Dr = 8, .mode = 1},
};

const std::vector<int64_t> kQ = {3, 3, 10, 14}, kKv = {4, 6, 13, 20}, kEqual = {5, 9, 12};

const Words kPacked[] = {
    {.name = "packed", .layout = "TND", .q_ends = kQ, .kv_ends = kKv, .T1 = 17, .T2 = 22},
    {.name = "packed, an empty sequence of columns", .layout = "TND", .dtype = ACL_FLOAT16, .q_ends = {3, 5, 8}, .kv_ends = {4, 4, 9}},
    {.name = "packed, a padded list", .layout = "TND", .q_ends = {3, 8, 0}, .kv_ends = {4, 9, 0}, .T1 = 8, .T2 = 9},
    {.name = "packed, shared mask", .version = 2, .layout = "TND", .q_ends = kQ, .kv_ends = kKv, .mode = 1},
    {.name = "packed window", .version = 2, .layout = "TND", .q_ends = kEqual, .kv_ends = kEqual, .mode = 0, .pre = 3, .next = 2},
    {.name = "packed causal", .layout = "TND", .dtype = ACL_BF16, .q_ends = kQ, .kv_ends = kKv, .mode = 2},
    {.name = "packed right-bottom", .layout = "TND", .q_ends = kEqual, .kv_ends = {6, 11, 15}, .mode = 3},
    {.name = "packed band",
     .version = 4,
     .layout = "TND",
     .q_ends = kEqual,
     .kv_ends = {6, 11, 15},
     .mode = 4,
     .pre = 2,
     .next = 1,
     .softmax_layout = "same_as_input"},
    {.name = "packed prefix", .layout = "TND", .q_ends = kEqual, .kv_ends = {6, 11, 15}, .mode = 6, .prefix = {2, 3, 4}},
    {.name = "packed cut", .version = 2, .layout = "TND", .q_ends = {3, 5, 5}, .kv_ends = {3, 9, 10}, .mode = 7, .pre = 6, .next = -2},
    {.name = "packed cut", .version = 2, .layout = "TND", .q_ends = {3, 8, 12}, .kv_ends = {4, 9, 13}, .mode = 8, .pre = 4, .next = 1},
    {.name = "packed pse", .version = 2, .layout = "TND", .q_ends = kEqual, .kv_ends = {6, 11, 15}, .pse = Pse::packed_full, .pse_type = 0},
    {.name = "packed pse rows", .layout = "TND", .q_ends = kEqual, .kv_ends = {6, 11, 15}, .pse = Pse::packed_rows},
    {.name = "packed slopes",
     .version = 2,
     .layout = "TND",
     .q_ends = kEqual,
     .kv_ends = kEqual,
     .mode = 2,
     .pse = Pse::slopes,
     .pse_type = 2,
     .q_start = {3},
     .kv_start = {1}},
    {.name = "packed dropout", .layout = "TND", .q_ends = kQ, .kv_ends = kKv, .keep = 0.7},
    {.name = "packed rotary parts",
     .version = 3,
     .layout = "TND",
     .dtype = ACL_BF16,
     .Dr = 8,
     .q_ends = kQ,
     .kv_ends = kKv,
     .mode = 2,
     .lie = Lie::gaps},
    {.name = "packed, all of it",
     .version = 5,
     .layout = "TND",
     .dtype = ACL_BF16,
     .Dr = 16,
     .q_ends = kQ,
     .kv_ends = kKv,
     .mode = 2,
     .sink = true,
     .softmax_layout = "same_as_input"},
    {.name = "packed strided",
     .version = 5,
     .layout = "TND",
     .q_ends = kEqual,
     .kv_ends = {6, 11, 15},
     .mode = 2,
     .keep = 0.5,
     .sink = true,
     .lie = Lie::reversed_axes},
    {.name = "largest workspace", .version = 6, .layout = "TND", .q_ends = kEqual, .kv_ends = {6, 11, 15}, .mode = 2},
    {.name = "unified packed", .version = 14, .layout = "TND", .q_ends = kQ, .kv_ends = kKv, .mode = 2, .keep = 0.8, .bits = false},
};

}  // namespace

TEST(fixed) {
  for (const Words& w : kFixed) answer(w);
}

TEST(packed) {
  for (const Words& w : kPacked) answer(w);
}

TEST(compressed_pse) {
  answer({.name = "last 1024 rows",
          .version = 2,
          .B = 1,
          .N1 = 1,
          .N2 = 1,
          .Sq = 1030,
          .Skv = 1030,
          .D = 8,
          .Dv = 8,
          .mode = 2,
          .pre = kMax,
          .pse = Pse::last_rows,
          .pse_type = 0});
}

// The same numbers in every layout have the same bits.
TEST(layouts_agree) {
  const auto run = [](const char* layout) {
    ScoreCase t({.name = layout, .layout = layout, .B = 1, .Sq = 40, .Skv = 50, .mode = 2});
    for (int64_t n = 0; n < t.w.N1; ++n)
      for (int64_t i = 0; i < t.w.Sq; ++i)
        for (int64_t d = 0; d < t.w.D; ++d) t.c.query.set(t.index(0, n, i, d, t.w.N1, t.w.Sq, t.w.D, 0), noise(1, (n * 100 + i) * 100 + d));
    for (int64_t n = 0; n < t.w.N2; ++n)
      for (int64_t i = 0; i < t.w.Skv; ++i)
        for (int64_t d = 0; d < t.w.D; ++d) {
          t.c.key.set(t.index(0, n, i, d, t.w.N2, t.w.Skv, t.w.D, 0), noise(2, (n * 100 + i) * 100 + d));
          t.c.value.set(t.index(0, n, i, d, t.w.N2, t.w.Skv, t.w.D, 0), noise(3, (n * 100 + i) * 100 + d));
        }
    t.c.run(false, stream());
    std::vector<double> numbers;
    for (int64_t n = 0; n < t.w.N1; ++n)
      for (int64_t i = 0; i < t.w.Sq; ++i)
        for (int64_t d = 0; d < t.w.Dv; ++d) numbers.push_back(t.c.attention.get(t.index(0, n, i, d, t.w.N1, t.w.Sq, t.w.Dv, 0)));
    return numbers;
  };
  const auto wanted = run("BNSD");
  for (const char* layout : {"BSND", "BSH", "SBH"}) CHECK(run(layout) == wanted);
}

TEST_MAIN()
