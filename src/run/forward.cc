// Runs a forward plan: workers take items from a queue, longest first. Who completes the last part of some rows merges their parts, in the
// order of the columns whoever computed them.
#include <algorithm>
#include <atomic>
#include <cstring>

#include "run/arithmetic.h"
#include "run/look.h"
#include "run/run.h"

namespace fusedattn {
namespace {

class Walk {
 public:
  Walk(const Plan& plan, const Problem& problem, const ForwardWorkspace& workspace) : plan_(plan), problem_(problem), w_(workspace) {
    for (const ForwardItem& item : plan.forward_items)
      if (item.parts > 1 && item.part == 0) parts_left(item).store(static_cast<std::int32_t>(item.parts), std::memory_order_relaxed);
  }

  static void work(void* argument, std::int32_t worker) { static_cast<Walk*>(argument)->take_items(worker); }

 private:
  std::atomic_ref<std::int32_t> parts_left(const ForwardItem& item) { return std::atomic_ref<std::int32_t>(w_.parts_left[item.first_part]); }

  void take_items(std::int32_t worker) {
    const Arithmetic arithmetic(Subnormals::zero);
    std::byte* const scratch = w_.scratch + w_.stride * static_cast<std::size_t>(worker);
    for (std::size_t i; (i = next_++) < plan_.forward_items.size();) {
      const ForwardItem& item = plan_.forward_items[i];
      plan_.kernels->forward(problem_, item, scratch, w_.parts);
      if (item.parts > 1 && parts_left(item).fetch_sub(1) == 1) plan_.kernels->forward_merge(problem_, item, scratch, w_.parts);
    }
  }

  const Plan& plan_;
  const Problem& problem_;
  const ForwardWorkspace w_;
  std::atomic<std::size_t> next_ = 0;
};

// The rows after the last sequence are a last block of their own where statistics lie in blocks.
void zero_tail_statistics(const Problem& p, std::int64_t begin) {
  const Sequence tail{begin, p.q_len - begin, 0, 0};
  for (std::int64_t head = 0; head < p.q_heads; ++head)
    for (std::int64_t row = begin; row < p.q_len; ++row) {
      const std::int64_t at = stats_offset(p, tail, 0, head, row - begin);
      for (float* statistic : {p.stats.max, p.stats.sum})
        if (statistic != nullptr) std::fill_n(statistic + at, p.stats.lanes, 0.0f);
    }
}

}  // namespace

void zero_tail(const Problem& p, const View& view, std::int64_t begin, std::int64_t end, std::int64_t heads, std::int64_t width) {
  if (view.data == nullptr) return;
  for (std::int64_t head = 0; head < heads; ++head)
    for (std::int64_t row = begin; row < end; ++row)
      std::memset(row_of(p, view, 0, head, row), 0, static_cast<std::size_t>(width) * size_of(p.dtype));
}

void run_forward(const Plan& plan, void* workspace, const Team& team, StageTimes* stage_times) {
  Arena arena(workspace);
  const ForwardWorkspace w = lay_forward(plan, arena);
  Problem p = look(plan, w.sights, team);
  p.stage_times = stage_times;
  Walk walk(plan, p, w);
  team.run(static_cast<std::int32_t>(plan.workers), &Walk::work, &walk);
  if (!p.packed()) return;
  const std::int64_t end = p.batch ? p.q_ends[p.batch - 1] : 0;
  zero_tail(p, p.out, end, p.q_len, p.q_heads, p.dim_v);
  zero_tail_statistics(p, end);
}

}  // namespace fusedattn
