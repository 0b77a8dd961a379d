#include "operators/score/plan.h"

#include <cstring>

namespace fusedattn::cann::score {
namespace {

void write(void* field, void* address) { std::memcpy(field, &address, sizeof address); }  // of whatever type the pointer is

}  // namespace

ScoreCall::ScoreCall(const Facts& f)
    : function_(f.r.given.function), backward_(f.backward), own_scratch_(f.r.given.upper_bound) {
  fusedattn_problem_init(&problem);
}

void ScoreCall::add(Binding binding) {
  if (binding.planned == nullptr) binding.planned = placeholder(bindings_.size());
  write(binding.field, binding.planned);
  bindings_.push_back(binding);
}

void ScoreCall::bind(void* field, const Slot& slot, std::int64_t past) {
  const std::int64_t offset = slot->offset * bytes_of(slot->dtype) + past;
  void* planned = slot->data != nullptr ? static_cast<std::byte*>(slot->data) + offset : nullptr;
  add({field, slot.source, offset, false, planned});
}

void ScoreCall::bind_staged(void* field, std::int64_t staged) { add({field, {}, staged, true, nullptr}); }

Outcome ScoreCall::plan() {
  fusedattn_plan* made = nullptr;
  const fusedattn_status status = fusedattn_plan_create(&problem, backward_ ? FUSEDATTN_BACKWARD : FUSEDATTN_FORWARD, nullptr, &made);
  if (status != FUSEDATTN_OK) return library_outcome(function_, status);
  plan_.reset(made);
  if (own_scratch_) return {};
  const auto bytes = static_cast<std::int64_t>(fusedattn_plan_workspace(made));
  scratch_bytes_ = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  return {};
}

// The library's scratch, then the staging area; and room to align both.
std::uint64_t ScoreCall::workspace_bytes() const {
  const std::int64_t bytes = scratch_bytes_ + staging.bytes();
  return static_cast<std::uint64_t>(bytes > 0 ? bytes + kAlignment : 0);
}

bool ScoreCall::point(std::byte* staged, const Addresses& at) {
  bool as_planned = true;
  for (const Binding& binding : bindings_) {
    std::byte* start = binding.staged ? staged : static_cast<std::byte*>(binding.source.block(at));
    write(binding.field, start + binding.offset);
    as_planned = as_planned && start + binding.offset == binding.planned;
  }
  return as_planned;
}

Outcome ScoreCall::run(void* workspace, const Addresses& at) {
  std::byte* scratch = aligned(workspace);
  std::byte* staged = scratch + scratch_bytes_;
  staging.gather(staged, at);
  if (!plan_) return {};
  const bool as_planned = point(staged, at);
  const auto bytes = static_cast<std::size_t>(scratch_bytes_);
  const fusedattn_status status = fusedattn_plan_run(plan_.get(), as_planned ? nullptr : &problem, bytes > 0 ? scratch : nullptr, bytes);
  if (status != FUSEDATTN_OK) return library_outcome(function_, status);
  staging.scatter(staged, at);
  return {};
}

}  // namespace fusedattn::cann::score
