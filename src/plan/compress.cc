// From a compression to its chunks of segments, its items and its workspace.
#include "plan/compress.h"

#include <algorithm>

namespace fusedattn {
namespace {

// Scratch of an item: it is gone through once for every 8 rows of tokens, and shares the second-level cache with them.
constexpr std::int64_t kScratchBytes = 128 * 1024;

// Segments of a backward chunk: enough that its sums are few beside its tokens, few enough that float32 sums stay exact to some
// 1e-6.
constexpr std::int64_t kFewestSegments = 16, kMostSegments = 256, kManyChunks = 64;

// Forward chunks read depth - 1 segments that others read too: at most an eighth of their own.
constexpr std::int64_t kOwnSegments = 8, kItemsPerWorker = 4;

// Below so many elements another thread costs more than it brings.
constexpr std::int64_t kElementsPerWorker = 32 * 1024;

std::int64_t divide_up(std::int64_t n, std::int64_t unit) { return (n + unit - 1) / unit; }

// Cuts sequences into pieces, and pieces into chunks of about `most` segments.
class Cutter {
 public:
  Cutter(CompressPlan& plan, std::int64_t most) : plan_(plan), most_(most) { plan_.chunks = {0}; }

  // A sequence; forward: its windows, and whatever segments they need; backward: its segments, and the tokens in no window.
  void cut(const Range& tokens, std::int64_t row) {
    const Compress& p = plan_.problem;
    const bool forward = plan_.direction == Direction::forward;
    const std::int64_t windows = windows_of(tokens.size(), p.block, p.stride), more = p.depth() - 1;
    const std::int64_t steps = windows == 0 ? 0 : windows + (forward ? 0 : more);
    for (std::int64_t begin = 0; begin < steps;) {
      const std::int64_t end = std::min(steps, begin + most_ - used_);
      CompressPiece piece{tokens.begin, row, windows, {begin, forward ? end + more : end}, {0, windows}, {}};
      if (forward) piece.shown = {begin, end};
      add(piece, end - begin);
      begin = end;
    }
    const std::int64_t bare = windows == 0 ? tokens.begin : tokens.begin + (windows - 1) * p.stride + p.block;
    if (!forward) clear({bare, tokens.end});
  }

  // Tokens of no sequence.
  void cut_tail(const Range& tokens) { clear(tokens); }

  void finish() {
    if (plan_.chunks.back() < static_cast<std::int64_t>(plan_.pieces.size())) close();
  }

 private:
  void clear(const Range& tokens) {
    CompressPiece piece;
    piece.bare = tokens;
    if (!tokens.empty()) add(piece, divide_up(tokens.size(), plan_.problem.stride));
  }
  void add(const CompressPiece& piece, std::int64_t segments) {
    plan_.pieces.push_back(piece);
    used_ += segments;
    if (used_ >= most_) close();
  }
  void close() {
    plan_.chunks.push_back(static_cast<std::int64_t>(plan_.pieces.size()));
    used_ = 0;
  }

  CompressPlan& plan_;
  const std::int64_t most_;
  std::int64_t used_ = 0;
};

struct Sizes {
  std::int64_t windows = 0, segments = 0, longest = 0;  // of all sequences; windows of the longest
};

Sizes sizes_of(const Compress& p) {
  Sizes sizes;
  for (std::int64_t b = 0; b < p.sequences; ++b) {
    const std::int64_t windows = windows_of(tokens_of(p, b).size(), p.block, p.stride);
    if (windows == 0) continue;
    sizes.windows += windows, sizes.segments += windows + p.depth() - 1;
    sizes.longest = std::max(sizes.longest, windows);
  }
  return sizes;
}

std::int64_t segments_per_chunk(const CompressPlan& plan, const Sizes& sizes) {
  if (plan.direction == Direction::backward) return std::clamp(sizes.segments / kManyChunks, kFewestSegments, kMostSegments);
  const std::int64_t least = kOwnSegments * std::min(plan.problem.depth(), std::max<std::int64_t>(1, sizes.longest));
  return std::max(
      {least, plan.workers > 1 ? divide_up(sizes.windows, plan.workers * kItemsPerWorker) : sizes.windows, std::int64_t{1}});
}

// Heads of an item, and features when one head alone is too large. The backward sums over features, and never cuts them.
void size_items(CompressPlan& plan) {
  const Compress& p = plan.problem;
  plan.heads_per_item = p.heads, plan.dims_per_item = p.dim;
  if (plan.slots == 0) return;
  const std::int64_t one = static_cast<std::int64_t>(compress_scratch(p, 1, p.dim, plan.slots, plan.direction)) * 4;
  plan.heads_per_item = std::clamp(kScratchBytes / one, std::int64_t{1}, p.heads);
  if (plan.direction == Direction::forward && one > kScratchBytes)
    plan.dims_per_item = std::min(p.dim, std::max<std::int64_t>(64, kScratchBytes / 4 / plan.slots / 64 * 64));
}

}  // namespace

CompressPlan plan_compress(const Compress& problem, Direction direction, const Kernels& kernels, std::int64_t threads) {
  CompressPlan plan;
  plan.problem = problem, plan.direction = direction, plan.kernels = &kernels;
  const Compress& p = plan.problem;
  const Sizes sizes = sizes_of(p);
  plan.slots = std::min(p.depth(), sizes.longest);
  const double elements = static_cast<double>(p.tokens) * static_cast<double>(p.heads) * static_cast<double>(p.dim);
  plan.workers = static_cast<std::int64_t>(std::min(static_cast<double>(threads), 1.0 + elements / kElementsPerWorker));
  size_items(plan);
  Cutter cutter(plan, segments_per_chunk(plan, sizes));
  std::int64_t row = 0;
  for (std::int64_t b = 0; b < p.sequences; ++b) {
    const Range tokens = tokens_of(p, b);
    cutter.cut(tokens, row);
    row += windows_of(tokens.size(), p.block, p.stride);
  }
  const std::int64_t end = p.sequences ? tokens_of(p, p.sequences - 1).end : 0;
  if (direction == Direction::backward && end < p.tokens) cutter.cut_tail({end, p.tokens});
  cutter.finish();
  plan.workers = std::clamp<std::int64_t>(plan.items(), 1, plan.workers);
  Arena arena;
  lay_compress(plan, arena);
  plan.workspace_bytes = arena.used();
  return plan;
}

CompressWorkspace lay_compress(const CompressPlan& plan, Arena& arena) {
  const Compress& p = plan.problem;
  CompressWorkspace workspace{};
  if (plan.slots == 0) return workspace;  // no windows: nothing to compute
  const auto weights = static_cast<std::size_t>(p.heads * p.block);
  workspace.stride = (compress_scratch(p, plan.heads_per_item, plan.dims_per_item, plan.slots, plan.direction) + 15) / 16 * 16;
  workspace.weights = arena.take<float>(weights);
  workspace.scratch = arena.take<float>(workspace.stride * static_cast<std::size_t>(plan.workers));
  workspace.d_weight = arena.take<float>(plan.wants_weight() ? weights * static_cast<std::size_t>(plan.count()) : 0);
  return workspace;
}

}  // namespace fusedattn
