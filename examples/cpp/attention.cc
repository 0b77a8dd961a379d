// attention.cc: from C++: a plan that runs twice, and attention over two halves of the keys joined into the whole.
#include <cmath>
#include <cstdio>
#include <exception>
#include <fusedattn/fusedattn.hpp>
#include <span>
#include <vector>

namespace {

constexpr std::int64_t kHeads = 8, kKeyHeads = 2, kRows = 128, kColumns = 512, kDim = 64;

std::vector<float> numbers(std::int64_t count, unsigned seed) {
  std::vector<float> made(static_cast<std::size_t>(count));
  for (unsigned n = 0; n < made.size(); ++n) made[n] = static_cast<float>((n * 37 + seed * 101) % 199) / 99.0f - 1.0f;
  return made;
}

fusedattn::view keys(std::vector<float>& data) { return fusedattn::bnsd(std::span{data}, kKeyHeads, kColumns, kDim); }

// The same tensor from a later column on: only the address changes.
fusedattn::view from_column(fusedattn::view view, std::int64_t column) {
  view.data = static_cast<float*>(view.data) + column * view.row_stride;
  return view;
}

struct Result {
  std::vector<float> out = numbers(kHeads * kRows * kDim, 0), max = numbers(kHeads * kRows, 0), sum = max;
  fusedattn::view view() { return fusedattn::bnsd(std::span{out}, kHeads, kRows, kDim); }
  fusedattn::stats stats() { return fusedattn::row_stats(max, sum, kHeads, kRows); }
};

}  // namespace

int main() try {
  auto q = numbers(kHeads * kRows * kDim, 1);
  auto k = numbers(kKeyHeads * kColumns * kDim, 2), v = numbers(kKeyHeads * kColumns * kDim, 3);
  Result whole, again, left, right;

  fusedattn::problem problem{.q_heads = kHeads, .kv_heads = kKeyHeads, .q_len = kRows, .kv_len = kColumns, .dim = kDim};
  problem.q = fusedattn::bnsd(std::span{q}, kHeads, kRows, kDim);
  problem.k = keys(k), problem.v = keys(v), problem.out = whole.view(), problem.stats = whole.stats();

  // Everything but the numbers is decided once.
  const fusedattn::plan plan(problem, fusedattn::direction::forward);
  std::printf("%s\n", plan.describe().c_str());
  plan.run();
  auto elsewhere = problem;
  elsewhere.out = again.view(), elsewhere.stats = again.stats();
  plan.run(elsewhere);

  // Half of the keys each, as two machines would hold them; the statistics say how to weigh the halves.
  auto half = problem;
  half.kv_len = kColumns / 2, half.out = left.view(), half.stats = left.stats();
  fusedattn::forward(half);
  half.k = from_column(problem.k, kColumns / 2), half.v = from_column(problem.v, kColumns / 2);
  half.out = right.view(), half.stats = right.stats();
  fusedattn::forward(half);
  const fusedattn::partial parts[] = {{left.view(), left.stats()}, {right.view(), right.stats()}};
  fusedattn::merge({.heads = kHeads, .rows = kRows, .dim_v = kDim, .parts = parts, .result = parts[0]});

  float worst = 0;
  for (std::size_t n = 0; n < whole.out.size(); ++n) worst = std::fmax(worst, std::fabs(whole.out[n] - left.out[n]));
  const bool same = whole.out == again.out;
  std::printf("two runs give the same bits: %s; halves differ from the whole by %.1e\n", same ? "yes" : "no", worst);
  return same && worst < 1e-5f ? 0 : 1;
} catch (const std::exception& refusal) {
  std::fprintf(stderr, "refused: %s\n", refusal.what());
  return 1;
}
