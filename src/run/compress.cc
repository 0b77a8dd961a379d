// Runs a compression: weights first, then items from a queue, then the sum of what chunks left for d_weight.
#include "run/compress.h"

#include <algorithm>
#include <atomic>

#include "run/arithmetic.h"

namespace fusedattn {
namespace {

struct Walk {
  const CompressPlan& plan;
  CompressWorkspace workspace;
  std::atomic<std::int64_t> next = 0;

  static void work(void* argument, std::int32_t worker) {
    const Arithmetic arithmetic(Subnormals::kept);
    Walk& walk = *static_cast<Walk*>(argument);
    float* scratch = walk.workspace.scratch + walk.workspace.stride * static_cast<std::size_t>(worker);
    const CompressKernels& kernels = walk.plan.kernels->compress;
    for (std::int64_t i; (i = walk.next++) < walk.plan.items();) {
      const CompressItem item = walk.item(i, scratch);
      if (walk.plan.direction == Direction::forward)
        kernels.forward(walk.plan.problem, item);
      else
        kernels.backward(walk.plan.problem, item);
    }
  }

  CompressItem item(std::int64_t i, float* scratch) const {
    const Compress& p = plan.problem;
    const std::int64_t parts = plan.head_parts() * plan.dim_parts(), chunk = i / parts;
    const std::int64_t head = i % parts / plan.dim_parts() * plan.heads_per_item, d = i % plan.dim_parts() * plan.dims_per_item;
    const auto first = static_cast<std::size_t>(chunk);
    CompressItem item{};
    item.pieces = plan.pieces.data() + plan.chunks[first];
    item.count = plan.chunks[first + 1] - plan.chunks[first];
    item.heads = {head, std::min(head + plan.heads_per_item, p.heads)};
    item.dims = {d, std::min(d + plan.dims_per_item, p.dim)};
    item.slots = plan.slots;
    item.weights = workspace.weights, item.scratch = scratch;
    if (plan.wants_weight()) item.d_weight = workspace.d_weight + chunk * p.heads * p.block;
    return item;
  }
};

}  // namespace

void run_compress(const CompressPlan& plan, void* workspace, const Team& team) {
  const CompressKernels& kernels = plan.kernels->compress;
  const Compress& p = plan.problem;
  Arena arena(workspace);
  Walk walk{plan, lay_compress(plan, arena)};
  if (plan.slots > 0 && p.weight.data != nullptr) kernels.weights(p, walk.workspace.weights);
  if (plan.items() > 0) team.run(static_cast<std::int32_t>(plan.workers), &Walk::work, &walk);
  if (plan.direction == Direction::backward && p.d_weight.data != nullptr)
    kernels.sum_weights(p, walk.workspace.d_weight, plan.wants_weight() ? plan.count() : 0);
}

}  // namespace fusedattn
