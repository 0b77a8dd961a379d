#include "operators/score/constraints.h"
#include "operators/score/plan.h"

namespace fusedattn::cann::score {
namespace {

// A call whose outputs are all empty.
class Nothing final : public Call {
 public:
  std::uint64_t workspace_bytes() const override { return 0; }
  Outcome run(void*, const Addresses&) override { return {}; }
};

}  // namespace

aclnnStatus phase_one(const Arguments& given, std::uint64_t* workspace_size, aclOpExecutor** executor) {
  return guarded(given.function, [&]() -> int {
    if (workspace_size == nullptr || executor == nullptr)
      return no_results(given.function, workspace_size);
    const Request request(given);
    const Facts facts(request);
    if (Outcome outcome = check(facts); !outcome.ok()) return report(outcome);
    std::unique_ptr<Call> call = std::make_unique<Nothing>();
    if (!all_empty(facts))
      if (Outcome outcome = make_call(facts, call); !outcome.ok()) return report(outcome);
    return finish_phase_one(given.function, std::move(call), request.operands(), workspace_size, executor);
  });
}

}  // namespace fusedattn::cann::score
