// A checked call of FlashAttentionScore or of its gradient, which waits for addresses alone.
#pragma once
#include <memory>
#include <vector>

#include "meta/executor.h"
#include "operators/library.h"
#include "operators/score/facts.h"
#include "operators/score/masks.h"
#include "operators/staging.h"

namespace fusedattn::cann::score {

// A problem of the library, its plan, and where its addresses come from.
class ScoreCall final : public Call {
 public:
  explicit ScoreCall(const Facts& f);
  Outcome plan();  // after everything is bound

  std::uint64_t workspace_bytes() const override;
  Outcome run(void* workspace, const Addresses& at) override;

  // The address of a field of the problem: where a caller's tensor begins, `past` bytes on, or a place in the staging area.
  void bind(void* field, const Slot& slot, std::int64_t past = 0);
  void bind_staged(void* field, std::int64_t staged);

  fusedattn_problem problem;
  Staging staging;
  MaskArrays mask_arrays;
  std::vector<std::int64_t> q_ends, kv_ends;

 private:
  struct Binding {
    void* field;
    Source source;
    std::int64_t offset;  // bytes from the start of the block, or of the staging area
    bool staged;
    void* planned;
  };
  void add(Binding binding);
  bool point(std::byte* staged, const Addresses& at);  // whether all addresses are those planned with

  struct Destroy {
    void operator()(fusedattn_plan* plan) const { fusedattn_plan_destroy(plan); }
  };
  const char* function_;
  bool backward_, own_scratch_;
  std::int64_t scratch_bytes_ = 0;
  std::vector<Binding> bindings_;
  std::unique_ptr<fusedattn_plan, Destroy> plan_;
};

// The call of a checked request. A call without scores clears its outputs. On failure there is an outcome and no call.
Outcome make_call(const Facts& f, std::unique_ptr<Call>& call);

}  // namespace fusedattn::cann::score
