// merge_test.cc: joining attention over parts of the columns, through the C API: any split equals the whole, in any
// order.
#include "reference/merge.h"

#include <optional>

#include "arithmetic.h"
#include "calls.h"
#include "golden.h"

using namespace fusedattn::tests;

namespace {

const Case kCase{.name = "merge",
                 .batch = 2,
                 .q_heads = 3,
                 .kv_heads = 3,
                 .q_len = 17,
                 .kv_len = 50,
                 .dim = 24,
                 .dim_v = 19,
                 .top_left = {12, 30}};
const int32_t kTypes[] = {FUSEDATTN_FLOAT32, FUSEDATTN_BFLOAT16, FUSEDATTN_FLOAT16};

fusedattn_partial partial_of(const Tensors& t) { return {t.out.view(), t.problem().stats}; }

// Attention of the case over the columns [begin, end): the same tensors, fewer of their rows, and the band moved along.
Tensors part(const Tensors& whole, int64_t begin, int64_t end) {
  Tensors result(whole.c, whole.dtype);
  fusedattn_problem problem = result.problem();
  problem.kv_len = end - begin;
  problem.k.data = whole.k.at(0, 0, begin, 0), problem.v.data = whole.v.at(0, 0, begin, 0);
  problem.mask.top_left = {whole.c.top_left.left + begin, whole.c.top_left.right - begin};
  succeeds(fusedattn_forward(&problem, nullptr));
  return result;
}

Tensors merged(const std::vector<const Tensors*>& parts) {
  Tensors result(parts[0]->c, parts[0]->dtype);
  std::vector<fusedattn_partial> partials;
  for (const Tensors* p : parts) partials.push_back(partial_of(*p));
  const Case& c = result.c;
  const fusedattn_merge_problem problem{sizeof problem, result.dtype,    static_cast<int32_t>(partials.size()),
                                        c.batch,        c.q_heads,       c.q_len,
                                        c.dim_v,        partials.data(), partial_of(result), nullptr, 0, 0};
  succeeds(fusedattn_merge(&problem, nullptr));
  return result;
}

// Equal up to the rounding of the parts to their storage type, of which each contributes a share.
void check_near(const Tensors& a, const Tensors& b) {
  a.out.each([&](auto s, auto n, auto i, auto d) {
    const double want = b.out.get(s, n, i, d);
    CHECK_NEAR(a.out.get(s, n, i, d), want, 2 * half_ulp(a.dtype, 2.0) + 1e-6);
  });
  a.max.each([&](auto s, auto n, auto i, auto d) {
    CHECK_EQ(a.max.get(s, n, i, d), b.max.get(s, n, i, d));
    CHECK_NEAR(a.sum.get(s, n, i, d) / b.sum.get(s, n, i, d), 1.0, 1e-6);
  });
}

bool same_bytes(const Tensors& a, const Tensors& b) {
  return a.out.bytes() == b.out.bytes() && a.max.bytes() == b.max.bytes() && a.sum.bytes() == b.sum.bytes();
}

}  // namespace

// As the forward leaves a row past the last end: max = sum = 0.
TEST(a_row_of_no_sequence_adds_nothing) {
  const Tensors whole(kCase, FUSEDATTN_FLOAT32), none(kCase, FUSEDATTN_FLOAT32);
  fusedattn_problem problem = whole.problem();
  problem.scale = -50.0;  // maxima far below 0
  if (!succeeds(fusedattn_forward(&problem, nullptr))) return;
  none.max.each([&](auto s, auto n, auto i, auto d) { none.max.set(s, n, i, d, 0.0), none.sum.set(s, n, i, d, 0.0); });
  check_near(merged({&whole, &none}), whole);
}

TEST(any_split_equals_the_whole) {
  for (const int32_t dtype : kTypes) {
    const Tensors whole(kCase, dtype);
    const fusedattn_problem problem = whole.problem();
    if (!succeeds(fusedattn_forward(&problem, nullptr))) return;
    for (const int64_t split : {0, 1, 16, 20, 32, 49, 50}) {
      const Tensors left = part(whole, 0, split), right = part(whole, split, 50);
      check_near(merged({&left, &right}), whole);
      check_near(merged({&right, &left}), whole);
    }
  }
}

TEST(merge_is_associative_and_commutative_up_to_rounding) {
  for (const int32_t dtype : kTypes) {
    const Tensors whole(kCase, dtype);
    const Tensors a = part(whole, 0, 9), b = part(whole, 9, 31), c = part(whole, 31, 50);
    const Tensors ab = merged({&a, &b}), bc = merged({&b, &c}), all = merged({&a, &b, &c});
    check_near(merged({&ab, &c}), all);
    check_near(merged({&a, &bc}), all);
    check_near(merged({&c, &a, &b}), all);
  }
}

TEST(one_part_and_empty_parts_change_no_bit) {
  for (const int32_t dtype : kTypes) {
    const Tensors whole(kCase, dtype);
    const fusedattn_problem problem = whole.problem();
    if (!succeeds(fusedattn_forward(&problem, nullptr))) return;
    const Tensors nothing = part(whole, 0, 0);
    CHECK(same_bytes(merged({&whole}), whole));
    CHECK(same_bytes(merged({&whole, &nothing}), whole));
    CHECK(same_bytes(merged({&nothing, &whole}), whole));
    const Tensors empty = merged({&nothing, &nothing});
    CHECK(empty.out.bytes() == nothing.out.bytes());
    CHECK(same_bytes(empty, nothing));
  }
}

TEST(how_the_caller_rounds_changes_no_bit) {
  for (const int32_t dtype : kTypes) {
    const Tensors whole(kCase, dtype), left = part(whole, 0, 20), right = part(whole, 20, kCase.kv_len);
    const Tensors usual = merged({&left, &right});
    std::optional<Tensors> other;
    {
      const UnusualArithmetic caller;
      other.emplace(merged({&left, &right}));
    }
    CHECK(same_bytes(*other, usual));
  }
}

TEST(the_result_may_be_one_of_the_parts) {
  for (const int32_t dtype : kTypes) {
    const Tensors whole(kCase, dtype);
    const Tensors a = part(whole, 0, 20), b = part(whole, 20, 50);
    const Tensors expected = merged({&a, &b});
    const fusedattn_partial partials[] = {partial_of(a), partial_of(b)};
    const fusedattn_merge_problem problem{sizeof problem, dtype,       2,        kCase.batch,  kCase.q_heads,
                                          kCase.q_len,    kCase.dim_v, partials, partial_of(b), nullptr, 0, 0};
    succeeds(fusedattn_merge(&problem, nullptr));
    CHECK(same_bytes(b, expected));
  }
}

TEST(follows_the_reference) {
  const Tensors whole(kCase, FUSEDATTN_FLOAT32);
  const Tensors a = part(whole, 0, 20), b = part(whole, 20, 50);
  const Tensors got = merged({&a, &b});
  for (int64_t s = 0; s < kCase.batch; ++s)
    for (int64_t n = 0; n < kCase.q_heads; ++n) {
      std::vector<Forward> parts;
      for (const Tensors* t : {&a, &b}) {
        parts.push_back({matrix_of(t->out, s, n, 0, kCase.q_len), matrix_of(t->max, s, n, 0, kCase.q_len).values,
                         matrix_of(t->sum, s, n, 0, kCase.q_len).values});
      }
      const Forward expected = fusedattn::reference::merge(parts);
      compare("out", got.out, s, n, 0, expected.out, 1e-6);
      for (int64_t i = 0; i < kCase.q_len; ++i) {
        const auto at = static_cast<std::size_t>(i);
        CHECK_EQ(got.max.get(s, n, i, 0), expected.max[at]);
        CHECK_NEAR(got.sum.get(s, n, i, 0) / expected.sum[at], 1.0, 1e-6);
      }
    }
}

TEST(refusals_name_the_argument) {
  const Tensors t(kCase, FUSEDATTN_FLOAT32);
  const fusedattn_partial partial = partial_of(t);
  const fusedattn_merge_problem good{sizeof good, FUSEDATTN_FLOAT32, 1,        kCase.batch, kCase.q_heads,
                                     kCase.q_len, kCase.dim_v,       &partial, partial, nullptr, 0, 0};
  const auto refused = [](fusedattn_merge_problem problem, const char* word) {
    CHECK_EQ(fusedattn_merge(&problem, nullptr), FUSEDATTN_INVALID_ARGUMENT);
    const std::string text = fusedattn_last_error();
    if (text.find(word) == std::string::npos) check::complain(__FILE__, __LINE__, word + (" is not in: " + text));
  };
  CHECK_EQ(fusedattn_merge(nullptr, nullptr), FUSEDATTN_INVALID_ARGUMENT);
  fusedattn_merge_problem p = good;
  p.struct_size = 8, refused(p, "struct_size");
  p = good, p.dtype = 9, refused(p, "dtype");
  p = good, p.count = 0, refused(p, "count");
  p = good, p.batch = -1, refused(p, "batch");
  p = good, p.heads = -2, refused(p, "heads");
  p = good, p.rows = -3, refused(p, "rows");
  p = good, p.dim_v = 0, refused(p, "dim_v");
  p = good, p.parts = nullptr, refused(p, "parts");
  p = good, p.result.out.data = nullptr, refused(p, "result");
  p = good, p.result.stats.max = nullptr, refused(p, "result");
  p = good, p.result.stats.blocks = 2, refused(p, "result.stats.blocks is 2; accepted: 0 (no), 1 (yes)");
}

TEST_MAIN()
