// FUSEDATTN_VERBOSE=1: one line per call on standard error.
#pragma once
#include <chrono>

#include "plan/plan.h"
#include "run/parallel.h"

namespace fusedattn {

bool verbose();

// Prints the line when it goes out of scope: the plan, the team, the time, the rate.
class VerboseLine {
 public:
  VerboseLine(const Plan& plan, const Team& team);
  ~VerboseLine();
  VerboseLine(const VerboseLine&) = delete;
  VerboseLine& operator=(const VerboseLine&) = delete;

 private:
  const Plan& plan_;
  const Team& team_;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace fusedattn
