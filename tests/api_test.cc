// api_test.cc: the edges of the C API. Refusals in sentences, empty problems, plans, lanes, the layout of the structs.
#include <array>
#include <cfloat>
#include <cstdio>
#include <functional>
#include <thread>

#include "calls.h"
#include "tensors.h"

using namespace fusedattn::tests;

namespace {

const Case kCase{.name = "api", .batch = 2, .q_heads = 4, .kv_heads = 2, .q_len = 7, .kv_len = 9, .dim = 8, .dim_v = 6};
const int64_t kDecreasing[] = {5, 3}, kBeyond[] = {2, 100}, kNegative[] = {-1, 3}, kFine[] = {3, 7};

struct Call {
  fusedattn_problem problem;
  fusedattn_options options;
};

// A change that makes a good call bad, and two words that the sentence must hold: the argument and its value.
struct Refusal {
  std::function<void(Call&)> change;
  const char* argument;
  const char* value;
};

const std::vector<Refusal>& refusals() {
  static const std::vector<Refusal> all{
      {[](Call& c) { c.problem.struct_size = 12; }, "struct_size", "12"},
      {[](Call& c) { c.problem.foreign_stats = 2; }, "foreign_stats", "2"},
      {[](Call& c) { c.problem.dtype = 77; }, "dtype", "77"},
      {[](Call& c) { c.problem.dtype = -1; }, "dtype", "-1"},
      {[](Call& c) { c.problem.batch = -2; }, "batch", "-2"},
      {[](Call& c) { c.problem.q_heads = -4; }, "q_heads", "-4"},
      {[](Call& c) { c.problem.q_heads = 0; }, "q_heads", "0"},
      {[](Call& c) { c.problem.kv_heads = 0; }, "kv_heads", "0"},
      {[](Call& c) { c.problem.kv_heads = 3; }, "q_heads", "3"},
      {[](Call& c) { c.problem.q_len = -7; }, "q_len", "-7"},
      {[](Call& c) { c.problem.kv_len = -9; }, "kv_len", "-9"},
      {[](Call& c) { c.problem.q_len = int64_t{1} << 60; }, "q_len", "1152921504606846976"},
      {[](Call& c) { c.problem.kv_len = int64_t{1} << 60; }, "kv_len", "1152921504606846976"},
      {[](Call& c) { c.problem.batch = INT64_MAX; }, "batch", "9223372036854775807"},
      {[](Call& c) { c.problem.dim = 0; }, "dim", "0"},
      {[](Call& c) { c.problem.dim = 1537; }, "dim", "1537"},
      {[](Call& c) { c.problem.dim_v = 0; }, "dim_v", "0"},
      {[](Call& c) { c.problem.dim_v = 769; }, "dim_v", "769"},
      {[](Call& c) { c.problem.scale = NAN; }, "scale", "nan"},
      {[](Call& c) { c.problem.scale = INFINITY; }, "scale", "inf"},
      {[](Call& c) { c.problem.mask.meaning = 5; }, "meaning", "5"},
      {[](Call& c) { c.problem.q.data = nullptr; }, "q.data", "NULL"},
      {[](Call& c) { c.problem.k.data = nullptr; }, "k.data", "NULL"},
      {[](Call& c) { c.problem.v.data = nullptr; }, "v.data", "NULL"},
      {[](Call& c) { c.problem.out.data = nullptr; }, "out.data", "NULL"},
      {[](Call& c) { c.problem.q.data = static_cast<char*>(c.problem.q.data) + 1; }, "q.data", "align"},
      {[](Call& c) { c.problem.q.row_stride = INT64_MAX; }, "q", "9223372036854775807"},
      {[](Call& c) { c.problem.q_ends = kFine; }, "kv_ends", "NULL"},
      {[](Call& c) { c.problem.kv_ends = kFine; }, "q_ends", "NULL"},
      {[](Call& c) { c.problem.q_ends = kDecreasing, c.problem.kv_ends = kFine; }, "q_ends", "3"},
      {[](Call& c) { c.problem.q_ends = kNegative, c.problem.kv_ends = kFine; }, "q_ends", "-1"},
      {[](Call& c) { c.problem.q_ends = kFine, c.problem.kv_ends = kBeyond; }, "kv_ends", "100"},
      {[](Call& c) { c.options.struct_size = 3; }, "struct_size", "3"},
      {[](Call& c) { c.options.lane = "abacus"; }, "lane", "abacus"},
      {[](Call& c) { c.options.threads = -5; }, "threads", "-5"},
  };
  return all;
}

const std::vector<Refusal>& forward_refusals() {
  static const std::vector<Refusal> all{
      {[](Call& c) { c.problem.out.data = c.problem.q.data; }, "out", "q"},
      {[](Call& c) { c.problem.out.row_stride = 1; }, "out.row_stride", "1"},
  };
  return all;
}

const std::vector<Refusal>& backward_refusals() {
  static const std::vector<Refusal> all{
      {[](Call& c) { c.problem.d_out.data = nullptr; }, "d_out", "NULL"},
      {[](Call& c) { c.problem.stats.max = nullptr; }, "stats.max", "NULL"},
      {[](Call& c) { c.problem.stats.sum = nullptr; }, "stats.sum", "NULL"},
      {[](Call& c) { c.problem.dq.data = c.problem.q.data; }, "dq", "q"},
      {[](Call& c) { c.problem.dk.data = c.problem.dv.data; }, "dk", "dv"},
      {[](Call& c) { c.problem.dk.row_stride = 2; }, "dk.row_stride", "2"},
  };
  return all;
}

void check_sentence(fusedattn_status status, const Refusal& refusal) {
  CHECK_EQ(status, FUSEDATTN_INVALID_ARGUMENT);
  const std::string text = fusedattn_last_error();
  for (const char* word : {refusal.argument, refusal.value}) {
    if (text.find(word) == std::string::npos)
      check::complain(__FILE__, __LINE__, word + (" is not in: '" + text + "'"));
  }
}

// Refused by the one call and by the plan alike, and nothing is written.
void check_refusals(const std::vector<Refusal>& list, int32_t direction) {
  for (const Refusal& refusal : list) {
    const Tensors t(kCase, FUSEDATTN_FLOAT32), untouched(kCase, FUSEDATTN_FLOAT32);
    Call call{t.problem(), options_for(nullptr)};
    refusal.change(call);
    const auto run = direction == FUSEDATTN_FORWARD ? fusedattn_forward : fusedattn_backward;
    check_sentence(run(&call.problem, &call.options), refusal);
    fusedattn_plan* plan = nullptr;
    check_sentence(fusedattn_plan_create(&call.problem, direction, &call.options, &plan), refusal);
    CHECK(plan == nullptr);
    for (const auto& [a, b] : {std::pair{&t.out, &untouched.out}, std::pair{&t.dq, &untouched.dq}}) {
      CHECK(a->bytes() == b->bytes());
    }
  }
}

// What this program prints when it is started with an environment and an argument.
std::string output_of_child(const std::string& environment, const std::string& argument) {
  std::array<char, 1024> path{};
  if (readlink("/proc/self/exe", path.data(), path.size() - 1) < 0) return "";
  std::string output;
  FILE* pipe = popen((environment + " '" + path.data() + "' " + argument).c_str(), "r");
  if (pipe == nullptr) return "";
  for (int character; (character = fgetc(pipe)) != EOF;) output += static_cast<char>(character);
  pclose(pipe);
  return output;
}

fusedattn_plan* plan_of(const fusedattn_problem& problem, int32_t direction = FUSEDATTN_FORWARD) {
  fusedattn_plan* plan = nullptr;
  succeeds(fusedattn_plan_create(&problem, direction, nullptr, &plan));
  return plan;
}

}  // namespace

TEST(refusals_of_both_directions) {
  check_refusals(refusals(), FUSEDATTN_FORWARD);
  for (const Refusal& refusal : backward_refusals()) {  // what only the backward needs does not disturb the forward
    const Tensors t(kCase, FUSEDATTN_FLOAT32);
    Call call{t.problem(), options_for(nullptr)};
    refusal.change(call);
    succeeds(fusedattn_forward(&call.problem, &call.options));
  }
}

TEST(refusals_of_the_forward) { check_refusals(forward_refusals(), FUSEDATTN_FORWARD); }

TEST(refusals_of_the_backward) {
  check_refusals(refusals(), FUSEDATTN_BACKWARD);
  check_refusals(backward_refusals(), FUSEDATTN_BACKWARD);
}

TEST(null_arguments_are_refused) {
  const Tensors t(kCase, FUSEDATTN_FLOAT32);
  const fusedattn_problem problem = t.problem();
  fusedattn_plan* plan = nullptr;
  CHECK_EQ(fusedattn_forward(nullptr, nullptr), FUSEDATTN_INVALID_ARGUMENT);
  CHECK(std::string(fusedattn_last_error()).find("problem") != std::string::npos);
  CHECK_EQ(fusedattn_backward(nullptr, nullptr), FUSEDATTN_INVALID_ARGUMENT);
  CHECK_EQ(fusedattn_plan_create(nullptr, FUSEDATTN_FORWARD, nullptr, &plan), FUSEDATTN_INVALID_ARGUMENT);
  CHECK_EQ(fusedattn_plan_create(&problem, FUSEDATTN_FORWARD, nullptr, nullptr), FUSEDATTN_INVALID_ARGUMENT);
  CHECK_EQ(fusedattn_plan_create(&problem, 2, nullptr, &plan), FUSEDATTN_INVALID_ARGUMENT);
  CHECK(std::string(fusedattn_last_error()).find("direction") != std::string::npos);
  CHECK_EQ(fusedattn_plan_run(nullptr, nullptr, nullptr, 0), FUSEDATTN_INVALID_ARGUMENT);
  fusedattn_plan_destroy(nullptr);
}

TEST(the_last_error_belongs_to_its_thread) {
  CHECK_EQ(fusedattn_forward(nullptr, nullptr), FUSEDATTN_INVALID_ARGUMENT);
  std::string elsewhere = "unset";
  std::thread([&] { elsewhere = fusedattn_last_error(); }).join();
  CHECK_EQ(elsewhere, std::string());
  CHECK(std::string(fusedattn_last_error()) != "");
}

TEST(a_new_problem_is_zero_and_unbounded) {
  fusedattn_problem p;
  std::memset(&p, 0xAB, sizeof p);
  fusedattn_problem_init(&p);
  CHECK_EQ(p.struct_size, sizeof p);
  CHECK_EQ(p.scale, 1.0);
  for (const fusedattn_band& band : {p.mask.top_left, p.mask.bottom_right}) {
    CHECK_EQ(band.left, FUSEDATTN_UNBOUNDED);
    CHECK_EQ(band.right, FUSEDATTN_UNBOUNDED);
  }
  CHECK(p.batch == 0 && p.dim == 0 && p.q.data == nullptr && p.q_ends == nullptr && p.mask.bytes == nullptr);
  fusedattn_options options;
  std::memset(&options, 0xAB, sizeof options);
  fusedattn_options_init(&options);
  CHECK_EQ(options.struct_size, sizeof options);
  CHECK(options.lane == nullptr && options.threads == 0 && options.parallel == nullptr);
}

// Empty tensors have no address. Where there are rows without columns, the row's results are those of an empty row.
TEST(empty_problems) {
  for (const int axis : {0, 1, 2}) {
    Case c = kCase;
    (axis == 0 ? c.batch : axis == 1 ? c.q_len : c.kv_len) = 0;
    const Tensors t(c, FUSEDATTN_FLOAT32);
    fusedattn_problem problem = t.problem();
    if (axis != 1) problem.k.data = problem.v.data = problem.dk.data = problem.dv.data = nullptr;
    if (axis != 2) problem.q.data = problem.out.data = problem.d_out.data = problem.dq.data = nullptr;
    if (axis != 2) problem.stats.max = problem.stats.sum = nullptr;
    CHECK(run_both(problem, options_for(nullptr)));
    t.out.each([&](auto b, auto n, auto i, auto d) { CHECK_EQ(t.out.get(b, n, i, d), 0.0); });
    t.max.each([&](auto b, auto n, auto i, auto d) { CHECK_EQ(t.max.get(b, n, i, d), 0.0); });
    t.sum.each([&](auto b, auto n, auto i, auto d) { CHECK_EQ(t.sum.get(b, n, i, d), 0.0); });
    for (const Tensor* gradient : {&t.dq, &t.dk, &t.dv}) {
      gradient->each([&](auto b, auto n, auto i, auto d) { CHECK_EQ(gradient->get(b, n, i, d), 0.0); });
    }
  }
}

TEST(a_plan_runs_at_other_addresses) {
  const Tensors planned(kCase, FUSEDATTN_FLOAT32), other(kCase, FUSEDATTN_FLOAT32);
  for (const int32_t direction : {FUSEDATTN_FORWARD, FUSEDATTN_BACKWARD}) {
    const fusedattn_problem here = planned.problem(), there = other.problem();
    fusedattn_plan* plan = plan_of(here, direction);
    CHECK(succeeds(fusedattn_plan_run(plan, nullptr, nullptr, 0)));
    CHECK(succeeds(fusedattn_plan_run(plan, &there, nullptr, 0)));
    fusedattn_plan_destroy(plan);
  }
  CHECK(planned.out.bytes() == other.out.bytes() && planned.dq.bytes() == other.dq.bytes());
  CHECK(planned.dk.bytes() == other.dk.bytes() && planned.dv.bytes() == other.dv.bytes());
}

TEST(a_plan_refuses_another_problem) {
  const Tensors t(kCase, FUSEDATTN_FLOAT32);
  fusedattn_plan* plan = plan_of(t.problem());
  const std::vector<std::function<void(fusedattn_problem&)>> changes{
      [](fusedattn_problem& p) { p.struct_size = 1; },
      [](fusedattn_problem& p) { p.dtype = FUSEDATTN_FLOAT16; },
      [](fusedattn_problem& p) { p.batch = 1; },
      [](fusedattn_problem& p) { p.q_len = 6; },
      [](fusedattn_problem& p) { p.dim = 7; },
      [](fusedattn_problem& p) { p.scale = 3; },
      [](fusedattn_problem& p) { p.q.row_stride += 1; },
      [](fusedattn_problem& p) { p.k.data = nullptr; },
      [](fusedattn_problem& p) { p.mask.top_left.right = 0; },
      [](fusedattn_problem& p) { p.q_ends = p.kv_ends = kFine; },
      [](fusedattn_problem& p) { p.stats.row_stride += 1; }};
  for (std::size_t index = 0; index < changes.size(); ++index) {
    fusedattn_problem problem = t.problem();
    changes[index](problem);
    if (fusedattn_plan_run(plan, &problem, nullptr, 0) != FUSEDATTN_INVALID_ARGUMENT) {
      check::complain(__FILE__, __LINE__, "change " + std::to_string(index) + " is not refused");
    }
    CHECK(std::string(fusedattn_last_error()) != "");
  }
  fusedattn_plan_destroy(plan);
}

TEST(a_plan_copies_the_ends) {
  Case c = kCase;
  c.q_ends = {3, 7}, c.kv_ends = {4, 9};
  const Tensors t(c, FUSEDATTN_FLOAT32), expected(c, FUSEDATTN_FLOAT32);
  const fusedattn_problem good = expected.problem();
  std::vector<int64_t> q_ends = c.q_ends, kv_ends = c.kv_ends;
  fusedattn_problem problem = t.problem();
  problem.q_ends = q_ends.data(), problem.kv_ends = kv_ends.data();
  fusedattn_plan* plan = plan_of(problem);
  q_ends = {0, 0}, kv_ends = {0, 0};
  CHECK(succeeds(fusedattn_plan_run(plan, nullptr, nullptr, 0)) && succeeds(fusedattn_forward(&good, nullptr)));
  CHECK(t.out.bytes() == expected.out.bytes());
  fusedattn_plan_destroy(plan);
}

TEST(a_workspace_is_checked) {
  const Tensors t(kCase, FUSEDATTN_FLOAT32);
  fusedattn_plan* plan = plan_of(t.problem());
  const std::size_t bytes = fusedattn_plan_workspace(plan);
  CHECK(bytes > 0);
  const Memory memory(bytes + 64);
  CHECK(succeeds(fusedattn_plan_run(plan, nullptr, memory.data(), bytes)));
  CHECK_EQ(fusedattn_plan_run(plan, nullptr, memory.data(), bytes - 1), FUSEDATTN_INVALID_ARGUMENT);
  CHECK(std::string(fusedattn_last_error()).find(std::to_string(bytes)) != std::string::npos);
  CHECK_EQ(fusedattn_plan_run(plan, nullptr, memory.data() + 4, bytes), FUSEDATTN_INVALID_ARGUMENT);
  CHECK(std::string(fusedattn_last_error()).find("64") != std::string::npos);
  fusedattn_plan_destroy(plan);
}

TEST(a_plan_describes_itself) {
  const Tensors t(kCase, FUSEDATTN_BFLOAT16);
  fusedattn_plan* plan = plan_of(t.problem());
  const std::size_t length = fusedattn_describe(plan, nullptr, 0);
  CHECK(length > 0);
  std::string whole(length + 1, '?'), start(8, '?');
  CHECK_EQ(fusedattn_describe(plan, whole.data(), whole.size()), length);
  CHECK_EQ(whole[length], '\0');
  whole.resize(length);
  CHECK(whole.find('\n') == std::string::npos && whole.find('\0') == std::string::npos);
  CHECK(whole.find(fusedattn_lane_chosen()) != std::string::npos);
  CHECK_EQ(fusedattn_describe(plan, start.data(), start.size()), length);
  CHECK_EQ(start, whole.substr(0, 7) + '\0');
  fusedattn_plan_destroy(plan);
}

TEST(lanes_are_listed) {
  const int32_t count = fusedattn_lane_count();
  CHECK(count >= 1);
  CHECK_EQ(std::string(fusedattn_lane_name(count - 1)), "baseline");
  CHECK_EQ(std::string(fusedattn_lane_refusal(count - 1)), "");
  std::string best;
  for (int32_t index = count; index-- > 0;) {
    if (std::string(fusedattn_lane_refusal(index)).empty()) best = fusedattn_lane_name(index);
  }
  CHECK_EQ(output_of_child("env -u FUSEDATTN_ISA", "--lane"), best);
  for (const int32_t outside : {-1, count}) {
    CHECK(fusedattn_lane_name(outside) == nullptr);
    CHECK(fusedattn_lane_refusal(outside) == nullptr);
  }
}

TEST(the_environment_forces_a_lane) {
  CHECK_EQ(output_of_child("FUSEDATTN_ISA=baseline", "--lane"), "baseline");
  const std::string refused = output_of_child("FUSEDATTN_ISA=abacus", "--lane");
  CHECK(refused.find("FUSEDATTN_ISA") != std::string::npos && refused.find("abacus") != std::string::npos);
  for (int32_t index = 0; index < fusedattn_lane_count(); ++index) {
    const std::string name = fusedattn_lane_name(index);
    if (std::string(fusedattn_lane_refusal(index)).empty()) continue;
    const std::string text = output_of_child("FUSEDATTN_ISA=" + name, "--lane");
    CHECK(text.find(name) != std::string::npos && text.find("FUSEDATTN_ISA") != std::string::npos);
  }
}

TEST(the_library_is_silent_unless_asked) {
  CHECK_EQ(output_of_child("env -u FUSEDATTN_VERBOSE", "--run 2>&1"), "");
  CHECK(output_of_child("FUSEDATTN_VERBOSE=loud", "--run 2>&1").find("FUSEDATTN_VERBOSE is 'loud'; accepted: 0, 1 or 2") != std::string::npos);
  const std::string text = output_of_child("FUSEDATTN_VERBOSE=1", "--run 2>&1 >/dev/null");
  CHECK_EQ(text.rfind("fusedattn,forward,", 0), std::size_t{0});
  CHECK(text.find("\nfusedattn,backward,") != std::string::npos);
  CHECK_EQ(std::count(text.begin(), text.end(), '\n'), 2);
  CHECK(text.find("softmax") == std::string::npos);
}

TEST(the_stages_of_a_call_are_told_on_request) {
  const std::string text = output_of_child("FUSEDATTN_VERBOSE=2", "--run 2>&1 >/dev/null");
  CHECK_EQ(std::count(text.begin(), text.end(), '\n'), 2);
  for (const char* stage : {",pack ", ",scores ", ",softmax ", ",products ", ",rest "}) {
    const std::size_t first = text.find(stage);
    CHECK(first != std::string::npos && text.find(stage, first + 1) != std::string::npos);
  }
}

TEST(the_layout_table_is_the_layout) {
  struct Expected {
    const char* name;
    std::size_t offset, size;
  };
#define FIELD(type, field)                                                               \
  {                                                                                      \
    #type "." #field, offsetof(fusedattn_##type, field), sizeof(fusedattn_##type::field) \
  }
  const std::vector<Expected> expected{{"problem", 0, sizeof(fusedattn_problem)},
                                       {"options", 0, sizeof(fusedattn_options)},
                                       {"view", 0, sizeof(fusedattn_view)},
                                       {"band", 0, sizeof(fusedattn_band)},
                                       {"mask", 0, sizeof(fusedattn_mask)},
                                       {"stats", 0, sizeof(fusedattn_stats)},
                                       {"partial", 0, sizeof(fusedattn_partial)},
                                       {"merge_problem", 0, sizeof(fusedattn_merge_problem)},
                                       FIELD(problem, struct_size),
                                       FIELD(problem, scale),
                                       FIELD(problem, mask),
                                       FIELD(problem, dv),
                                       FIELD(options, parallel_context),
                                       FIELD(view, row_stride),
                                       FIELD(band, right),
                                       FIELD(mask, meaning),
                                       FIELD(stats, row_stride),
                                       FIELD(partial, stats),
                                       FIELD(merge_problem, result)};
#undef FIELD
  for (const Expected& want : expected) {
    const fusedattn_layout_entry* entry = fusedattn_layout();
    while (entry->name != nullptr && std::string(entry->name) != want.name) ++entry;
    if (entry->name == nullptr) {
      check::complain(__FILE__, __LINE__, std::string(want.name) + " is not in the table");
      continue;
    }
    CHECK_EQ(entry->offset, want.offset);
    CHECK_EQ(entry->size, want.size);
  }
}

TEST(the_version_is_that_of_the_header) { CHECK_EQ(std::string(fusedattn_version()), FUSEDATTN_VERSION); }

// The program is also its own child: --lane prints the lane chosen or why there is none, --run computes.
int main(int argc, char** argv) {
  const std::string argument = argc > 1 ? argv[1] : "";
  if (argument == "--lane") {
    const char* lane = fusedattn_lane_chosen();
    std::cout << (lane != nullptr ? lane : fusedattn_last_error());
    return 0;
  }
  if (argument == "--run") return run_both(Tensors(kCase, FUSEDATTN_FLOAT32).problem(), options_for(nullptr)) ? 0 : 1;
  return check::run_all(argument);
}
