// Events: the last marker that was put into a stream for them.
#pragma once
#include <atomic>
#include <memory>
#include <mutex>

#include "runtime/handles.h"
#include "runtime/marker.h"
#include "runtime/stream.h"

namespace fusedattn::cann {

struct Event {
  std::shared_ptr<Marker> recorded() {
    const std::lock_guard lock(mutex);
    return last;
  }

  std::mutex mutex;
  std::shared_ptr<Marker> last;       // null: never recorded, or reset since
  std::atomic<std::int64_t> waits = 0;  // of streams, that have not ended
};

Handles<Event>& events();

// The live event behind a handle; null after keeping a sentence and setting `code`.
std::shared_ptr<Event> event_of(const char* function, aclrtEvent handle, int& code);

// Each submits to the stream: the marker that is the event's from now on, its removal, a wait for it.
Outcome record_in_stream(const std::shared_ptr<Stream>& stream, const std::shared_ptr<Event>& event);
Outcome reset_in_stream(const std::shared_ptr<Stream>& stream, const std::shared_ptr<Event>& event);
Outcome wait_in_stream(const std::shared_ptr<Stream>& stream, const std::shared_ptr<Event>& event);

}  // namespace fusedattn::cann
