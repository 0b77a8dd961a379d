// Runs a backward plan: workers take items from a queue; whoever completes a unit finishes all units that are ready, in order.
//
// Units finish in the order of the plan, one at a time, so sums over splits and over the heads of a group are added in a fixed
// order whoever computes. A unit may start once the unit that used its slot before is finished. Items are taken in order, so
// the first unfinished unit never waits: no deadlock, even when a single thread runs all workers one after another.
#include <algorithm>
#include <atomic>
#include <thread>

#include "run/arithmetic.h"
#include "run/look.h"
#include "run/run.h"

namespace fusedattn {
namespace {

class Walk {
 public:
  Walk(const Plan& plan, const Problem& problem, const BackwardWorkspace& workspace) : plan_(plan), problem_(problem), w_(workspace) {
    for (std::size_t u = 0; u < plan.units.size(); ++u)
      items_left(u).store(static_cast<std::int32_t>(plan.units[u].splits), std::memory_order_relaxed);
  }

  static void work(void* argument, std::int32_t worker) { static_cast<Walk*>(argument)->take_items(worker); }

 private:
  std::atomic_ref<std::int32_t> items_left(std::size_t u) { return std::atomic_ref<std::int32_t>(w_.items_left[u]); }

  // Items lie unit after unit; units_ only moves forward.
  void take_items(std::int32_t worker) {
    const Arithmetic arithmetic(Subnormals::zero);
    std::byte* scratch = w_.scratch + w_.stride * static_cast<std::size_t>(worker);
    std::size_t u = 0;
    Range summed;
    for (std::int64_t i; (i = next_item_++) < plan_.items;) {
      for (; i >= plan_.units[u].first_item + plan_.units[u].splits; ++u) summed = {};
      wait_for_slot(static_cast<std::int64_t>(u));
      compute(u, i - plan_.units[u].first_item, summed, scratch);
      if (items_left(u).fetch_sub(1) == 1) finish_ready();
    }
  }

  void wait_for_slot(std::int64_t u) {
    while (finished_.load(std::memory_order_acquire) <= u - plan_.slots) std::this_thread::yield();
  }

  static Range cols_of(const Unit& unit, std::int64_t split, std::int64_t kv_len) {
    return {split * unit.split_cols, std::min((split + 1) * unit.split_cols, kv_len)};
  }
  float* dq_of(std::size_t u, std::int64_t split) const {
    const std::int64_t slot = static_cast<std::int64_t>(u) % plan_.slots, part = std::min(split, plan_.units[u].parts - 1);
    return problem_.dq.data ? w_.dq + slot * w_.dq_slot + part * w_.dq_stride : nullptr;
  }
  float* dkv_of(std::size_t u) const {
    return w_.dkv_slot ? w_.dkv + static_cast<std::int64_t>(u) % plan_.slots * w_.dkv_slot : nullptr;
  }

  void compute(std::size_t u, std::int64_t split, Range& summed, std::byte* scratch) {
    const Unit& unit = plan_.units[u];
    const std::int64_t kv_len = sequence(problem_, unit.b).kv_len;
    const bool adds = split >= unit.parts;
    plan_.kernels->backward(problem_, {unit.b, unit.head, cols_of(unit, split, kv_len), unit.scores_before, dq_of(u, split), adds, dkv_of(u), &summed}, scratch);
  }

  // One thread finishes at a time. A unit that becomes ready while another thread leaves the loop below is seen by the second look.
  void finish_ready() {
    do {
      if (finishing_.exchange(true)) return;
      while (first_is_ready()) {
        finish(static_cast<std::size_t>(finished_.load(std::memory_order_relaxed)));
        finished_.fetch_add(1, std::memory_order_release);
      }
      finishing_.store(false);
    } while (first_is_ready());
  }

  bool first_is_ready() {
    const std::int64_t u = finished_.load();
    return u < static_cast<std::int64_t>(plan_.units.size()) &&
           items_left(static_cast<std::size_t>(u)).load() == 0;
  }

  void finish(std::size_t u) {
    const Unit& unit = plan_.units[u];
    const Problem& p = problem_;
    const Sequence seq = sequence(p, unit.b);
    if (p.dq.data != nullptr) sum_splits(u, seq);
    if (w_.dkv_slot) add_to_group(u, seq);
  }

  // dq: rows that see the same splits at a time.
  void sum_splits(std::size_t u, const Sequence& seq) {
    const Unit& unit = plan_.units[u];
    const Problem& p = problem_;
    const Sight sight = sight_of(p, unit.b);
    for (Range rows; rows.end < seq.q_len;) {
      rows = {rows.end, seq.q_len};
      const float* parts[kMostSplits];
      std::int64_t count = 0;
      for (std::int64_t split = 0; split < unit.parts; ++split) {
        const Range seeing = sight.rows(cols_of(unit, split, seq.kv_len), seq.q_len);
        if (seeing.end <= rows.begin) continue;
        if (seeing.begin <= rows.begin) parts[count++] = dq_of(u, split);
        rows.end = std::min(rows.end, seeing.begin <= rows.begin ? seeing.end : seeing.begin);
      }
      plan_.kernels->reduce(p.dtype, {parts, count, p.dim, rows, p.scale, row_of(p, p.dq, unit.b, unit.head, seq.q_begin), p.dq.row_stride});
    }
  }

  // dk and dv of a key head: the sum over its query heads, rounded when the last has come.
  void add_to_group(std::size_t u, const Sequence& seq) {
    const Unit& unit = plan_.units[u];
    const Problem& p = problem_;
    const bool first = unit.head % p.group() == 0, last = (unit.head + 1) % p.group() == 0;
    const float* parts[2] = {first ? dkv_of(u) : w_.dkv_sum, dkv_of(u)};
    const float* values[2] = {parts[0] + seq.kv_len * leading(p.dim), parts[1] + seq.kv_len * leading(p.dim)};
    const std::int64_t count = first ? 1 : 2, kv_head = unit.head / p.group();
    const auto add = [&](const float* const* from, std::int64_t width, const View& view, float* sum) {
      if (view.data == nullptr) return;
      const Range rows{0, seq.kv_len};
      if (!last)
        plan_.kernels->reduce(Dtype::f32, {from, count, width, rows, 1.0f, reinterpret_cast<std::byte*>(sum), leading(width)});
      else
        plan_.kernels->reduce(p.dtype, {from, count, width, rows, 1.0f, row_of(p, view, unit.b, kv_head, seq.kv_begin), view.row_stride});
    };
    add(parts, p.dim, p.dk, w_.dkv_sum);
    add(values, p.dim_v, p.dv, w_.dkv_sum + seq.kv_len * leading(p.dim));
  }

  const Plan& plan_;
  const Problem& problem_;
  const BackwardWorkspace w_;
  std::atomic<std::int64_t> next_item_ = 0, finished_ = 0;
  std::atomic<bool> finishing_ = false;
};

// The gradients of bias and sink: each item, each head owns its part.
class Terms {
 public:
  Terms(const Plan& plan, const Problem& problem, const BackwardWorkspace& workspace) : plan_(plan), problem_(problem), w_(workspace) {}

  static void work(void* argument, std::int32_t worker) { static_cast<Terms*>(argument)->take_items(worker); }

 private:
  void take_items(std::int32_t worker) {
    const Arithmetic arithmetic(Subnormals::zero);
    std::byte* const scratch = w_.scratch + w_.stride * static_cast<std::size_t>(worker);
    const Problem& p = problem_;
    for (std::size_t i; (i = next_item_++) < plan_.bias_items.size();) plan_.kernels->bias_gradient(p, plan_.bias_items[i], scratch);
    if (p.d_sink == nullptr) return;
    for (std::int64_t head; (head = next_head_++) < p.q_heads;) p.d_sink[head] = plan_.kernels->sink_gradient(p, head, scratch);
  }

  const Plan& plan_;
  const Problem& problem_;
  const BackwardWorkspace& w_;
  std::atomic<std::size_t> next_item_ = 0;
  std::atomic<std::int64_t> next_head_ = 0;
};

}  // namespace

void run_backward(const Plan& plan, void* workspace, const Team& team, StageTimes* stage_times) {
  Arena arena(workspace);
  const BackwardWorkspace w = lay_backward(plan, arena);
  Problem p = look(plan, w.sights, team);
  p.stage_times = stage_times;
  Walk walk(plan, p, w);
  team.run(static_cast<std::int32_t>(plan.workers), &Walk::work, &walk);
  if (p.d_bias.data != nullptr || p.d_sink != nullptr) {
    Terms terms(plan, p, w);
    team.run(static_cast<std::int32_t>(std::max<std::int64_t>(1, plan.workers)), &Terms::work, &terms);
  }
  if (!p.packed()) return;
  const std::int64_t q_end = p.batch ? p.q_ends[p.batch - 1] : 0, kv_end = p.batch ? p.kv_ends[p.batch - 1] : 0;
  zero_tail(p, p.dq, q_end, p.q_len, p.q_heads, p.dim);
  zero_tail(p, p.dk, kv_end, p.kv_len, p.kv_heads, p.dim);
  zero_tail(p, p.dv, kv_end, p.kv_len, p.kv_heads, p.dim_v);
}

}  // namespace fusedattn
