// calls.h: calls of the library as the tests make them, on a named lane, with a refusal turned into a complaint.
#ifndef FUSEDATTN_TESTS_CALLS_H
#define FUSEDATTN_TESTS_CALLS_H

#include <fusedattn/fusedattn.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "check.h"

namespace fusedattn::tests {

inline fusedattn_options options_for(const char* lane, int32_t threads = 1) {
  fusedattn_options options;
  fusedattn_options_init(&options);
  options.lane = lane, options.threads = threads;
  return options;
}

inline bool succeeds(fusedattn_status status) {
  if (status != FUSEDATTN_OK) {
    check::complain(__FILE__, __LINE__, "status " + std::to_string(status) + ": " + fusedattn_last_error());
  }
  return status == FUSEDATTN_OK;
}

// Forward, then backward with what the forward left.
inline bool run_both(const fusedattn_problem& problem, const fusedattn_options& options) {
  return succeeds(fusedattn_forward(&problem, &options)) && succeeds(fusedattn_backward(&problem, &options));
}

// The lanes this machine runs whose name begins with FUSEDATTN_TEST_LANES, where that is set. The others are reported
// as skipped, with the reason, once per name of a test.
inline std::vector<std::string> runnable_lanes(const std::string& test) {
  const char* const wanted = std::getenv("FUSEDATTN_TEST_LANES");
  std::vector<std::string> lanes;
  for (int32_t index = 0; index < fusedattn_lane_count(); ++index) {
    const std::string name = fusedattn_lane_name(index), refusal = fusedattn_lane_refusal(index);
    if (wanted != nullptr && name.rfind(wanted, 0) != 0) {
      check::skip(test + " on lane " + name, std::string("FUSEDATTN_TEST_LANES is ") + wanted);
    } else if (refusal.empty()) {
      lanes.push_back(name);
    } else {
      check::skip(test + " on lane " + name, refusal);
    }
  }
  return lanes;
}

}  // namespace fusedattn::tests
#endif
