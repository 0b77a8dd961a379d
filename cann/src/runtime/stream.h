// A stream: work that runs in the order of its submission, on a worker of its own that starts with the first piece.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "message.h"
#include "runtime/handles.h"
#include "runtime/marker.h"

namespace fusedattn::cann {

class Stream {
 public:
  using Work = std::function<Outcome()>;

  Stream(const void* context, std::int32_t device);
  ~Stream();
  Stream(const Stream&) = delete;

  // Queues work, or says why not. With FUSEDATTN_ACL_SYNC=1 the caller runs it before this returns.
  Outcome submit(Work work);
  // Until everything submitted so far has ended; false if the deadline came first.
  bool wait(Deadline deadline);
  bool idle();
  // The first failure since this was asked last.
  Outcome take_failure();
  // Takes no more work, waits for what there is or drops what has not begun, and ends the worker.
  void end(bool drop);
  // First half of end(true), for several streams that may wait for one another.
  void drop_work();

  // True on the stream's own worker, where waiting for the stream would never end.
  bool is_here() const;
  // True in a forked child if the worker stayed with the parent: the stream can do nothing there.
  bool lost() const;
  bool dropping() const { return dropping_; }

  const void* context() const { return context_; }
  std::int32_t device() const { return device_; }
  std::int32_t id() const { return id_; }

  std::atomic<std::uint64_t> subscriber = 0;  // the thread that runs this stream's callbacks; 0: none

 private:
  struct Job {
    Work work;
    std::shared_ptr<void> lease;  // memory freed meanwhile stays until this is gone (runtime/memory.h)
  };

  void serve();
  void run_first(std::unique_lock<std::mutex>& lock);
  void run_here(std::unique_lock<std::mutex>& lock);

  const void* const context_;
  const std::int32_t device_, id_;
  std::mutex mutex_;
  std::condition_variable submitted_, finished_;
  std::deque<Job> queue_;
  std::unique_ptr<std::thread> worker_;
  std::uint64_t submissions_ = 0, completions_ = 0;
  Outcome failure_;
  static constexpr std::uint32_t kNotStarted = ~0u;
  std::atomic<std::uint32_t> forks_at_start_ = kNotStarted;
  std::atomic<bool> dropping_ = false;
  bool ended_ = false, somebody_runs_ = false;
};

Handles<Stream>& streams();

// A new stream of a context. In a forked child, one whose worker stayed with the parent is never destroyed: a thread waits in it.
std::shared_ptr<Stream> make_stream(const void* context, std::int32_t device);

// A live stream, or the current context's default stream for null; null after keeping a sentence and setting `code`.
std::shared_ptr<Stream> stream_of(const char* function, aclrtStream handle, int& code);

}  // namespace fusedattn::cann
