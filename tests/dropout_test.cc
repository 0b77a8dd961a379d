// dropout_test.cc: the random stream. The generator against published answers, the library's bits against the reference, and
// what the kernels keep, read off their results, against both.
#include "everywhere.h"
#include "reference/philox.h"

using namespace fusedattn::tests;
namespace reference = fusedattn::reference;

namespace {

const std::vector<DropoutTerm> kStreams{{.keep_prob = 0.8, .seed = 0x123456789ABCDEF0, .offset = 0xFEDCBA9876543210},
                                        {.keep_prob = 0.5},
                                        {.keep_prob = 1.0 / 65536, .seed = UINT64_MAX, .offset = UINT64_MAX},
                                        {.keep_prob = 0.99999, .seed = 1},
                                        {.keep_prob = 1e-7, .seed = 2},
                                        {.keep_prob = 1.0, .seed = 3}};

bool bit(const std::vector<std::uint8_t>& bits, std::size_t e) { return (bits[e / 8] >> e % 8 & 1) != 0; }

// What out keeps: with values that are one-hot, feature d of a row is its probability of column d.
void check_kept_forward(const Tensors& t, const fusedattn_options& options) {
  t.v.each([&](auto b, auto h, auto j, auto d) { t.v.set(b, h, j, d, j == d ? 1.0 : 0.0); });
  const fusedattn_problem problem = t.problem();
  if (!succeeds(fusedattn_forward(&problem, &options))) return;
  int64_t wrong = 0, kept = 0;
  for (int64_t b = 0; b < t.c.batch; ++b)
    for (int64_t n = 0; n < t.c.q_heads; ++n)
      for (int64_t i = 0; i < t.c.q_len; ++i)
        for (int64_t j = 0; j < t.c.kv_len; ++j) {
          const bool keep = t.terms.keeps(b, n, i, j) && sees(t.c, b, n, i, j);
          kept += keep, wrong += keep != (t.out.get(b, n, i, j) != 0.0);
        }
  CHECK_EQ(wrong, 0);
  CHECK(kept > 0);
}

// The same from dv: with one row of gradients at a time, dv[j] is zero where the probability is dropped.
void check_kept_backward(const Case& c, int32_t dtype, const fusedattn_options& options) {
  const Tensors t(c, dtype);
  for (const int64_t row : {int64_t{0}, c.q_len / 2, c.q_len - 1}) {
    t.d_out.each([&](auto b, auto n, auto i, auto d) { t.d_out.set(b, n, i, d, i == row ? 1.0 : 0.0); });
    if (!run_both(t.problem(), options)) return;
    int64_t wrong = 0;
    for (int64_t b = 0; b < c.batch; ++b)
      for (int64_t n = 0; n < c.q_heads; ++n)
        for (int64_t j = 0; j < c.kv_len; ++j) {
          const bool keep = t.terms.keeps(b, n, row, j) && sees(c, b, n, row, j);
          wrong += keep != (t.dv.get(b, n, j, 0) != 0.0);
        }
    CHECK_EQ(wrong, 0);
  }
}

// Flat scores, so that no probability is zero but those that are dropped.
Case flat(const std::string& name, int64_t q_len, int64_t kv_len) {
  Case c{.name = name, .batch = 2, .q_heads = 2, .kv_heads = 2, .q_len = q_len, .kv_len = kv_len, .dim = 4, .dim_v = kv_len};
  c.scale = 0.01;
  return c;
}

}  // namespace

TEST(philox_gives_the_published_answers) {
  using reference::Counter;
  CHECK((reference::philox4x32({0, 0, 0, 0}, {0, 0}, 10) == Counter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  CHECK((reference::philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, 10) ==
         Counter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  CHECK((reference::philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}, 10) ==
         Counter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(the_bits_are_those_of_the_reference) {
  for (const DropoutTerm& term : kStreams) {
    const fusedattn_dropout dropout{term.keep_prob, nullptr, term.seed, term.offset};
    for (const int64_t count : {0, 1, 7, 8, 9, 63, 64, 65, 1000, 4099}) {
      std::vector<std::uint8_t> bits(static_cast<std::size_t>(count + 7) / 8 + 1, 0xA5);
      CHECK(succeeds(fusedattn_dropout_bits(&dropout, count, bits.data())));
      int64_t wrong = 0;
      for (std::size_t e = 0; e < (bits.size() - 1) * 8; ++e) {
        const bool keep = e < static_cast<std::size_t>(count) && reference::keeps(term.keep_prob, term.seed, term.offset, e);
        wrong += keep != bit(bits, e);
      }
      CHECK_EQ(wrong, 0);
      CHECK_EQ(bits.back(), 0xA5);  // nothing is written behind
    }
  }
}

TEST(the_part_that_is_kept_is_keep_prob) {
  for (const double keep_prob : {0.1, 0.5, 0.9}) {
    const fusedattn_dropout dropout{keep_prob, nullptr, 42, 7};
    std::vector<std::uint8_t> bits(1 << 17);
    const auto count = static_cast<double>(bits.size() * 8);
    CHECK(succeeds(fusedattn_dropout_bits(&dropout, static_cast<int64_t>(bits.size() * 8), bits.data())));
    double kept = 0;
    for (std::size_t e = 0; e < bits.size() * 8; ++e) kept += bit(bits, e);
    CHECK_NEAR(kept / count, keep_prob, 5 * std::sqrt(keep_prob * (1 - keep_prob) / count) + 1e-5);  // five standard deviations
  }
}

TEST(calls_that_bits_refuses) {
  std::uint8_t byte = 0xA5;
  const fusedattn_dropout good{0.5, nullptr, 0, 0};
  const auto refused = [&](const fusedattn_dropout* dropout, int64_t count, std::uint8_t* bits, const char* word) {
    CHECK_EQ(fusedattn_dropout_bits(dropout, count, bits), FUSEDATTN_INVALID_ARGUMENT);
    CHECK(std::string(fusedattn_last_error()).find(word) != std::string::npos);
  };
  refused(nullptr, 8, &byte, "dropout is NULL");
  refused(&good, -1, &byte, "count is -1");
  refused(&good, 8, nullptr, "bits is NULL");
  for (const double keep_prob : {0.0, -0.5, 1.5, 1e-60, static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
    const fusedattn_dropout bad{keep_prob, nullptr, 0, 0};
    refused(&bad, 8, &byte, "dropout.keep_prob is ");
  }
  CHECK_EQ(byte, 0xA5);
  CHECK(succeeds(fusedattn_dropout_bits(&good, 0, nullptr)));
}

// Rows of every length modulo 8, and more columns than a tile has.
TEST(kernels_keep_what_the_stream_keeps) {
  for (const std::string& lane : runnable_lanes("kept"))
    for (const int32_t dtype : kTypes)
      for (const int64_t kv_len : {1, 8, 13, 22, 31, 767})
        for (const bool bits : {false, true}) {
          if (kv_len == 767 && bits == (dtype == FUSEDATTN_FLOAT32)) continue;
          Case c = flat("kv" + std::to_string(kv_len) + (bits ? "_bits" : "_seed"), kv_len == 767 ? 3 : 37, kv_len);
          c.terms.dropout = {.keep_prob = 0.7, .bits = bits, .seed = 0xABCDEF0123456789, .offset = 11};
          check::run("kept/" + c.name + "/" + format_of(dtype).name + "/" + lane, [&] {
            check_kept_forward(Tensors(c, dtype), options_for(lane.c_str()));
            check_kept_backward(c, dtype, options_for(lane.c_str()));
            c.bottom_right = kCausal;
            check_kept_forward(Tensors(c, dtype), options_for(lane.c_str()));
          });
        }
}

// The caller's bits and the stream that they were made from give the same bits of every result.
TEST(bits_and_seed_give_the_same_results) {
  for_all("bits or seed", term_contract_cases(), [](Case c, int32_t dtype, const fusedattn_options& options) {
    c.terms.dropout.bits = false;
    const Tensors seed(c, dtype);
    c.terms.dropout.bits = true;
    const Tensors bits(c, dtype);
    if (run_both(seed.problem(), options) && run_both(bits.problem(), options)) check_same_results(bits, seed);
  });
}

// So tiny that nothing is kept: zeros, with the statistics of all; and the largest factor is finite.
TEST(a_tiny_keep_prob_keeps_nothing) {
  for_all("tiny", contract_cases(), [](Case c, int32_t dtype, const fusedattn_options& options) {
    const Tensors all(c, dtype);
    if (!run_both(all.problem(), options)) return;
    for (const double keep_prob : {7e-6, 1e-30, 1.4e-45}) {
      c.terms.dropout = {.keep_prob = keep_prob, .seed = 5};
      const Tensors none(c, dtype);
      if (!run_both(none.problem(), options)) return;
      for (const Tensor* result : {&none.out, &none.dq, &none.dk, &none.dv}) {
        int64_t wrong = 0;
        result->each([&](auto b, auto n, auto i, auto d) { wrong += result->get(b, n, i, d) != 0.0; });
        CHECK_EQ(wrong, 0);
      }
      CHECK(none.max.bytes() == all.max.bytes());
      CHECK(none.sum.bytes() == all.sum.bytes());
    }
  });
}

// A keep_prob of 1 drops nothing whatever the seed; with bits it is their factor alone.
TEST(a_keep_prob_of_one) {
  for_all("one", contract_cases(), [](Case c, int32_t dtype, const fusedattn_options& options) {
    const Tensors plain(c, dtype);
    c.terms.dropout = {.seed = 9, .offset = 10};
    const Tensors seed(c, dtype);
    c.terms.dropout.bits = true;
    const Tensors bits(c, dtype);
    std::fill_n(bits.terms.bits.data(), bits.terms.bits.size(), std::byte{0xFF});
    if (!run_both(plain.problem(), options) || !run_both(seed.problem(), options) || !run_both(bits.problem(), options)) return;
    check_same_results(seed, plain);
    check_same_results(bits, plain);
  });
}

TEST_MAIN()
