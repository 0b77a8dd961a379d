// The walk over the rows of mask bytes.
#include "run/look.h"

#include <algorithm>
#include <atomic>

namespace fusedattn {
namespace {

constexpr std::int64_t kRowsAtOnce = 64;

struct Walk {
  const Plan& plan;
  RowSight* sights;
  std::atomic<std::int64_t> next = 0;

  static void work(void* argument, std::int32_t) {
    Walk& walk = *static_cast<Walk*>(argument);
    const MaskRows& rows = walk.plan.mask_rows;
    const std::int64_t pieces = (rows.rows + kRowsAtOnce - 1) / kRowsAtOnce;
    for (std::int64_t i; (i = walk.next++) < rows.sequences * rows.heads * pieces;)
      walk.look_at(i / pieces / rows.heads, i / pieces % rows.heads, i % pieces * kRowsAtOnce);
  }

  void look_at(std::int64_t sequence_of_bytes, std::int64_t head, std::int64_t first) const {
    const Problem& p = plan.problem;
    const Bytes& bytes = p.mask.bytes;
    std::int64_t end = std::min(first + kRowsAtOnce, plan.mask_rows.rows), cols = plan.mask_rows.cols;
    RowSight* const to = sights + (sequence_of_bytes * plan.mask_rows.heads + head) * plan.mask_rows.rows;
    if (bytes.whole) return look_at_whole(head, {first, end}, to);
    if (bytes.batch_stride != 0) {
      const Sequence seq = sequence(p, sequence_of_bytes);
      end = std::min(end, seq.q_len), cols = seq.kv_len;
    }
    plan.kernels->look_at_bytes({bytes.data + sequence_of_bytes * bytes.batch_stride + head * bytes.head_stride + first * bytes.row_stride,
                                 bytes.row_stride, end - first, cols, bytes.nonzero_hides, to + first});
  }

  // Each row shows the columns of its own sequence.
  void look_at_whole(std::int64_t head, Range rows, RowSight* to) const {
    const Problem& p = plan.problem;
    const Bytes& bytes = p.mask.bytes;
    for (std::int64_t b = 0; b < p.batch; ++b) {
      const Sequence seq = sequence(p, b);
      const Range own = meet(rows, {seq.q_begin, seq.q_begin + seq.q_len});
      if (own.empty()) continue;
      plan.kernels->look_at_bytes({bytes.data + head * bytes.head_stride + own.begin * bytes.row_stride + seq.kv_begin, bytes.row_stride,
                                   own.size(), seq.kv_len, bytes.nonzero_hides, to + own.begin});
    }
  }
};

}  // namespace

Problem look(const Plan& plan, RowSight* sights, const Team& team) {
  Problem problem = plan.problem;
  const MaskRows& rows = plan.mask_rows;
  if (rows.count() == 0) return problem;
  Walk walk{plan, sights};
  team.run(static_cast<std::int32_t>(std::clamp<std::int64_t>(rows.count() / kRowsAtOnce, 1, std::max<std::int64_t>(1, plan.workers))), &Walk::work, &walk);
  const Bytes& bytes = plan.problem.mask.bytes;
  problem.mask.bytes.sights = {sights, bytes.batch_stride ? rows.heads * rows.rows : 0, bytes.head_stride ? rows.rows : 0,
                               bytes.row_stride ? 1 : 0};
  return problem;
}

}  // namespace fusedattn
