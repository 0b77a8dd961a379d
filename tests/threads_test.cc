// threads_test.cc: the same bytes whoever computes. Any number of threads, callers at once, nested calls, forks,
// callbacks.
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "calls.h"
#include "tensors.h"

#if defined(__SANITIZE_THREAD__)
#define FUSEDATTN_TESTS_UNDER_TSAN 1
#endif

using namespace fusedattn::tests;

namespace {

const int32_t kTypes[] = {FUSEDATTN_FLOAT32, FUSEDATTN_BFLOAT16, FUSEDATTN_FLOAT16};

// Enough work for several tasks per thread; several query heads share a key head, so that dk and dv are sums of tasks.
std::vector<Case> thread_cases() {
  Case c{.name = "causal",
         .batch = 2,
         .q_heads = 4,
         .kv_heads = 2,
         .q_len = 210,
         .kv_len = 230,
         .dim = 24,
         .dim_v = 20,
         .bottom_right = kCausal};
  std::vector<Case> cases{c};
  c.name = "one head", c.batch = c.q_heads = c.kv_heads = 1, c.q_len = 400, c.kv_len = 700;
  cases.push_back(c);
  c.name = "packed", c.batch = 3, c.q_heads = 2, c.q_ends = {20, 20, 400}, c.kv_ends = {300, 305, 690};
  cases.push_back(c);
  cases.push_back({.name = "nothing hidden", .q_heads = 2, .kv_heads = 1, .q_len = 230, .kv_len = 1400, .dim = 20, .dim_v = 24});
  cases.push_back({.name = "few lines", .batch = 2, .q_heads = 4, .kv_heads = 2, .q_len = 3, .kv_len = 3300, .dim = 16, .dim_v = 16});
  cases.push_back({.name = "some lines", .q_heads = 1, .kv_heads = 1, .q_len = 70, .kv_len = 2900, .dim = 12, .dim_v = 20, .bottom_right = kCausal});
  return cases;
}

// Everything a forward and a backward wrote; empty after a refusal.
using Result = std::vector<std::byte>;

Result computed(const Case& c, int32_t dtype, const fusedattn_options& options) {
  const Tensors t(c, dtype);
  const fusedattn_problem problem = t.problem();
  if (fusedattn_forward(&problem, &options) != FUSEDATTN_OK || fusedattn_backward(&problem, &options) != FUSEDATTN_OK) {
    return {};
  }
  Result result;
  for (const Tensor* tensor : {&t.out, &t.max, &t.sum, &t.dq, &t.dk, &t.dv}) {
    const std::vector<std::byte> bytes = tensor->bytes();
    result.insert(result.end(), bytes.begin(), bytes.end());
  }
  return result;
}

// Ways to run tasks; `context` counts calls where it is given.
using Task = void (*)(void*, int32_t);

void in_order(void* context, int32_t tasks, Task task, void* argument) {
  ++*static_cast<int*>(context);
  for (int32_t index = 0; index < tasks; ++index) task(argument, index);
}

void reversed(void* context, int32_t tasks, Task task, void* argument) {
  ++*static_cast<int*>(context);
  for (int32_t index = tasks; index-- > 0;) task(argument, index);
}

void one_thread_per_task(void* context, int32_t tasks, Task task, void* argument) {
  ++*static_cast<int*>(context);
  std::vector<std::thread> threads;
  for (int32_t index = 0; index < tasks; ++index) threads.emplace_back(task, argument, index);
  for (std::thread& thread : threads) thread.join();
}

const Case kOther{.name = "other", .q_heads = 2, .kv_heads = 1, .q_len = 90, .kv_len = 90, .dim = 8, .dim_v = 8};

// Computes something else before the first task and between tasks.
void calls_back(void* context, int32_t tasks, Task task, void* argument) {
  auto& others = *static_cast<std::vector<Result>*>(context);
  for (int32_t index = 0; index < tasks; ++index) {
    others.push_back(computed(kOther, FUSEDATTN_BFLOAT16, options_for(nullptr, 2)));
    task(argument, index);
  }
}

fusedattn_options callback_options(fusedattn_parallel parallel, void* context) {
  fusedattn_options options = options_for(nullptr, 3);
  options.parallel = parallel, options.parallel_context = context;
  return options;
}

// The exit code of a child that computes and compares; -1 if it hung or crashed.
[[maybe_unused]] int child_exit_code(const Case& c, const Result& expected) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    const bool same = computed(c, FUSEDATTN_FLOAT32, options_for(nullptr, 3)) == expected &&
                      computed(c, FUSEDATTN_FLOAT32, options_for(nullptr, 1)) == expected;
    _exit(same ? 0 : 1);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

TEST(any_number_of_threads_gives_the_same_bytes) {
  for (const std::string& lane : runnable_lanes("threads"))
    for (const Case& c : thread_cases())
      for (const int32_t dtype : kTypes) {
        check::run("threads/" + c.name + "/" + format_of(dtype).name + "/" + lane, [&] {
          const Result expected = computed(c, dtype, options_for(lane.c_str(), 1));
          CHECK(!expected.empty());
          for (const int32_t threads : {2, 3, 7}) {
            CHECK(computed(c, dtype, options_for(lane.c_str(), threads)) == expected);
          }
        });
      }
}

TEST(callers_at_once) {
  const std::vector<Case> cases = thread_cases();
  std::vector<Result> expected, got(cases.size() * 4);
  for (const Case& c : cases) expected.push_back(computed(c, FUSEDATTN_FLOAT32, options_for(nullptr, 1)));
  std::vector<std::thread> callers;
  for (std::size_t caller = 0; caller < got.size(); ++caller) {
    callers.emplace_back([&, caller] {
      const auto threads = static_cast<int32_t>(caller % 4);  // 0: as many as the library likes
      got[caller] = computed(cases[caller % cases.size()], FUSEDATTN_FLOAT32, options_for(nullptr, threads));
    });
  }
  for (std::thread& caller : callers) caller.join();
  for (std::size_t caller = 0; caller < got.size(); ++caller) CHECK(got[caller] == expected[caller % cases.size()]);
}

TEST(the_order_of_tasks_does_not_matter) {
  for (const Case& c : thread_cases()) {
    const Result expected = computed(c, FUSEDATTN_BFLOAT16, options_for(nullptr, 1));
    for (const fusedattn_parallel parallel : {in_order, reversed, one_thread_per_task}) {
      int calls = 0;
      CHECK(computed(c, FUSEDATTN_BFLOAT16, callback_options(parallel, &calls)) == expected);
      CHECK(calls > 0);
    }
  }
}

TEST(a_callback_may_call_the_library) {
  const Case c = thread_cases()[0];
  const Result expected = computed(c, FUSEDATTN_FLOAT32, options_for(nullptr, 1));
  const Result other = computed(kOther, FUSEDATTN_BFLOAT16, options_for(nullptr, 1));
  std::vector<Result> others;
  CHECK(computed(c, FUSEDATTN_FLOAT32, callback_options(calls_back, &others)) == expected);
  CHECK(!others.empty());
  for (const Result& result : others) CHECK(result == other);
}

TEST(a_fork_after_a_call_computes) {
#ifdef FUSEDATTN_TESTS_UNDER_TSAN
  check::skip("a_fork_after_a_call_computes", "the thread sanitizer does not start threads after a fork");
#else
  const Case c = thread_cases()[0];
  const Result expected = computed(c, FUSEDATTN_FLOAT32, options_for(nullptr, 3));
  CHECK_EQ(child_exit_code(c, expected), 0);
  CHECK(computed(c, FUSEDATTN_FLOAT32, options_for(nullptr, 3)) == expected);  // the parent's threads still work
  CHECK_EQ(child_exit_code(c, expected), 0);
#endif
}

TEST(threads_that_come_and_go) {
  const Case c = thread_cases()[0];
  const Result expected = computed(c, FUSEDATTN_FLOAT32, options_for(nullptr, 1));
  for (int round = 0; round < 5; ++round) {
    Result got;
    std::thread([&] { got = computed(c, FUSEDATTN_FLOAT32, options_for(nullptr, 3)); }).join();
    CHECK(got == expected);
  }
}

TEST(thread_count_and_owner_are_said) {
  CHECK(fusedattn_thread_count() >= 1);
  const std::string owner = fusedattn_thread_owner();
  CHECK(owner == "own" || owner == "serial" || owner == "openmp");
}

TEST_MAIN()
