// ring_test.cc: gradients of some of the columns, taken with the statistics and the output of all, add up to the whole.
#include "calls.h"
#include "golden.h"
#include "term_cases.h"

using namespace fusedattn::tests;
namespace reference = fusedattn::reference;

namespace {

// The problem of the columns [begin, end) alone: everything else is that of the whole. Bits of dropout go to `bits`.
fusedattn_problem part_of(const Tensors& t, int64_t begin, int64_t end, const Tensor& dq, std::vector<std::uint8_t>& bits) {
  fusedattn_problem p = t.problem();
  const auto move = [begin](fusedattn_view& view, int64_t stride, int32_t dtype) {
    view.data = static_cast<std::byte*>(view.data) + begin * stride * static_cast<int64_t>(format_of(dtype).bytes);
  };
  for (fusedattn_view* view : {&p.k, &p.v, &p.dk, &p.dv}) move(*view, view->row_stride, t.dtype);
  p.kv_len = end - begin, p.dq = dq.view();
  if (p.mask.top_left.right != FUSEDATTN_UNBOUNDED) p.mask.top_left.right -= begin;
  if (p.mask.bytes != nullptr) p.mask.bytes += begin;
  p.alibi.kv_start += begin;
  if (p.bias.data != nullptr) {
    p.bias.data = static_cast<const std::byte*>(p.bias.data) + begin * static_cast<int64_t>(format_of(p.bias.dtype).bytes);
    move(p.d_bias, 1, p.bias.dtype);
  }
  if (!present(t.c.terms.dropout)) return p;
  const auto pairs = static_cast<std::size_t>(t.c.batch * t.c.q_heads * t.c.q_len * p.kv_len);
  bits.assign((pairs + 7) / 8, 0);
  std::size_t e = 0;
  for (int64_t b = 0; b < t.c.batch; ++b)
    for (int64_t n = 0; n < t.c.q_heads; ++n)
      for (int64_t i = 0; i < t.c.q_len; ++i)
        for (int64_t j = begin; j < end; ++j, ++e)
          if (t.terms.keeps(b, n, i, j)) bits[e / 8] |= static_cast<std::uint8_t>(1 << e % 8);
  p.dropout.bits = bits.data();
  return p;
}

// dq of the parts, and what their roundings may add up to.
struct SumOfParts {
  std::vector<double> value, rounding;
};

void add_part(const Tensor& dq, SumOfParts& sum) {
  sum.value.resize(static_cast<std::size_t>(dq.elements)), sum.rounding.resize(sum.value.size());
  dq.each([&](auto b, auto n, auto i, auto d) {
    const auto e = static_cast<std::size_t>(b * dq.batch_stride + n * dq.head_stride + i * dq.row_stride + d);
    const double value = dq.get(b, n, i, d);
    sum.value[e] += value, sum.rounding[e] += half_ulp(dq.dtype, value);
  });
}

void compare_sum(const Tensors& t, const std::vector<GoldenHead>& golden, const Tolerance& tolerance, const SumOfParts& sum) {
  for (int64_t b = 0; b < t.c.batch; ++b)
    for (int64_t n = 0; n < t.c.q_heads; ++n) {
      const GoldenHead& head = golden[static_cast<std::size_t>(b * t.c.q_heads + n)];
      const GoldenGradients want = golden_gradients(t, b, n, head);
      const double arithmetic = tolerance.arithmetic * std::max(1.0, head.largest_score / 8);
      const double cancelled = tolerance.cancelled * want.dq_reach + want.dq_rounding;
      const double allowance = arithmetic * largest(want.grad.dq.values) + cancelled;
      for (int64_t i = 0; i < t.c.q_len; ++i)
        for (int64_t d = 0; d < t.c.dim; ++d) {
          const auto e = static_cast<std::size_t>(b * t.dq.batch_stride + n * t.dq.head_stride + i * t.dq.row_stride + d);
          compare_one("sum of dq", {b, n, i, d}, sum.value[e], want.grad.dq.row(i)[d], sum.rounding[e] + allowance);
        }
    }
}

// The whole forward and backward; then the parts write dk, dv and d_bias of their columns over those of the whole.
void check_ring(const Case& c, int32_t dtype, const std::string& lane, const std::vector<int64_t>& ends) {
  const Tensors t(c, dtype);
  const fusedattn_options options = options_for(lane.c_str());
  if (!run_both(t.problem(), options)) return;
  for (const Tensor* gradient : {&t.dk, &t.dv, &t.terms.d_bias})
    if (gradient->memory.size() > 0) std::memset(gradient->memory.data(), 0xFF, gradient->memory.size());
  SumOfParts sum;
  int64_t begin = 0;
  for (const int64_t end : ends) {
    const Tensor dq(dtype, {c.batch, c.q_heads, c.q_len, c.dim}, c.layout);
    std::vector<std::uint8_t> bits;
    const fusedattn_problem part = part_of(t, begin, end, dq, bits);
    if (!succeeds(fusedattn_backward(&part, &options))) return;
    add_part(dq, sum);
    begin = end;
  }
  const std::vector<GoldenHead> golden = golden_of(t);
  compare_backward(t, golden, tolerance_of(lane, dtype));
  compare_sum(t, golden, tolerance_of(lane, dtype), sum);
}

struct Ring {
  Case c;
  std::vector<int64_t> ends;  // of the parts
};

std::vector<Ring> rings() {
  std::vector<Ring> rings{{padded_base("uncut"), {1, 30, 83}},
                          {padded_base("halves"), {41, 83}},
                          {long_base("long"), {300, 700, 1117}}};
  Ring ring{padded_base("causal"), {16, 32, 48, 83}};
  ring.c.top_left = kCausal, ring.c.q_len = 83;
  rings.push_back(ring);
  ring = {padded_base("peaked"), {20, 50, 83}}, ring.c.scale = 1.5;  // one part has nearly all of a row, another nearly nothing
  rings.push_back(ring);
  ring.c.name = "bytes", ring.c.bytes.present = true;
  rings.push_back(ring);
  ring = {padded_base("bias"), {40, 83}}, ring.c.terms.bias = {.form = BiasForm::strided}, ring.c.terms.sink = true;
  rings.push_back(ring);
  ring = {padded_base("alibi"), {40, 83}}, ring.c.terms.alibi = {.present = true, .q_start = 3}, ring.c.scale = -0.5;
  rings.push_back(ring);
  ring = {padded_base("dropout"), {33, 83}}, ring.c.terms.dropout = {.keep_prob = 0.6, .seed = 4};
  rings.push_back(ring);
  ring = {padded_base("all"), {17, 50, 83}}, ring.c.terms = all_terms_padded().terms, ring.c.terms.alibi.first_sequence = false;
  ring.c.top_left = {FUSEDATTN_UNBOUNDED, 20};
  rings.push_back(ring);
  return rings;
}

}  // namespace

TEST(gradients_of_parts_add_up) {
  for (const std::string& lane : runnable_lanes("ring"))
    for (const int32_t dtype : {FUSEDATTN_FLOAT32, FUSEDATTN_BFLOAT16, FUSEDATTN_FLOAT16})
      for (const Ring& ring : rings()) {
        check::run("ring/" + ring.c.name + "/" + format_of(dtype).name + "/" + lane,
                   [&] { check_ring(ring.c, dtype, lane, ring.ends); });
      }
}

TEST_MAIN()
