// One line per call: fusedattn,forward,avx2,float32,b1 h8/8 ...,team openmp:2,12.3 ms,81 GFLOP/s
#include "run/verbose.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "plan/describe.h"

namespace fusedattn {

bool verbose() {
  static const char* const setting = std::getenv("FUSEDATTN_VERBOSE");
  static const bool on = setting != nullptr && *setting != '\0' && std::strcmp(setting, "0") != 0;
  return on;
}

VerboseLine::VerboseLine(const Plan& plan, const Team& team) : plan_(plan), team_(team) {
  if (verbose()) start_ = std::chrono::steady_clock::now();
}

VerboseLine::~VerboseLine() {
  if (!verbose()) return;
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  std::fprintf(stderr, "fusedattn,%s,team %s:%d,%.3f ms,%.1f GFLOP/s\n", describe(plan_).c_str(), team_.owner(), team_.threads,
               seconds * 1e3, seconds > 0 ? useful_flops(plan_) / seconds * 1e-9 : 0.0);
}

}  // namespace fusedattn
