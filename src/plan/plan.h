// Everything decided before a float is read: the lane, who computes what in which order, and the workspace. Integers only.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernel/kernels.h"
#include "plan/arena.h"
#include "problem/problem.h"

namespace fusedattn {

// Backward: one query head of one sequence. Its columns are split into `splits` items of `split_cols` columns, a number that
// depends on the sequence's own shape alone, so that the order of additions never depends on threads or on the batch.
struct Unit {
  std::int64_t b, head, cost, scores_before;
  std::int64_t first_item, splits, split_cols;
  std::int64_t parts;  // of dq: one for each split, or one to which all are added in turn
};

// The most splits of a head: what lets one long head occupy several threads, at the price of one float32 dq for each.
constexpr std::int64_t kMostSplits = 8;

// The rows that have mask bytes of their own: [sequences, heads, rows], the longest ones of `cols` bytes.
struct MaskRows {
  std::int64_t sequences = 0, heads = 0, rows = 0, cols = 0;
  std::int64_t count() const { return sequences * heads * rows; }
};

struct Plan {
  Problem problem;
  Direction direction = Direction::forward;
  const Kernels* kernels = nullptr;
  std::int64_t workers = 1;

  std::vector<ForwardItem> forward_items;  // longest first when there are several workers
  std::int64_t lines = 0;                  // of the largest forward item
  std::int64_t parts = 0, part_lines = 0;  // of items that share their rows with others; lines of the largest

  std::vector<Unit> units;  // longest first if several workers take sequences that differ; the heads of a group one after another
  std::int64_t items = 0;   // of all units
  std::int64_t slots = 0;   // units in flight
  std::int64_t max_q_len = 0, max_kv_len = 0, max_parts = 0;

  std::vector<BiasItem> bias_items;

  MaskRows mask_rows;

  std::size_t workspace_bytes = 0;

  bool sums_over_group() const { return problem.group() > 1 && (problem.dk.data != nullptr || problem.dv.data != nullptr); }
};

// Fills a plan for a checked problem. Reuses the memory that `plan` already holds.
void make_plan(const Problem& problem, Direction direction, const Kernels& kernels, std::int64_t threads, Plan& plan);

// Pairs (row, column) that the bands and the prefix let see each other; bytes are not counted.
std::int64_t visible_area(const Problem& problem);

// The workspace of a forward plan: what the rows of mask bytes show; scratch for each worker; what the parts leave, and, at the first
// part of some rows, how many are still missing.
struct ForwardWorkspace {
  RowSight* sights;
  std::byte* scratch;
  std::size_t stride;
  ForwardParts parts;
  std::int32_t* parts_left;
};
ForwardWorkspace lay_forward(const Plan& plan, Arena& arena);

// The workspace of a backward plan: what the rows of mask bytes show; scratch for each worker; for each slot the partial dq of every split and, when heads are
// summed over a group, the partial dk and dv; their running sum; and how many items each unit still waits for.
struct BackwardWorkspace {
  RowSight* sights;
  std::byte* scratch;
  std::size_t stride;
  float *dq, *dkv, *dkv_sum;
  std::int64_t dq_stride, dq_slot, dkv_slot;
  std::int32_t* items_left;
};
BackwardWorkspace lay_backward(const Plan& plan, Arena& arena);

}  // namespace fusedattn
