// slices.cc: calibrates a slice, starts the threads together, and takes medians.
#include "slices.h"

#if defined(__linux__)
#include <sched.h>
#endif

#include <algorithm>
#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

namespace fusedattn::probe {
namespace {

constexpr double kSliceSeconds = 1e-3;  // long against the clock (30 ns), short against a scheduler's turn (3 ms)

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double time_of(const Work& work, long passes) {
  const double start = now();
  work(passes);
  return now() - start;
}

// Doubles the passes until one slice is long enough; this also wakes the CPU's wide units and its clock.
long calibrate(const Work& work) {
  long passes = 1;
  for (;;) {
    const double elapsed = time_of(work, passes);
    if (elapsed >= kSliceSeconds) return passes;
    passes = elapsed < kSliceSeconds / 16 ? passes * 8 : passes * 2;
  }
}

double median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double median_rate(const Work& work, long passes, double seconds) {
  std::vector<double> rates;
  for (double spent = 0; spent < seconds || rates.size() < 3;) {
    const double elapsed = time_of(work, passes);
    rates.push_back(static_cast<double>(passes) / elapsed);
    spent += elapsed;
  }
  return median(rates);
}

// Two probe threads on one CPU would report half the limit: give each its own, among those this process may use.
void pin_to_own_cpu(int thread) {
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  int skip = thread % std::max(1, CPU_COUNT(&allowed));
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || skip-- > 0) continue;
    cpu_set_t own;
    CPU_ZERO(&own);
    CPU_SET(cpu, &own);
    sched_setaffinity(0, sizeof own, &own);
    return;
  }
#else
  (void)thread;
#endif
}

}  // namespace

double units_per_second(const MakeWork& make_work, int threads, double seconds) {
  if (threads == 1) {
    const Work work = make_work();
    return median_rate(work, calibrate(work), seconds);
  }
  std::vector<Work> works;
  for (int thread = 0; thread < threads; ++thread) works.push_back(make_work());
  std::vector<double> rates(works.size());
  std::atomic<int> missing{threads};
  std::atomic<bool> cancelled{false};
  const auto member = [&](std::size_t thread) {
    pin_to_own_cpu(static_cast<int>(thread));
    const long passes = calibrate(works[thread]);
    missing.fetch_sub(1);
    while (missing.load() > 0 && !cancelled.load()) std::this_thread::yield();
    if (!cancelled.load()) rates[thread] = median_rate(works[thread], passes, seconds);
  };
  std::vector<std::jthread> team;
  try {
    for (std::size_t thread = 0; thread < works.size(); ++thread) team.emplace_back(member, thread);
  } catch (...) {
    cancelled = true;
    throw;
  }
  team.clear();  // joins
  return std::accumulate(rates.begin(), rates.end(), 0.0);
}

}  // namespace fusedattn::probe
