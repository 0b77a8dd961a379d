// The lanes (instruction sets) built into this library, and which one runs.
#pragma once
#include <string>
#include <vector>

#include "kernel/kernels.h"
#include "problem/status.h"

namespace fusedattn {

struct Lane {
  const Kernels* kernels;
  const char* refusal;  // "" if this machine runs it, else why not
};

// Best first; the last one runs everywhere.
const std::vector<Lane>& lanes();

// The lane named; for null or "" the one FUSEDATTN_ISA names, or else the best. A lane that does not run here is refused.
Status choose_lane(const char* name, const Kernels*& kernels);

}  // namespace fusedattn
