// Looks at the mask bytes once, before the tiles do: what each row shows, shared by all heads and blocks that have the same bytes.
#pragma once
#include "plan/plan.h"
#include "run/parallel.h"

namespace fusedattn {

// The problem of the plan, knowing what the rows of its mask bytes show; `sights` is the workspace's piece for that.
Problem look(const Plan& plan, RowSight* sights, const Team& team);

}  // namespace fusedattn
