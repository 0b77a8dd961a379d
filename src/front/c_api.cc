// The functions of fusedattn.h: read, check, plan, run; every failure becomes a status and a sentence.
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "front/failure.h"
#include "front/read.h"
#include "isa/lanes.h"
#include "plan/describe.h"
#include "problem/check.h"
#include "run/run.h"
#include "run/verbose.h"

using namespace fusedattn;

// A plan and what it needs beside: its own copy of the ends, the team, memory when the caller gives none.
struct fusedattn_plan {
  Plan plan;
  Team team;
  std::vector<std::int64_t> q_ends, kv_ends, prefix;
  std::vector<Band> bands;
};

namespace {

// Scratch memory that a thread keeps between calls.
class Memory {
 public:
  void* at_least(std::size_t bytes) {
    if (bytes > size_) {
      data_.reset();
      size_ = 0;
      data_.reset(static_cast<std::byte*>(::operator new(bytes, std::align_val_t{64})));
      size_ = bytes;
    }
    return data_.get();
  }

 private:
  struct Free {
    void operator()(std::byte* p) const { ::operator delete(p, std::align_val_t{64}); }
  };
  std::unique_ptr<std::byte, Free> data_;
  std::size_t size_ = 0;
};

struct Session {
  Plan plan;
  Memory memory;
  bool busy = false;
};
thread_local Session kept;

// What this thread keeps; a session of its own for a call made from inside a running one (by a caller's parallel function).
class Borrowed {
 public:
  Borrowed() : session_(kept.busy ? own_ : kept) { session_.busy = true; }
  ~Borrowed() { session_.busy = false; }
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;
  Session* operator->() { return &session_; }

 private:
  Session own_;
  Session& session_;
};

Status check(const Problem& problem, Direction direction) {
  return direction == Direction::forward ? check_forward(problem) : check_backward(problem);
}

Status plan_into(const fusedattn_problem* from, Direction direction, const fusedattn_options* options, Plan& plan, Team& team) {
  Problem problem;
  Choice choice;
  const Kernels* kernels = nullptr;
  if (Status status = read_problem(from, problem); !status.ok()) return status;
  if (Status status = read_options(options, choice); !status.ok()) return status;
  if (Status status = check(problem, direction); !status.ok()) return status;
  if (Status status = choose_lane(choice.lane, kernels); !status.ok()) return status;
  team = choice.team;
  make_plan(problem, direction, *kernels, team.threads, plan);
  return {};
}

void run(const Plan& plan, void* workspace, const Team& team) {
  VerboseLine line(plan, team);
  if (plan.direction == Direction::forward)
    run_forward(plan, workspace, team, line.stage_times());
  else
    run_backward(plan, workspace, team, line.stage_times());
}

fusedattn_status plan_and_run(const fusedattn_problem* problem, Direction direction, const fusedattn_options* options) {
  return guarded([&]() -> Status {
    Borrowed session;
    Team team;
    if (Status status = plan_into(problem, direction, options, session->plan, team); !status.ok()) return status;
    run(session->plan, session->memory.at_least(session->plan.workspace_bytes), team);
    return {};
  });
}

bool same_strides(const View& a, const View& b) {
  return (a.data == nullptr) == (b.data == nullptr) && a.batch_stride == b.batch_stride && a.head_stride == b.head_stride &&
         a.row_stride == b.row_stride;
}

template <class T>
bool same_numbers(const T* numbers, const T* planned, std::int64_t count) {
  if (numbers == nullptr || planned == nullptr) return numbers == planned;
  return std::equal(planned, planned + count, numbers);
}

// The first field, apart from addresses, in which two problems differ; null if none.
const char* difference(const Problem& a, const Problem& b) {
  const auto elsewhere = [](auto& here, const auto& there) {
    if (here != nullptr && there != nullptr) here = there;
  };
  Mask mask = a.mask;
  elsewhere(mask.bytes.data, b.mask.bytes.data);
  if (a.batch == b.batch && same_numbers(a.mask.bands, b.mask.bands, b.batch)) mask.bands = b.mask.bands;
  if (a.batch == b.batch && same_numbers(a.mask.prefix, b.mask.prefix, b.batch)) mask.prefix = b.mask.prefix;
  Bias bias = a.bias;
  elsewhere(bias.data, b.bias.data);
  Alibi alibi = a.alibi;
  elsewhere(alibi.slopes, b.alibi.slopes);
  Dropout dropout = a.dropout;  // every run may have a stream of its own
  elsewhere(dropout.bits, b.dropout.bits);
  dropout.seed = b.dropout.seed, dropout.offset = b.dropout.offset;
  Stats stats = a.stats;
  stats.max = b.stats.max, stats.sum = b.stats.sum;
  const struct {
    const char* name;
    bool same;
  } fields[] = {{"dtype", a.dtype == b.dtype},
                {"batch", a.batch == b.batch},
                {"q_heads", a.q_heads == b.q_heads},
                {"kv_heads", a.kv_heads == b.kv_heads},
                {"q_len", a.q_len == b.q_len},
                {"kv_len", a.kv_len == b.kv_len},
                {"dim", a.dim == b.dim},
                {"dim_v", a.dim_v == b.dim_v},
                {"scale", a.scale == b.scale},
                {"softcap", a.softcap == b.softcap},
                {"q_ends", a.batch == b.batch && same_numbers(a.q_ends, b.q_ends, b.batch)},
                {"kv_ends", a.batch == b.batch && same_numbers(a.kv_ends, b.kv_ends, b.batch)},
                {"mask", mask == b.mask},
                {"bias", bias == b.bias},
                {"alibi", alibi == b.alibi},
                {"dropout", dropout == b.dropout},
                {"sink", (a.sink == nullptr) == (b.sink == nullptr)},
                {"stats", stats == b.stats},
                {"foreign_stats", a.foreign_stats == b.foreign_stats},
                {"q", same_strides(a.q, b.q)},
                {"k", same_strides(a.k, b.k)},
                {"v", same_strides(a.v, b.v)},
                {"out", same_strides(a.out, b.out)},
                {"d_out", same_strides(a.d_out, b.d_out)},
                {"dq", same_strides(a.dq, b.dq)},
                {"dk", same_strides(a.dk, b.dk)},
                {"dv", same_strides(a.dv, b.dv)},
                {"d_bias", same_strides(a.d_bias, b.d_bias)},
                {"d_sink", (a.d_sink == nullptr) == (b.d_sink == nullptr)}};
  for (const auto& field : fields)
    if (!field.same) return field.name;
  return nullptr;
}

// The problem of a plan at other addresses; the plan itself stays as it is for other threads.
Status rebind(const fusedattn_plan& planned, const fusedattn_problem* from, Plan& plan) {
  Problem problem;
  if (Status status = read_problem(from, problem); !status.ok()) return status;
  if (const char* field = difference(problem, planned.plan.problem))
    return Status::invalid(std::string("problem.") + field + " is not what was planned; accepted: the planned problem at other addresses");
  if (Status status = check(problem, planned.plan.direction); !status.ok()) return status;
  plan = planned.plan;
  problem.q_ends = plan.problem.q_ends, problem.kv_ends = plan.problem.kv_ends;
  problem.mask.bands = plan.problem.mask.bands, problem.mask.prefix = plan.problem.mask.prefix;
  plan.problem = problem;
  return {};
}

// A plan outlives the arrays of its problem: their numbers are copied.
void keep_own(fusedattn_plan& made) {
  Problem& p = made.plan.problem;
  const auto keep = [&p](auto& numbers, auto& own) {
    if (numbers == nullptr) return;
    own.reserve(1);  // an address even for no sequences
    own.assign(numbers, numbers + p.batch);
    numbers = own.data();
  };
  keep(p.q_ends, made.q_ends);
  keep(p.kv_ends, made.kv_ends);
  keep(p.mask.prefix, made.prefix);
  keep(p.mask.bands, made.bands);
}

Status check_workspace(const Plan& plan, const void* workspace, std::size_t bytes) {
  if (reinterpret_cast<std::uintptr_t>(workspace) % 64 != 0) return Status::invalid("workspace is not aligned to 64 bytes; accepted: a multiple of 64");
  if (bytes < plan.workspace_bytes)
    return Status::invalid("workspace_bytes is " + std::to_string(bytes) + "; accepted: at least " + std::to_string(plan.workspace_bytes));
  return {};
}

}  // namespace

extern "C" {

const char* fusedattn_version(void) { return FUSEDATTN_VERSION; }

const char* fusedattn_last_error(void) { return last_error(); }

void fusedattn_problem_init(fusedattn_problem* problem) {
  if (problem == nullptr) return;
  *problem = {};
  problem->struct_size = sizeof *problem;
  problem->scale = problem->dropout.keep_prob = 1.0;
  problem->mask.top_left = problem->mask.bottom_right = {FUSEDATTN_UNBOUNDED, FUSEDATTN_UNBOUNDED};
}

void fusedattn_options_init(fusedattn_options* options) {
  if (options == nullptr) return;
  *options = {};
  options->struct_size = sizeof *options;
}

fusedattn_status fusedattn_forward(const fusedattn_problem* problem, const fusedattn_options* options) {
  return plan_and_run(problem, Direction::forward, options);
}

fusedattn_status fusedattn_backward(const fusedattn_problem* problem, const fusedattn_options* options) {
  return plan_and_run(problem, Direction::backward, options);
}

fusedattn_status fusedattn_plan_create(const fusedattn_problem* problem, int32_t direction, const fusedattn_options* options,
                                       fusedattn_plan** plan) {
  return guarded([&]() -> Status {
    if (plan == nullptr) return Status::invalid("plan is NULL; accepted: the address of a fusedattn_plan pointer");
    *plan = nullptr;
    if (direction != FUSEDATTN_FORWARD && direction != FUSEDATTN_BACKWARD)
      return Status::invalid("direction is " + std::to_string(direction) + "; accepted: 0 (forward), 1 (backward)");
    auto made = std::make_unique<fusedattn_plan>();
    if (Status status = plan_into(problem, static_cast<Direction>(direction), options, made->plan, made->team); !status.ok()) return status;
    keep_own(*made);
    *plan = made.release();
    return {};
  });
}

size_t fusedattn_plan_workspace(const fusedattn_plan* plan) { return plan ? plan->plan.workspace_bytes : 0; }

fusedattn_status fusedattn_plan_run(const fusedattn_plan* plan, const fusedattn_problem* problem, void* workspace, size_t workspace_bytes) {
  return guarded([&]() -> Status {
    if (plan == nullptr) return Status::invalid("plan is NULL; accepted: a plan from fusedattn_plan_create");
    if (workspace != nullptr)
      if (Status status = check_workspace(plan->plan, workspace, workspace_bytes); !status.ok()) return status;
    Borrowed session;
    if (problem != nullptr)
      if (Status status = rebind(*plan, problem, session->plan); !status.ok()) return status;
    const Plan& bound = problem != nullptr ? session->plan : plan->plan;
    run(bound, workspace != nullptr ? workspace : session->memory.at_least(bound.workspace_bytes), plan->team);
    return {};
  });
}

void fusedattn_plan_destroy(fusedattn_plan* plan) { delete plan; }

size_t fusedattn_describe(const fusedattn_plan* plan, char* text, size_t size) {
  std::string words;
  if (guarded([&]() -> Status {
        if (plan == nullptr) return Status::invalid("plan is NULL; accepted: a plan from fusedattn_plan_create");
        words = describe(plan->plan) + ",team " + plan->team.owner() + ":" + std::to_string(plan->team.threads);
        return {};
      }) != FUSEDATTN_OK)
    words.clear();
  if (text != nullptr && size > 0) {
    const std::size_t n = std::min(size - 1, words.size());
    std::memcpy(text, words.data(), n);
    text[n] = '\0';
  }
  return words.size();
}

fusedattn_status fusedattn_dropout_bits(const fusedattn_dropout* from, int64_t count, uint8_t* bits) {
  return guarded([&]() -> Status {
    if (from == nullptr) return Status::invalid("dropout is NULL; accepted: the address of a fusedattn_dropout");
    if (count < 0) return Status::invalid("count is " + std::to_string(count) + "; accepted: 0 or more elements");
    if (bits == nullptr && count > 0) return Status::invalid("bits is NULL; accepted: the address of (count + 7) / 8 bytes");
    Dropout dropout;
    if (Status status = read_dropout(*from, dropout); !status.ok()) return status;
    const Kernels* kernels = nullptr;
    if (Status status = choose_lane(nullptr, kernels); !status.ok()) return status;
    kernels->dropout_bits(dropout, count, bits);
    return {};
  });
}

fusedattn_status fusedattn_merge(const fusedattn_merge_problem* problem, const fusedattn_options* options) {
  return guarded([&]() -> Status {
    Merge merge;
    Choice choice;
    const Kernels* kernels = nullptr;
    if (Status status = read_merge(problem, merge); !status.ok()) return status;
    if (Status status = read_options(options, choice); !status.ok()) return status;
    if (Status status = check_merge(merge); !status.ok()) return status;
    if (Status status = choose_lane(choice.lane, kernels); !status.ok()) return status;
    run_merge(merge, *kernels, choice.team);
    return {};
  });
}

int32_t fusedattn_lane_count(void) { return static_cast<int32_t>(lanes().size()); }

const char* fusedattn_lane_name(int32_t index) {
  return index >= 0 && index < fusedattn_lane_count() ? lanes()[static_cast<std::size_t>(index)].kernels->name : nullptr;
}

const char* fusedattn_lane_refusal(int32_t index) {
  return index >= 0 && index < fusedattn_lane_count() ? lanes()[static_cast<std::size_t>(index)].refusal : nullptr;
}

const char* fusedattn_lane_chosen(void) {
  const Kernels* kernels = nullptr;
  const fusedattn_status status = guarded([&] { return choose_lane(nullptr, kernels); });
  return status == FUSEDATTN_OK ? kernels->name : nullptr;
}

int32_t fusedattn_thread_count(void) {
  std::int32_t threads = 0;
  return guarded([&] { return resolve_threads(0, threads); }) == FUSEDATTN_OK ? threads : 0;
}

const char* fusedattn_thread_owner(void) {
  Team team;
  team.threads = fusedattn_thread_count();
  return team.owner();
}

}  // extern "C"
