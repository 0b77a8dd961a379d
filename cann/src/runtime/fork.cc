// Holds every ForkMutex during a fork.
#include "runtime/fork.h"

#include <pthread.h>

#include <atomic>
#include <new>

namespace fusedattn::cann {

struct ForkMutex::Chain {
  std::atomic<std::uint32_t> forks = 0;
  std::mutex growing;
  ForkMutex* first = nullptr;

  Chain() { pthread_atfork(&before, &in_parent, &in_child); }
  static Chain& all() {
    static Chain& chain = *new Chain;  // never destroyed: objects outlive the statics' end
    return chain;
  }
  static void before() {
    all().growing.lock();
    for (ForkMutex* each = all().first; each != nullptr; each = each->next_) each->mutex_.lock();
  }
  static void in_parent() {
    for (ForkMutex* each = all().first; each != nullptr; each = each->next_) each->mutex_.unlock();
    all().growing.unlock();
  }
  static void in_child() {
    for (ForkMutex* each = all().first; each != nullptr; each = each->next_) new (&each->mutex_) std::mutex;
    new (&all().growing) std::mutex;
    ++all().forks;
  }
};

ForkMutex::ForkMutex() {
  Chain& chain = Chain::all();
  const std::lock_guard lock(chain.growing);
  next_ = chain.first;
  chain.first = this;
}

std::uint32_t forks() { return ForkMutex::Chain::all().forks; }

}  // namespace fusedattn::cann
