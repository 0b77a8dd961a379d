// Walks the plan of a compression with a team.
#pragma once
#include "plan/compress.h"
#include "run/parallel.h"

namespace fusedattn {

// `workspace`: plan.workspace_bytes, 64-byte aligned.
void run_compress(const CompressPlan& plan, void* workspace, const Team& team);

}  // namespace fusedattn
