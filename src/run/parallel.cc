// Chooses whose threads compute. No OpenMP is linked: a second OpenMP runtime in a process is a known disaster, so the one that
// is already there is found by its symbols and borrowed.
#include "run/parallel.h"

#include <dlfcn.h>
#include <sched.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>

#include "run/pool.h"

namespace fusedattn {
namespace {

// The three entry points of a GNU-compatible OpenMP runtime that a borrower needs.
struct OpenMp {
  void (*parallel)(void (*body)(void*), void* data, unsigned threads, unsigned flags);
  int (*max_threads)();
  int (*in_parallel)();
  explicit operator bool() const { return parallel && max_threads && in_parallel; }
};

OpenMp find_openmp() {
  OpenMp found{};
  found.parallel = reinterpret_cast<decltype(found.parallel)>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  found.max_threads = reinterpret_cast<decltype(found.max_threads)>(dlsym(RTLD_DEFAULT, "omp_get_max_threads"));
  found.in_parallel = reinterpret_cast<decltype(found.in_parallel)>(dlsym(RTLD_DEFAULT, "omp_in_parallel"));
  return found;
}

// The runtime may be loaded after us (import torch), hence the search goes on until it is found; a few hundred nanoseconds each.
OpenMp openmp() {
  static std::atomic<bool> known = false;
  static OpenMp team{};
  if (known.load(std::memory_order_acquire)) return team;
  if (forked()) return {};
  const OpenMp found = find_openmp();
  if (!found) return {};
  static const bool once = [&] {
    team = found;
    known.store(true, std::memory_order_release);
    return true;
  }();
  static_cast<void>(once);
  return team;
}

OpenMp borrowed() { return forked() ? OpenMp{} : openmp(); }

struct Body {
  Task task;
  void* argument;
  std::int32_t tasks;
  std::atomic<std::int32_t> next = 0;
  static void run(void* data) {
    Body& body = *static_cast<Body*>(data);
    for (std::int32_t i; (i = body.next++) < body.tasks;) body.task(body.argument, i);
  }
};

std::int32_t usable_cpus() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return CPU_COUNT(&set) > 0 ? CPU_COUNT(&set) : 1;
}

constexpr long kMostThreads = 4096;

// -1: not a number that counts threads.
long threads_in(const char* text) {
  char* end = nullptr;
  errno = 0;
  const long n = std::strtol(text, &end, 10);
  return errno != 0 || end == text || *end != '\0' || n < 1 || n > kMostThreads ? -1 : n;
}

}  // namespace

void Team::run(std::int32_t tasks, Task task, void* argument) const {
  if (tasks <= 1) {
    for (std::int32_t i = 0; i < tasks; ++i) task(argument, i);
    return;
  }
  if (parallel != nullptr) return parallel(context, tasks, task, argument);
  if (const OpenMp team = borrowed()) {
    Body body{task, argument, tasks};
    if (team.in_parallel()) return Body::run(&body);
    return team.parallel(&Body::run, &body, static_cast<unsigned>(tasks), 0);
  }
  run_on_own_threads(tasks, task, argument);
}

const char* Team::owner() const {
  if (parallel != nullptr) return "caller";
  if (threads <= 1) return "serial";
  return borrowed() ? "openmp" : "own";
}

Status resolve_threads(std::int32_t wanted, std::int32_t& threads) {
  static const char* const setting = std::getenv("FUSEDATTN_NUM_THREADS");
  static const long set = setting == nullptr || *setting == '\0' ? 0 : threads_in(setting);
  if (set < 0)
    return Status::invalid(std::string("FUSEDATTN_NUM_THREADS is '") + setting + "'; accepted: a whole number from 1 to 4096");
  const OpenMp team = borrowed();
  if (wanted > 0)
    threads = wanted;
  else if (set > 0)
    threads = static_cast<std::int32_t>(set);
  else
    threads = team ? team.max_threads() : usable_cpus();
  if (team && team.in_parallel()) threads = 1;
  return {};
}

}  // namespace fusedattn
