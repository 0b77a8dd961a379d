// What a child made by fork finds: registries whole and unlocked, and no threads but its own.
#pragma once
#include <cstdint>
#include <mutex>

namespace fusedattn::cann {

// How many forks lie between this process and the one that loaded the library.
std::uint32_t forks();

// A mutex that a forked child finds free, and what it guards in order. Nothing else is locked while one of these is held.
class ForkMutex {
 public:
  ForkMutex();
  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

  struct Chain;

 private:
  std::mutex mutex_;
  ForkMutex* next_;
};

}  // namespace fusedattn::cann
