// nsa_test.cc: token compression and its gradients on every lane in every type: known answers to the last bit, any sizes against
// the reference in double, and what is promised about memory, threads and what is not a number.
#include "reference/nsa.h"

#include "everywhere.h"

using namespace fusedattn::tests;
using fusedattn::reference::Compression;
using fusedattn::reference::Numbers;

namespace {

// The tensors of a compression; what is written holds NaN before.
struct Compressed {
  Compression c;
  int32_t dtype;
  Tensor input, weight, output, d_output, d_input, d_weight;

  Compressed(const Compression& c, int32_t dtype, Layout layout = Layout::bsnd, Place place = Place::anywhere)
      : c(c), dtype(dtype) {
    const auto make = [&](int64_t rows, int64_t dim) { return Tensor(dtype, {1, c.heads, rows, dim}, layout, place); };
    input = make(c.tokens, c.dim), d_input = make(c.tokens, c.dim);
    output = make(c.windows(), c.dim), d_output = make(c.windows(), c.dim);
    weight = make(c.block, 1), d_weight = make(c.block, 1);
    input.fill(1), weight.fill(2), d_output.fill(3);
  }

  fusedattn_nsa_compress_problem problem() const {
    return {sizeof(fusedattn_nsa_compress_problem),
            dtype,
            0,
            static_cast<int64_t>(c.ends.size()),
            c.ends.data(),
            c.tokens,
            c.heads,
            c.dim,
            c.block,
            c.stride,
            input.view(),
            weight.view(),
            output.view(),
            d_output.view(),
            d_input.view(),
            d_weight.view()};
  }
  void run(const fusedattn_options& options) const {
    const fusedattn_nsa_compress_problem p = problem();
    succeeds(fusedattn_nsa_compress_forward(&p, &options)) && succeeds(fusedattn_nsa_compress_backward(&p, &options));
  }
  std::vector<std::vector<std::byte>> results() const { return {output.bytes(), d_input.bytes(), d_weight.bytes()}; }
};

// In the order row, head, feature.
Numbers numbers(const Tensor& t) {
  Numbers result;
  for (int64_t i = 0; i < t.rows; ++i)
    for (int64_t n = 0; n < t.heads; ++n)
      for (int64_t d = 0; d < t.dim; ++d) result.push_back(t.get(0, n, i, d));
  return result;
}

Numbers absolute(Numbers x) {
  for (double& value : x) value = std::abs(value);
  return x;
}

// One rounding to the storage type, and the float32 sum of `terms` products.
void compare(const char* name, const Tensor& got, const Numbers& want, const Numbers& size, double terms) {
  const Numbers have = numbers(got);
  CHECK_EQ(have.size(), want.size());
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double allowed = half_ulp(got.dtype, want[i]) * 1.001 + (std::sqrt(terms) + 4) * 0x1p-24 * size[i];
    if (!(std::abs(have[i] - want[i]) <= allowed))
      check::complain(__FILE__, __LINE__, check::two(name, have[i], want[i]) + " at " + std::to_string(i));
  }
}

void compare_with_reference(const Compressed& t) {
  const Numbers x = numbers(t.input), w = numbers(t.weight), dy = numbers(t.d_output);
  const Numbers x_size = absolute(x), w_size = absolute(w), dy_size = absolute(dy);
  const double rows = static_cast<double>(t.c.windows());
  compare("output", t.output, compress(t.c, x, w), compress(t.c, x_size, w_size), static_cast<double>(t.c.block));
  compare("d_input", t.d_input, compress_d_input(t.c, dy, w), compress_d_input(t.c, dy_size, w_size),
          static_cast<double>(t.c.block));
  compare("d_weight", t.d_weight, compress_d_weight(t.c, dy, x), compress_d_weight(t.c, dy_size, x_size),
          rows * static_cast<double>(t.c.dim));
}

// body(dtype, lane) as a test of its own, for everything that runs.
template <class Body>
void everywhere(const std::string& name, const Body& body) {
  for (const std::string& lane : runnable_lanes(name))
    for (const int32_t dtype : kTypes)
      check::run(name + "/" + format_of(dtype).name + "/" + lane, [&] { body(dtype, lane.c_str()); });
}

// Ends with empty and short sequences, tokens of no sequence after the last; blocks that strides divide and do not.
const Compression kOdd[] = {{{1}, 1, 1, 1, 1, 1},
                            {{0, 5, 5, 23, 27, 60}, 66, 2, 7, 5, 3},
                            {{40, 47, 112}, 112, 3, 19, 7, 7},
                            {{90}, 90, 1, 33, 16, 5},
                            {{64, 80, 300}, 303, 3, 128, 32, 16},
                            {{33, 65, 150}, 150, 5, 17, 33, 8},
                            {{9, 50}, 50, 2, 12, 9, 1},
                            {{300}, 301, 1, 16, 128, 16},
                            {{130, 200}, 200, 2, 64, 48, 32},
                            {{600}, 600, 2, 5, 64, 8},
                            {{1000, 1003, 2000}, 2000, 1, 3, 4, 3},
                            {{60}, 60, 80, 256, 32, 16},   // more heads than an item has
                            {{40}, 40, 1, 3001, 16, 1},    // more features than an item has
                            {{3, 7, 11}, 12, 2, 8, 5, 2},  // no window at all
                            {{}, 9, 2, 3, 4, 4}};

// The sums of an exact case: of the elements, of their sizes, and of (k mod 97 + 1) times element k.
struct Sums {
  double plain, absolute, weighted;
};
struct Known {
  const char* name;
  Compression c;
  int64_t windows;
  Sums y, dx, dw;
};
const Known kKnown[] = {{"A",
                         {{0, 80, 80, 97, 176, 193}, 193, 2, 16, 32, 16},
                         7,
                         {1.0546875, 57.5546875, -15.2578125},
                         {1.25, 525.4375, -296.078125},
                         {8.3125, 831.4375, -266.25}},
                        {"B",
                         {{80, 80, 97, 176, 193}, 193, 2, 16, 32, 16},
                         7,
                         {1.0546875, 57.5546875, -15.2578125},
                         {1.25, 525.4375, -296.078125},
                         {8.3125, 831.4375, -266.25}},
                        {"C",
                         {{16, 40, 47, 112}, 112, 3, 16, 16, 16},
                         6,
                         {-1.015625, 49.75, -104.078125},
                         {0.140625, 418.671875, -30.296875},
                         {14.1875, 252.125, 513.71875}},
                        {"D", {{10, 31, 32}, 32, 2, 16, 32, 16}, 0, {0, 0, 0}, {0, 0, 0}, {0, 0, 0}},
                        {"E",
                         {{300}, 300, 1, 16, 128, 16},
                         11,
                         {0, 40, -41.140625},
                         {0.328125, 921.328125, -84.578125},
                         {4.21875, 1912.15625, 1041.8125}}};

Compressed known(const Known& k, int32_t dtype) {
  const Compressed t(k.c, dtype);
  t.input.each(
      [&](auto b, auto n, auto i, auto d) { t.input.set(b, n, i, d, static_cast<double>((7 * i + 3 * n + d) % 11 - 5) / 8); });
  t.weight.each([&](auto b, auto n, auto i, auto d) { t.weight.set(b, n, i, d, static_cast<double>((5 * i + n) % 7 - 3) / 16); });
  t.d_output.each(
      [&](auto b, auto n, auto i, auto d) { t.d_output.set(b, n, i, d, static_cast<double>((3 * i + 5 * n + d) % 13 - 6) / 4); });
  return t;
}

void check_sums(const Tensor& t, const Sums& want) {
  Sums have{};
  std::size_t k = 0;
  for (const double value : numbers(t)) {
    have.plain += value, have.absolute += std::abs(value);
    have.weighted += static_cast<double>(k++ % 97 + 1) * value;
  }
  CHECK_EQ(have.plain, want.plain);
  CHECK_EQ(have.absolute, want.absolute);
  CHECK_EQ(have.weighted, want.weighted);
}

// Every element is the exact result, rounded once.
void check_exact(const Tensor& t, const Numbers& exact) {
  const Numbers have = numbers(t);
  CHECK_EQ(have.size(), exact.size());
  for (std::size_t i = 0; i < exact.size(); ++i) CHECK_EQ(have[i], rounded(t.dtype, exact[i]));
}

double dot(const Tensor& a, const Tensor& b) {
  const Numbers x = numbers(a), y = numbers(b);
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += x[i] * y[i];
  return sum;
}

}  // namespace

TEST(known_answers) {
  for (const Known& k : kKnown)
    everywhere(std::string("known_answers/") + k.name, [&](int32_t dtype, const char* lane) {
      const Compressed t = known(k, dtype);
      CHECK_EQ(k.c.windows(), k.windows);
      t.run(options_for(lane));
      const Numbers x = numbers(t.input), w = numbers(t.weight), dy = numbers(t.d_output);
      check_exact(t.output, compress(k.c, x, w));
      check_exact(t.d_input, compress_d_input(k.c, dy, w));
      check_exact(t.d_weight, compress_d_weight(k.c, dy, x));
      if (dtype != FUSEDATTN_FLOAT32) return;
      check_sums(t.output, k.y), check_sums(t.d_input, k.dx), check_sums(t.d_weight, k.dw);
      CHECK_EQ(dot(t.output, t.d_output), dot(t.input, t.d_input));  // both are sum(output * d_output)
      CHECK_EQ(dot(t.output, t.d_output), dot(t.weight, t.d_weight));
    });
}

TEST(known_elements) {
  const auto run = [](std::size_t index) {
    Compressed t = known(kKnown[index], FUSEDATTN_FLOAT32);
    t.run(options_for(nullptr));
    return t;
  };
  const auto holds = [](const Tensor& t, int64_t row, int64_t head, int64_t d, std::vector<double> want) {
    for (const double value : want) CHECK_EQ(t.get(0, head, row, d++), value);
  };
  const Compressed a = run(0), c = run(2), e = run(4);
  holds(a.output, 0, 0, 0, {-0.328125, -0.1796875, 0.3125, 0.546875});
  holds(a.output, 6, 1, 12, {-0.25, -0.0703125, 0.1953125, 0.203125});
  holds(a.d_input, 0, 0, 0, {0.28125}), holds(a.d_input, 15, 0, 0, {-0.1875}), holds(a.d_input, 16, 0, 0, {0.140625});
  holds(a.d_input, 31, 0, 0, {0.09375}), holds(a.d_input, 32, 0, 0, {0.0});
  holds(a.d_weight, 0, 0, 0, {21.5625}), holds(a.d_weight, 0, 1, 0, {13.09375});
  holds(a.d_weight, 31, 0, 0, {-8.53125}), holds(a.d_weight, 31, 1, 0, {-16.28125});
  holds(c.d_weight, 0, 0, 0, {-5.09375}), holds(c.d_weight, 0, 1, 0, {-0.28125}), holds(c.d_weight, 0, 2, 0, {0.375});
  holds(c.d_weight, 15, 0, 0, {11.09375}), holds(c.d_weight, 15, 1, 0, {5.8125}), holds(c.d_weight, 15, 2, 0, {-2.3125});
  holds(e.d_weight, 0, 0, 0, {15.5625}), holds(e.d_weight, 127, 0, 0, {-8.5625});
}

TEST(any_sizes) {
  for (const Compression& c : kOdd)
    everywhere("any_sizes/" + std::to_string(c.block) + "/" + std::to_string(c.stride), [&](int32_t dtype, const char* lane) {
      for (const Layout layout : {Layout::bsnd, Layout::gaps}) {
        const Compressed t(c, dtype, layout);
        t.run(options_for(lane));
        compare_with_reference(t);
      }
    });
}

// Tokens that no window holds, among them those of no sequence, get zeros to the bit.
TEST(tokens_in_no_window) {
  everywhere("tokens_in_no_window", [](int32_t dtype, const char* lane) {
    for (const Compression& c : kOdd) {
      const Compressed t(c, dtype);
      t.run(options_for(lane));
      std::vector<bool> held(static_cast<std::size_t>(c.tokens));
      c.each_window([&](auto, auto first) { std::fill_n(held.begin() + first, c.block, true); });
      t.d_input.each([&](auto, auto n, auto i, auto d) {
        if (!held[static_cast<std::size_t>(i)])
          CHECK(t.d_input.get(0, n, i, d) == 0.0 && !std::signbit(t.d_input.get(0, n, i, d)));
      });
      if (c.windows() == 0)
        for (const double value : numbers(t.d_weight)) CHECK_EQ(value, 0.0);
    }
  });
}

TEST(any_number_of_threads) {
  everywhere("any_number_of_threads", [](int32_t dtype, const char* lane) {
    for (const Compression& c : {Compression{{0, 300, 310, 1500}, 1510, 5, 72, 32, 16}, Compression{{700}, 700, 3, 80, 40, 12}}) {
      const Compressed one(c, dtype);
      one.run(options_for(lane, 1));
      for (const int32_t threads : {2, 3, 8}) {
        const Compressed many(c, dtype);
        many.run(options_for(lane, threads));
        CHECK(many.results() == one.results());
      }
    }
  });
}

// Nothing beside the tensors is touched.
TEST(guard_pages) {
  everywhere("guard_pages", [](int32_t dtype, const char* lane) {
    for (const Compression& c : {kOdd[1], kOdd[3], kOdd[4], kOdd[5]})
      for (const Place place : {Place::before_guard, Place::after_guard}) {
        const Compressed t(c, dtype, Layout::bsnd, place);
        t.run(options_for(lane));
        compare_with_reference(t);
      }
  });
}

// What is not a number reaches the windows that hold it, through weights of 0 too, and nothing else.
TEST(not_a_number_stays_in_its_windows) {
  everywhere("not_a_number", [](int32_t dtype, const char* lane) {
    const Compression c{{40, 97}, 100, 2, 21, 16, 6};
    const Compressed clean(c, dtype), bad(c, dtype);
    const int64_t token = 55, row = 8;
    for (const Compressed* t : {&clean, &bad})
      for (int64_t l = 0; l < c.block; ++l) t->weight.set(0, 1, l, 0, 0.0);
    const std::uint16_t infinity = dtype == FUSEDATTN_FLOAT16 ? 0x7c00 : 0x7f80;  // of float32 the upper half
    for (std::byte* at : {bad.input.at(0, 1, token, 20), bad.d_output.at(0, 1, row, 4)}) {
      std::memset(at, 0, format_of(dtype).bytes);
      std::memcpy(at + format_of(dtype).bytes - 2, &infinity, 2);
    }
    for (const Compressed* t : {&clean, &bad}) t->run(options_for(lane));
    c.each_window([&](auto i, auto first) {
      for (int64_t n = 0; n < c.heads; ++n)
        for (int64_t d = 0; d < c.dim; ++d) {
          const bool hit = n == 1 && d == 20 && first <= token && token < first + c.block;
          if (hit) CHECK(std::isnan(bad.output.get(0, n, i, d)));
          if (!hit) CHECK_EQ(bad.output.get(0, n, i, d), clean.output.get(0, n, i, d));
          for (int64_t l = 0; i == row && n == 1 && d == 4 && l < c.block; ++l)
            CHECK(std::isnan(bad.d_input.get(0, 1, first + l, 4)));
        }
    });
    int64_t not_numbers = 0;
    for (const double value : numbers(bad.d_input)) not_numbers += std::isnan(value);
    CHECK_EQ(not_numbers, c.block);
  });
}

TEST(sequences_stand_alone) {
  const Compression both{{90, 150}, 150, 2, 24, 32, 16}, swapped{{60, 150}, 150, 2, 24, 32, 16};
  const Compressed a(both, FUSEDATTN_BFLOAT16), b(swapped, FUSEDATTN_BFLOAT16);
  const auto move = [&](const Tensor& from, const Tensor& to, int64_t first, int64_t all) {
    from.each(
        [&](auto, auto n, auto i, auto d) { to.set(0, n, i < first ? i + all - first : i - first, d, from.get(0, n, i, d)); });
  };
  move(a.input, b.input, 90, 150), move(a.d_output, b.d_output, 4, 6);
  a.run(options_for(nullptr)), b.run(options_for(nullptr));
  const Compressed moved(swapped, FUSEDATTN_BFLOAT16);
  move(a.output, moved.output, 4, 6), move(a.d_input, moved.d_input, 90, 150);
  CHECK(moved.output.bytes() == b.output.bytes());
  CHECK(moved.d_input.bytes() == b.d_input.bytes());
}

TEST(gradients_are_optional) {
  const Compressed whole(kOdd[4], FUSEDATTN_FLOAT32), part(kOdd[4], FUSEDATTN_FLOAT32);
  whole.run(options_for(nullptr));
  fusedattn_nsa_compress_problem p = part.problem();
  p.output.data = p.weight.data = p.d_input.data = nullptr;
  if (succeeds(fusedattn_nsa_compress_backward(&p, nullptr))) CHECK(part.d_weight.bytes() == whole.d_weight.bytes());
  p = part.problem();
  p.output.data = p.input.data = p.d_weight.data = nullptr;
  if (succeeds(fusedattn_nsa_compress_backward(&p, nullptr))) CHECK(part.d_input.bytes() == whole.d_input.bytes());
}

TEST(no_ends_is_one_sequence) {
  const Compressed a(kOdd[3], FUSEDATTN_FLOAT16), b(kOdd[3], FUSEDATTN_FLOAT16);
  a.run(options_for(nullptr));
  fusedattn_nsa_compress_problem p = b.problem();
  p.ends = nullptr, p.sequences = 1;
  if (succeeds(fusedattn_nsa_compress_forward(&p, nullptr)) && succeeds(fusedattn_nsa_compress_backward(&p, nullptr)))
    CHECK(a.results() == b.results());
}

TEST(lengths) {
  const auto length = [](int64_t tokens) { return fusedattn_nsa_compressed_length(&tokens, 1, 32, 16); };
  const int64_t want[][2] = {{0, 0}, {31, 0}, {32, 1}, {47, 1}, {48, 2}, {63, 2}, {64, 3}, {80, 4}};
  for (const auto& [tokens, windows] : want) CHECK_EQ(length(tokens), windows);
  const int64_t ends[] = {0, 80, 80, 97, 176, 193}, falling[] = {8, 4};
  CHECK_EQ(fusedattn_nsa_compressed_length(ends, 6, 32, 16), 7);
  CHECK_EQ(fusedattn_nsa_compressed_length(nullptr, 0, 32, 16), 0);
  CHECK_EQ(fusedattn_nsa_compressed_length(falling, 2, 2, 1), -1);
  CHECK_EQ(fusedattn_nsa_compressed_length(ends, 6, 16, 32), -1);
  CHECK(std::string(fusedattn_last_error()).find("stride is 32") != std::string::npos);
}

TEST(refusals_name_the_argument) {
  using Problem = fusedattn_nsa_compress_problem;
  const Compressed t(kOdd[4], FUSEDATTN_BFLOAT16);
  const auto refused = [&](const char* word, bool backward, const auto& spoil) {
    Problem p = t.problem();
    spoil(p);
    CHECK_EQ(backward ? fusedattn_nsa_compress_backward(&p, nullptr) : fusedattn_nsa_compress_forward(&p, nullptr),
             FUSEDATTN_INVALID_ARGUMENT);
    const std::string text = fusedattn_last_error();
    if (text.find(word) == std::string::npos || text.find("accepted: ") == std::string::npos)
      check::complain(__FILE__, __LINE__, word + (" is not in: " + text));
  };
  const int64_t falling[] = {64, 10, 300}, late[] = {64, 80, 304};
  CHECK_EQ(fusedattn_nsa_compress_forward(nullptr, nullptr), FUSEDATTN_INVALID_ARGUMENT);
  for (const bool backward : {false, true}) {
    refused("struct_size", backward, [](Problem& p) { p.struct_size = 8; });
    refused("dtype is 3", backward, [](Problem& p) { p.dtype = 3; });
    refused("sequences is -1", backward, [](Problem& p) { p.sequences = -1; });
    refused("ends is NULL", backward, [](Problem& p) { p.ends = nullptr; });
    refused("ends[1] is 10", backward, [&](Problem& p) { p.ends = falling; });
    refused("ends[2] is 304", backward, [&](Problem& p) { p.ends = late; });
    refused("tokens is -1", backward, [](Problem& p) { p.tokens = -1; });
    refused("heads is 0", backward, [](Problem& p) { p.heads = 0; });
    refused("dim is 0", backward, [](Problem& p) { p.dim = 0; });
    refused("block is 0", backward, [](Problem& p) { p.block = 0; });
    refused("stride is 0", backward, [](Problem& p) { p.stride = 0; });
    refused("stride is 33", backward, [](Problem& p) { p.stride = 33; });
    refused("input.data is NULL", backward, [](Problem& p) { p.input.data = nullptr; });
    refused("weight.data is NULL", backward, [](Problem& p) { p.weight.data = nullptr; });
    refused("input.data is not a multiple", backward, [](Problem& p) { p.input.data = static_cast<char*>(p.input.data) + 1; });
    refused("reach past", backward, [](Problem& p) { p.input.row_stride = INT64_MAX / 8; });
  }
  refused("output.data is NULL", false, [](Problem& p) { p.output.data = nullptr; });
  refused("output.row_stride is 128", false, [](Problem& p) { p.output.row_stride = 128; });
  refused("output.data is the address of input", false, [](Problem& p) { p.output.data = p.input.data; });
  refused("d_output.data is NULL", true, [](Problem& p) { p.d_output.data = nullptr; });
  refused("d_input.head_stride is 0", true, [](Problem& p) { p.d_input.head_stride = 0; });
  refused("d_weight.data is the address of weight", true, [](Problem& p) { p.d_weight.data = p.weight.data; });
}

TEST_MAIN()
