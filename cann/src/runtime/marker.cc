// One mutex and one condition for all markers: they are few, and waits over several of them stay simple.
#include "runtime/marker.h"

#include <pthread.h>

#include <condition_variable>
#include <mutex>

#include "runtime/fork.h"

namespace fusedattn::cann {
namespace {

struct Motion {
  ForkMutex mutex;
  std::condition_variable_any moved;
};

std::atomic<Motion*> current = nullptr;  // never destroyed: threads that outlive the statics may wait on it

// A condition cannot be used in a child whose parent's threads wait on it: the child gets its own.
Motion& motion() {
  [[maybe_unused]] static const int once = (current = new Motion, pthread_atfork(nullptr, nullptr, [] { current = new Motion; }));
  return *current;
}

}  // namespace

Deadline deadline_in(std::int32_t milliseconds) {
  if (milliseconds < 0) return std::nullopt;
  return Clock::now() + std::chrono::milliseconds(milliseconds);
}

bool wait_until(const std::function<bool()>& done, Deadline deadline) {
  std::unique_lock lock(motion().mutex);
  if (deadline) return motion().moved.wait_until(lock, *deadline, done);
  motion().moved.wait(lock, done);
  return true;
}

void moved(const std::function<void()>& change) {
  {
    const std::lock_guard lock(motion().mutex);
    change();
  }
  motion().moved.notify_all();
}

void Marker::complete() {
  nanoseconds_ = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count();
  moved([this] { state_ = State::complete; });
}

void Marker::abandon() {
  moved([this] {
    if (state_ == State::pending) state_ = State::abandoned;
  });
}

}  // namespace fusedattn::cann
