// Queues and workers.
#include "runtime/stream.h"

#include <cstdlib>
#include <cstring>

#include "runtime/device.h"
#include "runtime/memory.h"

namespace fusedattn::cann {
namespace {

thread_local const Stream* running_here = nullptr;

std::int32_t next_id() {
  static std::atomic<std::int32_t> next = 0;
  return next++;
}

// For debuggers: the caller runs what it submits.
bool synchronous() {
  static const bool asked = [] {
    const char* value = std::getenv("FUSEDATTN_ACL_SYNC");
    return value != nullptr && std::strcmp(value, "1") == 0;
  }();
  return asked;
}

// Ends all workers before the statics end that they use; drops what has not begun, so that a program that just returns is not held up.
struct AtExit {
  ~AtExit() {
    const auto live = streams().all();
    for (const auto& [handle, stream] : live) stream->drop_work();
    for (const auto& [handle, stream] : live) stream->end(true);
  }
};

}  // namespace

Handles<Stream>& streams() {
  static Handles<Stream>& all = *new Handles<Stream>(Kind::stream);
  return all;
}

std::shared_ptr<Stream> make_stream(const void* context, std::int32_t device) {
  return std::shared_ptr<Stream>(new Stream(context, device), [](Stream* stream) {
    if (!stream->lost()) delete stream;
  });
}

Stream::Stream(const void* context, std::int32_t device) : context_(context), device_(device), id_(next_id()) {}

Stream::~Stream() { end(true); }

bool Stream::is_here() const { return running_here == this; }

bool Stream::lost() const {
  const std::uint32_t then = forks_at_start_;
  return then != kNotStarted && then != forks();
}

Outcome Stream::submit(Work work) {
  if (lost()) return {ACL_ERROR_RT_INVALID_HANDLE, "stream was used before fork; a child must create streams of its own"};
  Job job{std::move(work), lease()};
  std::unique_lock lock(mutex_);
  if (ended_) return {ACL_ERROR_RT_INVALID_HANDLE, "stream was destroyed meanwhile"};
  if (worker_ == nullptr && !synchronous()) {
    [[maybe_unused]] static const AtExit end_all_workers;
    forks_at_start_ = forks();
    worker_ = std::make_unique<std::thread>([this] { serve(); });
  }
  queue_.push_back(std::move(job));
  ++submissions_;
  if (synchronous()) {
    run_here(lock);
  } else {
    lock.unlock();
    submitted_.notify_one();
  }
  return {};
}

// Runs the oldest job, unlocked.
void Stream::run_first(std::unique_lock<std::mutex>& lock) {
  Job job = std::move(queue_.front());
  queue_.pop_front();
  lock.unlock();
  Outcome outcome;
  try {
    outcome = job.work();
  } catch (const std::exception& error) {  // of the library's own work, such as bad_alloc
    outcome = {ACL_ERROR_RT_INTERNAL_ERROR, std::string("work of the stream failed: ") + error.what()};
  }
  job = {};  // before anybody hears that it ended
  lock.lock();
  if (!outcome.ok() && failure_.ok()) failure_ = std::move(outcome);
  ++completions_;
  finished_.notify_all();
}

void Stream::serve() {
  running_here = this;
  std::unique_lock lock(mutex_);
  while (true) {
    submitted_.wait(lock, [this] { return !queue_.empty() || ended_; });
    if (queue_.empty()) return;
    run_first(lock);
  }
}

// One thread at a time runs what is queued; work that submits more work leaves it to the thread it is on.
void Stream::run_here(std::unique_lock<std::mutex>& lock) {
  if (is_here()) return;
  finished_.wait(lock, [this] { return !somebody_runs_; });
  somebody_runs_ = true;
  const Stream* outer = std::exchange(running_here, this);
  while (!queue_.empty()) run_first(lock);
  running_here = outer;
  somebody_runs_ = false;
  finished_.notify_all();
}

bool Stream::wait(Deadline deadline) {
  if (lost()) return true;
  std::unique_lock lock(mutex_);
  const std::uint64_t goal = submissions_;
  const auto reached = [&] { return completions_ >= goal; };
  if (deadline) return finished_.wait_until(lock, *deadline, reached);
  finished_.wait(lock, reached);
  return true;
}

bool Stream::idle() {
  if (lost()) return true;
  const std::lock_guard lock(mutex_);
  return completions_ == submissions_;
}

Outcome Stream::take_failure() {
  if (lost()) return {};
  const std::lock_guard lock(mutex_);
  return std::exchange(failure_, {});
}

void Stream::drop_work() {
  if (lost()) return;
  std::deque<Job> dropped;
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    dropped.swap(queue_);
    completions_ += dropped.size();
    finished_.notify_all();
  }
  dropped.clear();  // which abandons the markers in it
  moved([this] { dropping_ = true; });
}

void Stream::end(bool drop) {
  if (lost()) return;
  if (drop) drop_work();
  std::unique_ptr<std::thread> worker;
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    worker = std::move(worker_);
  }
  submitted_.notify_all();
  if (worker == nullptr) return;
  if (worker->get_id() == std::this_thread::get_id()) {
    worker->detach();  // a host function ends the process
  } else {
    worker->join();
  }
}

std::shared_ptr<Stream> stream_of(const char* function, aclrtStream handle, int& code) {
  code = ACL_SUCCESS;
  const void* wanted = handle;
  if (handle == nullptr) {
    const auto context = current_context();
    if (context == nullptr) {
      code = no_context(function);
      return nullptr;
    }
    wanted = context->default_stream;
  }
  std::shared_ptr<Stream> stream = streams().find(wanted);
  if (stream == nullptr) {
    code = refuse(ACL_ERROR_RT_INVALID_HANDLE, std::string(function) + ": stream " + why_not(wanted, Kind::stream));
  } else if (const void* current = strict() ? current_context_handle() : nullptr; current != nullptr && stream->context() != current) {
    code = refuse(ACL_ERROR_RT_STREAM_CONTEXT, std::string(function) + ": stream " + std::to_string(stream->id()) +
                                                   " belongs to another context than the thread's current one (FUSEDATTN_ACL_STRICT=1)");
    stream = nullptr;
  }
  return stream;
}

}  // namespace fusedattn::cann
