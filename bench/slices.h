// slices.h: times a loop in slices of about a millisecond, on one thread or on several that start together.
#pragma once

#include <functional>

namespace fusedattn::probe {

// What one thread times: run(passes) does `passes` units of work. Made on the thread that runs it.
using Work = std::function<void(long passes)>;
using MakeWork = std::function<Work()>;

// Units per second: the median slice of every thread, added up over the threads. With one thread the caller runs it.
double units_per_second(const MakeWork& make_work, int threads, double seconds);

}  // namespace fusedattn::probe
