// Who computes: the caller's threads, the process's OpenMP team, or our own.
#pragma once
#include <cstdint>

#include "problem/status.h"

namespace fusedattn {

using Task = void (*)(void* argument, std::int32_t index);
using Parallel = void (*)(void* context, std::int32_t tasks, Task task, void* argument);

struct Team {
  Parallel parallel = nullptr;  // null: borrow the OpenMP team of the process if there is one, else our own threads
  void* context = nullptr;
  std::int32_t threads = 1;

  // Runs task(argument, i) for i in [0, tasks), at once as far as there are threads; returns when all are done.
  void run(std::int32_t tasks, Task task, void* argument) const;
  const char* owner() const;
};

// How many threads a call gets that asks for `wanted` (0: FUSEDATTN_NUM_THREADS, else the borrowed team's size, else the CPUs
// this process may use). Inside somebody's parallel region: 1.
Status resolve_threads(std::int32_t wanted, std::int32_t& threads);

}  // namespace fusedattn
