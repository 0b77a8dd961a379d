// numerics_test.cc: every case, on every lane this machine runs, in every type, forward and backward, against the
// reference.
#include <cstdlib>

#include "calls.h"
#include "golden.h"
#include "term_cases.h"

using namespace fusedattn::tests;

namespace {

void hold_to_reference(const Case& c, int32_t dtype, const std::vector<std::string>& lanes) {
  const std::vector<GoldenHead> golden = golden_of(Tensors(c, dtype));
  for (const std::string& lane : lanes) {
    check::run(c.name + "/" + format_of(dtype).name + "/" + lane, [&] {
      const Tensors t(c, dtype);
      if (!run_both(t.problem(), options_for(lane.c_str()))) return;
      compare_forward(t, golden, tolerance_of(lane, dtype));
      compare_backward(t, golden, tolerance_of(lane, dtype));
    });
  }
}

}  // namespace

// An argument of the program selects the cases whose name contains it; FUSEDATTN_TEST_MFLOPS leaves out the larger
// ones.
int main(int argc, char** argv) {
  const std::string filter = argc > 1 ? argv[1] : "";
  const char* most = std::getenv("FUSEDATTN_TEST_MFLOPS");
  const double most_flops = most != nullptr ? 1e6 * std::atof(most) : INFINITY;
  const std::vector<std::string> lanes = runnable_lanes("numerics");
  std::vector<Case> cases = numerics_cases();
  for (const Case& c : term_cases()) cases.push_back(c);
  for (const Case& c : cases) {
    if (c.name.find(filter) == std::string::npos || forward_flops(c) + backward_flops(c) > most_flops) continue;
    for (const int32_t dtype : {FUSEDATTN_FLOAT32, FUSEDATTN_BFLOAT16, FUSEDATTN_FLOAT16}) {
      hold_to_reference(c, dtype, lanes);
    }
  }
  return check::run_all("");
}
