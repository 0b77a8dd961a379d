// The library's own threads, for processes without an OpenMP team.
#pragma once
#include <cstdint>

#include "run/parallel.h"

namespace fusedattn {

// Runs the tasks on the caller and up to tasks - 1 kept threads; on the caller alone when the threads are busy with another
// caller's tasks. Safe in a forked child, which starts threads of its own.
void run_on_own_threads(std::int32_t tasks, Task task, void* argument);

// True in a child made by fork: threads that existed before are gone, an OpenMP team among them.
bool forked();

}  // namespace fusedattn
