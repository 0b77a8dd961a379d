// One line per call: fusedattn,forward,avx2,float32,b1 h8/8 ...,team openmp:2,12.3 ms,81 GFLOP/s
#include "run/verbose.h"

#include <cstdio>
#include <cstdlib>

#include "plan/describe.h"

namespace fusedattn {

namespace {

const char* setting() {
  static const char* const text = std::getenv("FUSEDATTN_VERBOSE");
  return text != nullptr ? text : "";
}

// -1: none that there is.
int level_in(const char* text) {
  if (*text == '\0') return 0;
  return *text >= '0' && *text <= '2' && text[1] == '\0' ? *text - '0' : -1;
}

// ",pack 2.0 %,scores 40.1 %,softmax 10.2 %,products 44.9 %,rest 2.8 %" of the time that all threads had.
std::string shares(const StageTimes& times, double thread_seconds) {
  std::string text;
  double rest = 100.0;
  const auto add = [&text](const char* name, double share) {
    char part[32];
    std::snprintf(part, sizeof part, ",%s %.1f %%", name, share);
    text += part;
  };
  for (int stage = 0; stage < kStages; ++stage) {
    const double share = thread_seconds > 0 ? static_cast<double>(times.nanoseconds[stage]) * 1e-7 / thread_seconds : 0.0;
    add(kStageNames[stage], share);
    rest -= share;
  }
  add("rest", rest);
  return text;
}

}  // namespace

int verbosity() {
  static const int level = level_in(setting());
  return level > 0 ? level : 0;
}

Status check_verbosity() {
  if (level_in(setting()) >= 0) return {};
  return Status::invalid(std::string("FUSEDATTN_VERBOSE is '") + setting() + "'; accepted: 0, 1 or 2");
}

VerboseLine::VerboseLine(const Plan& plan, const Team& team) : plan_(plan), team_(team) {
  if (verbosity() > 0) start_ = std::chrono::steady_clock::now();
}

VerboseLine::~VerboseLine() {
  if (verbosity() == 0) return;
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  const std::string stages = verbosity() > 1 ? shares(stage_times_, seconds * team_.threads) : "";
  std::fprintf(stderr, "fusedattn,%s,team %s:%d,%.3f ms,%.1f GFLOP/s%s\n", describe(plan_).c_str(), team_.owner(), team_.threads, seconds * 1e3,
               seconds > 0 ? useful_flops(plan_) / seconds * 1e-9 : 0.0, stages.c_str());
}

}  // namespace fusedattn
