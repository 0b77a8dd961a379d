// Queues of callbacks, one per subscribed thread.
#include "runtime/callbacks.h"

#include <pthread.h>

#include <deque>
#include <map>
#include <memory>
#include <vector>

namespace fusedattn::cann {
namespace {

struct Request {
  aclrtCallback function = nullptr;
  void* argument = nullptr;
  std::shared_ptr<Marker> ran;
  const Stream* stream = nullptr;  // not to be looked behind
};

struct Inbox {
  std::deque<Request> requests;
  int streams = 0;  // subscribed to
};

// Touched inside moved() and wait_until() alone, which hold their mutex.
std::map<std::uint64_t, Inbox>& inboxes() {
  static auto& all = *new std::map<std::uint64_t, Inbox>;
  return all;
}

}  // namespace

std::uint64_t this_thread() { return static_cast<std::uint64_t>(pthread_self()); }

bool subscribed_here() {
  bool found = false;
  moved([&] { found = inboxes().count(this_thread()) != 0; });
  return found;
}

Ran run_callback(Deadline deadline) {
  Request request;
  bool subscribed = true;
  const bool woken = wait_until(
      [&] {
        const auto inbox = inboxes().find(this_thread());
        subscribed = inbox != inboxes().end();
        if (!subscribed) return true;
        if (inbox->second.requests.empty()) return false;
        request = std::move(inbox->second.requests.front());
        inbox->second.requests.pop_front();
        return true;
      },
      deadline);
  if (!subscribed) return Ran::not_subscribed;
  if (!woken) return Ran::none;
  request.function(request.argument);
  request.ran->complete();
  return Ran::one;
}

Outcome deliver(Stream& stream, aclrtCallback function, void* argument, bool blocks) {
  const std::uint64_t thread = stream.subscriber;
  if (thread == this_thread()) {  // the caller runs the stream's work, and can run this too
    function(argument);
    return {};
  }
  const auto ran = std::make_shared<Marker>(&stream);
  bool taken = false;
  moved([&] {
    const auto inbox = inboxes().find(thread);
    taken = inbox != inboxes().end() && stream.subscriber == thread;
    if (taken) inbox->second.requests.push_back({function, argument, ran, &stream});
  });
  if (!taken) return {ACL_ERROR_RT_STREAM_NO_CB_REG, "a callback was dropped: no thread was subscribed to its stream any more"};
  if (blocks) wait_until([&] { return ran->state() != Marker::State::pending || stream.dropping(); }, std::nullopt);
  return {};
}

void subscribe(Stream& stream, std::uint64_t thread) {
  std::vector<std::shared_ptr<Marker>> dropped;
  moved([&] {
    if (const auto old = inboxes().find(stream.subscriber); old != inboxes().end()) {
      std::deque<Request> kept;
      for (Request& request : old->second.requests) {
        if (request.stream == &stream) {
          dropped.push_back(request.ran);
        } else {
          kept.push_back(std::move(request));
        }
      }
      old->second.requests.swap(kept);
      if (--old->second.streams == 0) inboxes().erase(old);
    }
    stream.subscriber = thread;
    if (thread != 0) ++inboxes()[thread].streams;
  });
  for (const auto& marker : dropped) marker->abandon();
}

void forget_callbacks(Stream& stream) { subscribe(stream, 0); }

}  // namespace fusedattn::cann
