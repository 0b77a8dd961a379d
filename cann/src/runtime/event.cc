// What events put into streams. Work that a stream drops still lets everybody go who waits for it: destructors see to that.
#include "runtime/event.h"

#include "runtime/arguments.h"

namespace fusedattn::cann {
namespace {

// Lets go whoever waits for the marker, even if the stream never comes to it.
struct Promise {
  explicit Promise(std::shared_ptr<Marker> marker) : marker(std::move(marker)) {}
  ~Promise() {
    if (marker->state() == Marker::State::pending) marker->abandon();
  }
  std::shared_ptr<Marker> marker;
};

// Counts a wait as long as it is queued or running.
struct Wait {
  explicit Wait(std::shared_ptr<Event> event) : event(std::move(event)) { ++this->event->waits; }
  ~Wait() { --event->waits; }
  std::shared_ptr<Event> event;
};

}  // namespace

Handles<Event>& events() {
  static Handles<Event>& all = *new Handles<Event>(Kind::event);
  return all;
}

std::shared_ptr<Event> event_of(const char* function, aclrtEvent handle, int& code) {
  code = ACL_SUCCESS;
  if (handle == nullptr) {
    code = null_result(function, "event");
    return nullptr;
  }
  auto event = events().find(handle);
  if (event == nullptr) code = refuse(ACL_ERROR_RT_INVALID_HANDLE, std::string(function) + ": event " + why_not(handle, Kind::event));
  return event;
}

Outcome record_in_stream(const std::shared_ptr<Stream>& stream, const std::shared_ptr<Event>& event) {
  const auto promise = std::make_shared<Promise>(std::make_shared<Marker>(stream.get()));
  std::shared_ptr<Marker> before;
  {
    const std::lock_guard lock(event->mutex);
    before = std::exchange(event->last, promise->marker);
  }
  Outcome outcome = stream->submit([promise]() -> Outcome {
    promise->marker->complete();
    return {};
  });
  if (!outcome.ok()) {
    const std::lock_guard lock(event->mutex);
    if (event->last == promise->marker) event->last = before;
  }
  return outcome;
}

Outcome reset_in_stream(const std::shared_ptr<Stream>& stream, const std::shared_ptr<Event>& event) {
  return stream->submit([event, recorded = event->recorded()]() -> Outcome {
    const std::lock_guard lock(event->mutex);
    if (event->last == recorded) event->last = nullptr;
    return {};
  });
}

Outcome wait_in_stream(const std::shared_ptr<Stream>& stream, const std::shared_ptr<Event>& event) {
  const auto marker = event->recorded();
  if (marker == nullptr || marker->state() != Marker::State::pending || marker->stream() == stream.get()) return {};
  Stream* const waiting = stream.get();  // it is there as long as it runs work
  return stream->submit([waiting, marker, wait = std::make_shared<Wait>(event)]() -> Outcome {
    wait_until([&] { return marker->state() != Marker::State::pending || waiting->dropping(); }, std::nullopt);
    return {};
  });
}

}  // namespace fusedattn::cann
