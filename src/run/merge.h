// Joins attention over disjoint sets of columns.
#pragma once
#include <vector>

#include "kernel/kernels.h"
#include "problem/problem.h"
#include "problem/status.h"

namespace fusedattn {

struct Partial {
  View out;
  Stats stats;
};

struct Merge {
  Dtype dtype = Dtype::f32;
  std::int64_t batch = 0, heads = 0, rows = 0, dim_v = 0;
  std::vector<Partial> parts;
  Partial result;
};

Status check_merge(const Merge& merge);
void run_merge(const Merge& merge, const Kernels& kernels);

}  // namespace fusedattn
