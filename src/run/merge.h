// Joins attention over disjoint sets of columns.
#pragma once
#include <vector>

#include "kernel/kernels.h"
#include "problem/problem.h"
#include "problem/status.h"
#include "run/parallel.h"

namespace fusedattn {

struct Partial {
  View out;
  Stats stats;
};

struct Merge {
  Dtype dtype = Dtype::f32;
  std::int64_t batch = 0, heads = 0, rows = 0, dim_v = 0;
  const std::int64_t* q_ends = nullptr;  // packed: cumulative ends; what lies behind the last is one more sequence
  bool formula = false;                  // rows in which no part saw anything are not set apart
  bool log_sum_exp = false;              // stats.max holds max + log(sum); there are no sums
  std::vector<Partial> parts;
  Partial result;
};

// Rows of some heads of one sequence. Row 0 is the first of the sequence, which begins at row `begin` of a packed tensor.
struct MergeBlock {
  std::int64_t b, begin, q_len;
  Range heads, rows;
};

// What one worker needs beside its stack.
struct MergeDesk {
  // The statistics of a part along a line of rows.
  struct Line {
    float* max;
    float* sum;  // null: every sum is 1
    std::int64_t step, lanes;
    float max_at(std::int64_t i, std::int64_t lane) const { return max[i * step + lane]; }
    float sum_at(std::int64_t i, std::int64_t lane) const { return sum ? sum[i * step + lane] : 1.0f; }
  };
  bool along_heads;               // the statistics of neighbouring heads lie side by side, not those of neighbouring rows
  std::vector<float> weights;     // of the rows of a block, in that order
  std::int64_t head_step = 0, row_step = 0;
  std::vector<float> max, terms;  // of the rows that are weighed together
  std::vector<Line> lines, ahead;  // as the following: one per part
  std::vector<const std::byte*> outs;
  std::vector<std::int64_t> steps;
  MergeDesk(const Merge& merge, const MergeBlock& largest);
};

// Weighs the parts in every row of a block and writes the statistics of the result.
void weigh(const Merge& merge, const MergeBlock& block, const Kernels& kernels, MergeDesk& desk);

Status check_merge(const Merge& merge);
void run_merge(const Merge& merge, const Kernels& kernels, const Team& team);

}  // namespace fusedattn
