// A point in a stream's work that others wait for, and the one place where such waiting happens.
#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>

namespace fusedattn::cann {

using Clock = std::chrono::steady_clock;
using Deadline = std::optional<Clock::time_point>;  // none: for ever

// -1 is for ever; what is below is the caller's to refuse.
Deadline deadline_in(std::int32_t milliseconds);

// Waits until `done`, which is asked again whenever something moved; false if the deadline came first.
bool wait_until(const std::function<bool()>& done, Deadline deadline);

// Something that somebody may wait for has changed. `change` runs before the waiting look.
void moved(const std::function<void()>& change);

// Pending, until its stream's worker comes by and takes the time, or its work is dropped.
class Marker {
 public:
  enum class State { pending, complete, abandoned };

  explicit Marker(const void* stream) : stream_(stream) {}
  void complete();
  void abandon();  // unless it is complete
  State state() const { return state_; }
  std::int64_t nanoseconds() const { return nanoseconds_; }  // of the monotonic clock, once complete
  const void* stream() const { return stream_; }             // whose work this is; not to be looked behind

 private:
  const void* stream_;
  std::atomic<State> state_ = State::pending;
  std::atomic<std::int64_t> nanoseconds_ = 0;
};

}  // namespace fusedattn::cann
