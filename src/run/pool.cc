// The library's own threads: started when first needed, kept, joined when the process ends.
#include "run/pool.h"

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace fusedattn {
namespace {

class Pool {
 public:
  ~Pool() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    work_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  // False if the threads are busy with another caller's tasks.
  bool run(std::int32_t tasks, Task task, void* argument) {
    std::unique_lock owner(owner_, std::try_to_lock);
    if (!owner) return false;
    {
      std::lock_guard lock(mutex_);
      while (static_cast<std::int32_t>(threads_.size()) < tasks - 1) threads_.emplace_back([this] { serve(); });
      task_ = task, argument_ = argument, tasks_ = tasks, next_ = 0, running_ = 0;
    }
    work_.notify_all();
    std::unique_lock lock(mutex_);
    take_tasks(lock);
    done_.wait(lock, [this] { return running_ == 0; });
    return true;
  }

 private:
  void take_tasks(std::unique_lock<std::mutex>& lock) {
    while (next_ < tasks_) {
      const std::int32_t index = next_++;
      ++running_;
      lock.unlock();
      task_(argument_, index);
      lock.lock();
      --running_;
    }
  }

  void serve() {
    std::unique_lock lock(mutex_);
    while (true) {
      work_.wait(lock, [this] { return stop_ || next_ < tasks_; });
      if (stop_) return;
      take_tasks(lock);
      if (running_ == 0) done_.notify_one();
    }
  }

  std::mutex owner_, mutex_;
  std::condition_variable work_, done_;
  std::vector<std::thread> threads_;
  Task task_ = nullptr;
  void* argument_ = nullptr;
  std::int32_t tasks_ = 0, next_ = 0, running_ = 0;
  bool stop_ = false;
};

// A child made by fork abandons its parent's pool: the threads behind it do not exist there, so it can be neither used nor joined.
struct Keeper {
  std::mutex mutex;
  Pool* pool = nullptr;
  std::atomic<bool> forked = false;

  Keeper() { pthread_atfork(nullptr, nullptr, &in_child); }
  ~Keeper() { delete pool; }
  static void in_child();
};

Keeper& keeper() {
  static Keeper keeper;
  return keeper;
}

void Keeper::in_child() {
  Keeper& child = keeper();
  new (&child.mutex) std::mutex;  // may have been held by a thread that is gone
  child.pool = nullptr;
  child.forked = true;
}

[[maybe_unused]] const Keeper& watch_forks_from_the_start = keeper();

}  // namespace

void run_on_own_threads(std::int32_t tasks, Task task, void* argument) {
  Pool* pool;
  {
    std::lock_guard lock(keeper().mutex);
    if (keeper().pool == nullptr) keeper().pool = new Pool;
    pool = keeper().pool;
  }
  if (pool->run(tasks, task, argument)) return;
  for (std::int32_t index = 0; index < tasks; ++index) task(argument, index);
}

bool forked() { return keeper().forked; }

}  // namespace fusedattn
