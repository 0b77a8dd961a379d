// Walks a plan with a team.
#pragma once
#include "plan/plan.h"
#include "run/parallel.h"

namespace fusedattn {

// `workspace`: plan.workspace_bytes, 64-byte aligned. stage_times: to be added to, or null.
void run_forward(const Plan& plan, void* workspace, const Team& team, StageTimes* stage_times);
void run_backward(const Plan& plan, void* workspace, const Team& team, StageTimes* stage_times);

// Zeros for rows that belong to no sequence (past the last end of a packed tensor).
void zero_tail(const Problem& problem, const View& view, std::int64_t begin, std::int64_t end, std::int64_t heads,
               std::int64_t width);

}  // namespace fusedattn
