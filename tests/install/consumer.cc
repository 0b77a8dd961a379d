// A user's program in C++20: the veneer's verbs on one small problem, each checked against another or against the formula.
#include <fusedattn/fusedattn.hpp>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

namespace {

constexpr std::int64_t kHeads = 2, kRows = 6, kColumns = 9, kDim = 8;

std::vector<float> numbers(std::int64_t rows, int seed) {
  std::vector<float> made(static_cast<std::size_t>(kHeads * rows * kDim));
  for (std::size_t i = 0; i < made.size(); ++i) made[i] = static_cast<float>((i * 37 + seed * 11) % 19) / 8.0f - 1.0f;
  return made;
}

auto bnsd(std::vector<float>& data, std::int64_t rows) {
  return fusedattn::bnsd(std::span{data}, kHeads, rows, kDim);
}

void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "failed: %s\n", what);
  std::exit(1);
}

float largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  float largest = a.size() == b.size() ? 0.0f : INFINITY;
  for (std::size_t i = 0; i < a.size() && i < b.size(); ++i) largest = std::fmax(largest, std::fabs(a[i] - b[i]));
  return largest;
}

struct Tensors {
  std::vector<float> q = numbers(kRows, 1), k = numbers(kColumns, 2), v = numbers(kColumns, 3);
  std::vector<float> out = numbers(kRows, 0), max = std::vector<float>(kHeads * kRows), sum = max;

  fusedattn::problem problem(fusedattn::mask mask) {
    return {.q_heads = kHeads, .q_len = kRows, .kv_len = kColumns, .dim = kDim, .mask = mask,
            .q = bnsd(q, kRows), .k = bnsd(k, kColumns), .v = bnsd(v, kColumns), .out = bnsd(out, kRows),
            .stats = fusedattn::row_stats(max, sum, kHeads, kRows)};
  }
};

void plans_agree_with_one_call() {
  Tensors a, b;
  fusedattn::forward(a.problem(fusedattn::causal()));
  const fusedattn::plan plan(b.problem(fusedattn::causal()), fusedattn::direction::forward);
  const auto bytes = (plan.workspace_bytes() + 63) / 64 * 64;
  std::unique_ptr<void, decltype(&std::free)> scratch(std::aligned_alloc(64, bytes + 64), &std::free);
  plan.run(std::span{static_cast<std::byte*>(scratch.get()), bytes});
  expect(a.out == b.out && a.max == b.max && a.sum == b.sum, "a plan gives what fusedattn::forward gives");
  expect(!plan.describe().empty() && plan.describe().back() != '\0', "a plan describes itself");
  Tensors c;
  plan.run(c.problem(fusedattn::causal()));
  expect(a.out == c.out, "a plan runs at other addresses");
}

void parts_merge_to_the_whole() {
  Tensors whole, left, right;
  fusedattn::forward(whole.problem({}));
  fusedattn::forward(left.problem({.top_left = {.left = -2, .right = fusedattn::unbounded}, .bottom_right = {}}));
  fusedattn::forward(right.problem({.top_left = {.right = 1}}));
  const fusedattn::partial parts[] = {
      {bnsd(left.out, kRows), fusedattn::row_stats(left.max, left.sum, kHeads, kRows)},
      {bnsd(right.out, kRows), fusedattn::row_stats(right.max, right.sum, kHeads, kRows)}};
  fusedattn::merge({.heads = kHeads, .rows = kRows, .dim_v = kDim, .parts = parts, .result = parts[0]});
  expect(largest_difference(whole.out, left.out) < 1e-5f, "the parts of a split merge to the whole");
}

// dv summed over columns equals d_out summed over rows, because the weights of a row sum to one.
void backward_conserves_d_out() {
  Tensors t;
  auto problem = t.problem({});
  fusedattn::forward(problem);
  auto d_out = numbers(kRows, 5), dq = d_out, dk = numbers(kColumns, 0), dv = dk;
  problem.d_out = bnsd(d_out, kRows);
  problem.dq = bnsd(dq, kRows);
  problem.dk = bnsd(dk, kColumns);
  problem.dv = bnsd(dv, kColumns);
  fusedattn::backward(problem);
  double difference = 0.0;
  for (float x : dv) difference += x;
  for (float x : d_out) difference -= x;
  expect(std::fabs(difference) < 1e-3, "dv conserves d_out");
}

void refusals_are_exceptions() {
  Tensors t;
  auto problem = t.problem({});
  problem.dim = 100000;
  try {
    fusedattn::forward(problem);
  } catch (const fusedattn::error& refusal) {
    expect(refusal.status() == FUSEDATTN_INVALID_ARGUMENT || refusal.status() == FUSEDATTN_UNSUPPORTED, "its status");
    expect(std::string(refusal.what()).find("100000") != std::string::npos, "the sentence names the value");
    return;
  }
  expect(false, "dim = 100000 is refused");
}

}  // namespace

int main() {
  plans_agree_with_one_call();
  parts_merge_to_the_whole();
  backward_conserves_d_out();
  refusals_are_exceptions();
  expect(fusedattn::version() == FUSEDATTN_VERSION, "header and library are of one version");
  std::printf("fusedattn %s from C++\n", fusedattn::version().c_str());
}
