// From a problem to its work items, their order and their workspace.
#include "plan/plan.h"

#include <algorithm>
#include <tuple>
#include <utility>
#include <vector>

#include "plan/area.h"

namespace fusedattn {
namespace {

// Lines (rows times heads of a group) of a forward item: many, since an item packs all the keys and values it sees and that
// costs about 1 / (2 * lines) of its products; few enough that every worker has several items to level out differences.
constexpr std::int64_t kMostLines = 1026, kFewestLines = 48, kItemsPerWorker = 4;

// Forward items of few lines against many keys are split along the keys, for as many threads: at this many lines at most, into parts of at
// least so many columns. It depends on the sequence's own shape alone, and so do the bits of the result.
constexpr std::int64_t kSplitLines = 96, kPartCols = 1024;

// Columns of a backward split, about: a block of the kernels, or more where features are wide.
constexpr std::int64_t kSplitCols = 512, kSplitUnit = 64;

// Backward units in flight: enough that no worker waits while small units finish, but no more than this much memory for it.
constexpr std::int64_t kSlotsPerWorker = 4, kSlotBytes = 16 << 20;

std::int64_t divide_up(std::int64_t n, std::int64_t unit) { return (n + unit - 1) / unit; }

std::int64_t rows_per_item(const Problem& p, std::int64_t threads) {
  std::int64_t all_lines = 0;
  for (std::int64_t b = 0; b < p.batch; ++b) all_lines += sequence(p, b).q_len * p.q_heads;
  std::int64_t lines = kMostLines;
  if (threads > 1) lines = std::clamp(all_lines / (threads * kItemsPerWorker), kFewestLines, kMostLines);
  const std::int64_t rows = std::max<std::int64_t>(1, lines / p.group());
  return rows < 6 ? rows : rows / 6 * 6;
}

// The items of a range of rows: one, or one for each part of the columns.
void add_items(const Problem& p, const Sequence& seq, const ForwardItem& whole, Plan& plan) {
  const std::int64_t lines = whole.rows.size() * p.group();
  const std::int64_t parts = seq.q_len * p.group() <= kSplitLines ? std::max<std::int64_t>(1, seq.kv_len / kPartCols) : 1;
  ForwardItem item = whole;
  item.parts = parts, item.first_part = plan.parts;
  const std::int64_t cols = divide_up(divide_up(seq.kv_len, parts), 64) * 64;
  for (item.part = 0; item.part < parts; ++item.part) {
    item.cols = {std::min(item.part * cols, seq.kv_len), item.part + 1 == parts ? seq.kv_len : std::min((item.part + 1) * cols, seq.kv_len)};
    plan.forward_items.push_back(item);
  }
  plan.lines = std::max(plan.lines, lines);
  if (parts == 1) return;
  plan.parts += parts, plan.part_lines = std::max(plan.part_lines, lines);
}

void plan_forward(std::int64_t threads, Plan& plan) {
  const Problem& p = plan.problem;
  const std::int64_t most = rows_per_item(p, threads);
  plan.lines = plan.parts = plan.part_lines = 0;
  std::int64_t scores = 0, scores_before = 0;
  for (std::int64_t b = 0; b < p.batch; ++b) {
    const Sequence seq = sequence(p, b);
    scores_before = scores, scores += seq.q_len * seq.kv_len;
    if (seq.q_len == 0) continue;
    const std::int64_t pieces = divide_up(seq.q_len, most);
    const std::int64_t rows = std::min(most, divide_up(divide_up(seq.q_len, pieces), 6) * 6);
    for (std::int64_t h = 0; h < p.kv_heads; ++h)
      for (std::int64_t i = 0; i < seq.q_len; i += rows)
        add_items(p, seq, {b, h, {i, std::min(i + rows, seq.q_len)}, {}, scores_before, 0, 0, 1}, plan);
  }
  plan.workers = std::min<std::int64_t>(threads, static_cast<std::int64_t>(plan.forward_items.size()));
  if (plan.workers <= 1) return;
  // The costliest first; of the same cost, in the order they are in.
  std::vector<std::pair<std::int64_t, std::size_t>> order;
  for (const ForwardItem& item : plan.forward_items)
    order.emplace_back(-visible_area(sight_of(p, item.b), item.rows, sequence(p, item.b).kv_len) / item.parts, order.size());
  if (!p.sequences_differ() && order.front().first == order.back().first) return;
  std::sort(order.begin(), order.end());
  std::vector<ForwardItem> sorted;
  for (const auto& [cost, index] : order) sorted.push_back(plan.forward_items[index]);
  plan.forward_items.swap(sorted);
}

// Whether one worker may add the dq of each split to the sum of those before, bit for bit what parts summed up later are: if each row gets
// something from each split, as a single sum. With parts [1,1,4096,128] writes and reads 16 MiB beside the 2 of a sum.
bool adds_in_turn(const Plan& plan, const Sequence& seq, std::int64_t area, std::int64_t split_cols) {
  const Tile tile = plan.kernels->backward_tile(plan.problem);
  return split_cols <= tile.cols && seq.q_len > tile.rows && plan.problem.mask.bytes.data == nullptr && area == seq.q_len * seq.kv_len;
}

void plan_backward(std::int64_t threads, Plan& plan) {
  const Problem& p = plan.problem;
  plan.items = plan.max_q_len = plan.max_kv_len = plan.max_parts = 0;
  std::int64_t scores = 0, scores_before = 0;
  for (std::int64_t b = 0; b < p.batch; ++b) {
    const Sequence seq = sequence(p, b);
    scores_before = scores, scores += seq.q_len * seq.kv_len;
    if (seq.q_len == 0 && seq.kv_len == 0) continue;
    const std::int64_t area = visible_area(sight_of(p, b), {0, seq.q_len}, seq.kv_len);
    const std::int64_t wanted = std::clamp<std::int64_t>((seq.kv_len + kSplitCols / 2) / kSplitCols, 1, kMostSplits);
    const std::int64_t split_cols = divide_up(divide_up(std::max<std::int64_t>(seq.kv_len, 1), wanted), kSplitUnit) * kSplitUnit;
    const std::int64_t splits = std::max<std::int64_t>(1, divide_up(seq.kv_len, split_cols));
    plan.max_q_len = std::max(plan.max_q_len, seq.q_len);
    plan.max_kv_len = std::max(plan.max_kv_len, seq.kv_len);
    const std::int64_t parts = threads <= 1 && adds_in_turn(plan, seq, area, split_cols) ? 1 : splits;
    plan.max_parts = std::max(plan.max_parts, parts);
    for (std::int64_t n = 0; n < p.q_heads; ++n) plan.units.push_back({b, n, area, scores_before, 0, splits, split_cols, parts});
  }
  if (p.sequences_differ() && threads > 1)
    std::sort(plan.units.begin(), plan.units.end(), [](const Unit& x, const Unit& y) {
      return std::tuple(-x.cost, x.b, x.head) < std::tuple(-y.cost, y.b, y.head);
    });
  for (Unit& unit : plan.units) {
    unit.first_item = plan.items;
    plan.items += unit.splits;
  }
  plan.workers = std::min(threads, plan.items);
  const std::int64_t unit_bytes = plan.max_parts * plan.max_q_len * leading(p.dim) * 4;
  const std::int64_t affordable = kSlotBytes / std::max<std::int64_t>(1, unit_bytes);
  plan.slots = plan.workers <= 1 ? 1 : std::clamp(affordable, plan.workers, kSlotsPerWorker * plan.workers);
  plan.slots = std::min<std::int64_t>(plan.slots, static_cast<std::int64_t>(plan.units.size()));
}

MaskRows rows_with_bytes(const Problem& p) {
  const Bytes& bytes = p.mask.bytes;
  if (bytes.data == nullptr) return {};
  const std::int64_t heads = bytes.head_stride ? p.q_heads : 1;
  if (bytes.whole) return {1, heads, p.q_len, p.kv_len};
  const Lengths longest = longest_of(p);
  return {bytes.batch_stride ? p.batch : 1, heads, bytes.row_stride ? longest.rows : std::min<std::int64_t>(longest.rows, 1), longest.cols};
}

// A part of the bias for each item; axes that the bias repeats are summed within one.
void plan_bias_gradient(Plan& plan) {
  const Problem& p = plan.problem;
  if (p.d_bias.data == nullptr) return;
  const Lengths longest = longest_of(p);
  const Tile tile = plan.kernels->backward_tile(p);
  const auto pieces = [](bool repeated, std::int64_t size, std::int64_t step, const auto& visit) {
    if (repeated) return visit(Range{0, size});
    for (std::int64_t i = 0; i < size; i += step) visit(Range{i, std::min(i + step, size)});
  };
  std::int64_t scores_before = 0;
  pieces(p.bias.batch_stride == 0, p.batch, 1, [&](Range batch) {
    pieces(p.bias.head_stride == 0, p.q_heads, 1, [&](Range heads) {
      pieces(p.bias.row_stride == 0, longest.rows, tile.rows, [&](Range rows) {
        pieces(false, longest.cols, tile.cols, [&](Range cols) { plan.bias_items.push_back({batch, heads, rows, cols, scores_before}); });
      });
    });
    if (!batch.empty()) scores_before += sequence(p, batch.begin).q_len * sequence(p, batch.begin).kv_len;
  });
  plan.workers = std::max<std::int64_t>(1, plan.workers);
}

}  // namespace

std::int64_t visible_area(const Problem& p) {
  const bool differ = p.sequences_differ();
  std::int64_t area = 0;
  for (std::int64_t b = 0; b < (differ ? p.batch : std::min<std::int64_t>(p.batch, 1)); ++b) {
    const Sequence seq = sequence(p, b);
    area += visible_area(sight_of(p, b), {0, seq.q_len}, seq.kv_len);
  }
  return area * p.q_heads * (differ ? 1 : p.batch);
}

ForwardWorkspace lay_forward(const Plan& plan, Arena& arena) {
  ForwardWorkspace w;
  w.sights = arena.take<RowSight>(static_cast<std::size_t>(plan.mask_rows.count()));
  w.stride = plan.lines ? plan.kernels->forward_scratch(plan.problem, plan.lines) : 0;
  w.scratch = arena.take<std::byte>(w.stride * static_cast<std::size_t>(plan.workers));
  w.parts.stride = plan.parts ? plan.kernels->forward_part(plan.problem, plan.part_lines) : 0;
  w.parts.data = arena.take<std::byte>(w.parts.stride * static_cast<std::size_t>(plan.parts));
  w.parts_left = arena.take<std::int32_t>(static_cast<std::size_t>(plan.parts));
  return w;
}

BackwardWorkspace lay_backward(const Plan& plan, Arena& arena) {
  const Problem& p = plan.problem;
  BackwardWorkspace w;
  w.sights = arena.take<RowSight>(static_cast<std::size_t>(plan.mask_rows.count()));
  w.stride = plan.items ? plan.kernels->backward_scratch(p, plan.max_q_len) : 0;
  if (!plan.bias_items.empty()) w.stride = plan.kernels->bias_scratch(p, plan.max_q_len);
  w.scratch = arena.take<std::byte>(w.stride * static_cast<std::size_t>(plan.workers));
  w.dq_stride = p.dq.data ? plan.max_q_len * leading(p.dim) : 0;
  w.dq_slot = w.dq_stride * plan.max_parts;
  w.dkv_slot = plan.sums_over_group() ? plan.max_kv_len * (leading(p.dim) + leading(p.dim_v)) : 0;
  w.dq = arena.take<float>(static_cast<std::size_t>(w.dq_slot * plan.slots));
  w.dkv = arena.take<float>(static_cast<std::size_t>(w.dkv_slot * plan.slots));
  w.dkv_sum = arena.take<float>(static_cast<std::size_t>(w.dkv_slot));
  w.items_left = arena.take<std::int32_t>(plan.units.size());
  return w;
}

void make_plan(const Problem& problem, Direction direction, const Kernels& kernels, std::int64_t threads, Plan& plan) {
  plan.problem = problem;
  plan.direction = direction;
  plan.kernels = &kernels;
  plan.forward_items.clear();
  plan.units.clear();
  plan.bias_items.clear();
  plan.mask_rows = rows_with_bytes(problem);
  Arena measure;
  if (direction == Direction::forward) {
    plan_forward(threads, plan);
    lay_forward(plan, measure);
  } else {
    plan_backward(threads, plan);
    plan_bias_gradient(plan);
    lay_backward(plan, measure);
  }
  plan.workspace_bytes = measure.used();
}

}  // namespace fusedattn
