// FUSEDATTN_VERBOSE=1: one line per call on standard error; 2: with the stages of its time.
#pragma once
#include <chrono>

#include "plan/plan.h"
#include "run/parallel.h"

namespace fusedattn {

// FUSEDATTN_VERBOSE: 0 where it is unset or empty, or anything but "0", "1" and "2", which check_verbosity() refuses.
int verbosity();
Status check_verbosity();

// Prints the line when it goes out of scope: the plan, the team, the time, the rate, and at verbosity 2 the shares of the stages.
class VerboseLine {
 public:
  VerboseLine(const Plan& plan, const Team& team);
  ~VerboseLine();
  VerboseLine(const VerboseLine&) = delete;
  VerboseLine& operator=(const VerboseLine&) = delete;

  // What the call shall add to; null where nobody asks.
  StageTimes* stage_times() { return verbosity() > 1 ? &stage_times_ : nullptr; }

 private:
  const Plan& plan_;
  const Team& team_;
  StageTimes stage_times_;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace fusedattn
