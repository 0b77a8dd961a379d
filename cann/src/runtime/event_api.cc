// aclrtCreateEvent and what else is done with events.
#include "runtime/arguments.h"
#include "runtime/device.h"
#include "runtime/event.h"
#include "runtime/waiting.h"

namespace fusedattn::cann {
namespace {

constexpr std::uint32_t kEventFlags = ACL_EVENT_SYNC | ACL_EVENT_CAPTURE_STREAM_PROGRESS | ACL_EVENT_TIME_LINE |
                                      ACL_EVENT_DEVICE_USE_ONLY | ACL_EVENT_EXTERNAL | ACL_EVENT_IPC;

int create(const char* function, aclrtEvent* event) {
  if (event == nullptr) return null_result(function, "event");
  if (current_context() == nullptr) return no_context(function);
  *event = events().add(std::make_shared<Event>());
  return ACL_SUCCESS;
}

int create(const char* function, aclrtEvent* event, std::uint32_t flag) {
  if (event != nullptr && (flag == 0 || (flag & ~kEventFlags) != 0)) {
    return refuse(ACL_ERROR_RT_PARAM_INVALID, std::string(function) + ": flag is " + std::to_string(flag) +
                                                  "; ACL_EVENT_* or-ed together, and not 0, are accepted");
  }
  return create(function, event);
}

// Both handles first, the event's before the stream's.
template <class Submit>
int in_stream(const char* function, aclrtEvent event, aclrtStream stream, Submit submit) {
  return runtime_call(function, [&]() -> int {
    int code;
    const auto live_event = event_of(function, event, code);
    if (live_event == nullptr) return code;
    const auto live_stream = stream_of(function, stream, code);
    if (live_stream == nullptr) return code;
    Outcome outcome = submit(live_stream, live_event);
    if (!outcome.ok()) outcome.sentence = std::string(function) + ": " + outcome.sentence;
    return report(outcome);
  });
}

bool complete(const std::shared_ptr<Marker>& marker) { return marker != nullptr && marker->state() == Marker::State::complete; }

int synchronize(const char* function, aclrtEvent handle, std::int32_t timeout) {
  if (const int code = check_timeout(function, timeout)) return code;
  int code;
  const auto event = event_of(function, handle, code);
  if (event == nullptr) return code;
  const auto marker = event->recorded();
  const auto done = [&] { return marker->state() != Marker::State::pending; };
  if (marker == nullptr || done()) return ACL_SUCCESS;
  for (const auto& [stream_handle, stream] : streams().all()) {
    if (stream.get() != marker->stream()) continue;
    if (const int refused = refuse_on_worker(function, stream)) return refused;
    if (stream->lost()) return synchronize_stream(function, stream, std::nullopt);
  }
  const auto wait = [&](Deadline deadline) { return wait_until(done, deadline); };
  if (serve_while_waiting(wait, deadline_in(timeout))) return ACL_SUCCESS;
  return refuse(ACL_ERROR_RT_EVENT_SYNC_TIMEOUT,
                std::string(function) + ": the event was not reached within " + std::to_string(timeout) + " ms");
}

// The marker of an event that ran; null after keeping a sentence and setting `code`.
std::shared_ptr<Marker> timed(const char* function, const char* argument, aclrtEvent handle, int& code) {
  const auto event = event_of(function, handle, code);
  if (event == nullptr) return nullptr;
  auto marker = event->recorded();
  const std::string start = std::string(function) + ": " + argument;
  if (marker == nullptr) {
    code = refuse(ACL_ERROR_RT_PARAM_INVALID, start + " was never recorded; aclrtRecordEvent records it");
  } else if (!complete(marker)) {
    code = refuse(ACL_ERROR_RT_EVENT_TIMESTAMP_INVALID, start + " was recorded, but its stream has not come to it");
    marker = nullptr;
  }
  return marker;
}

}  // namespace
}  // namespace fusedattn::cann

using namespace fusedattn::cann;

aclError aclrtCreateEvent(aclrtEvent* event) {
  return runtime_call(__func__, [&] { return create("aclrtCreateEvent", event); });
}

aclError aclrtCreateEventWithFlag(aclrtEvent* event, uint32_t flag) {
  return runtime_call(__func__, [&] { return create("aclrtCreateEventWithFlag", event, flag); });
}

aclError aclrtCreateEventExWithFlag(aclrtEvent* event, uint32_t flag) {
  return runtime_call(__func__, [&] { return create("aclrtCreateEventExWithFlag", event, flag); });
}

aclError aclrtDestroyEvent(aclrtEvent event) {
  int code;
  if (event_of(__func__, event, code) == nullptr) return code;
  events().take(event);
  return ACL_SUCCESS;
}

aclError aclrtRecordEvent(aclrtEvent event, aclrtStream stream) { return in_stream(__func__, event, stream, record_in_stream); }

aclError aclrtResetEvent(aclrtEvent event, aclrtStream stream) { return in_stream(__func__, event, stream, reset_in_stream); }

aclError aclrtQueryEvent(aclrtEvent event, aclrtEventStatus* status) {
  if (status == nullptr) return null_result(__func__, "status");
  int code;
  const auto live = event_of(__func__, event, code);
  if (live == nullptr) return code;
  *status = complete(live->recorded()) ? ACL_EVENT_STATUS_COMPLETE : ACL_EVENT_STATUS_NOT_READY;
  return ACL_SUCCESS;
}

aclError aclrtQueryEventStatus(aclrtEvent event, aclrtEventRecordedStatus* status) {
  if (status == nullptr) return null_result(__func__, "status");
  int code;
  const auto live = event_of(__func__, event, code);
  if (live == nullptr) return code;
  *status = complete(live->recorded()) ? ACL_EVENT_RECORDED_STATUS_COMPLETE : ACL_EVENT_RECORDED_STATUS_NOT_READY;
  return ACL_SUCCESS;
}

aclError aclrtQueryEventWaitStatus(aclrtEvent event, aclrtEventWaitStatus* status) {
  if (status == nullptr) return null_result(__func__, "status");
  int code;
  const auto live = event_of(__func__, event, code);
  if (live == nullptr) return code;
  *status = live->waits == 0 ? ACL_EVENT_WAIT_STATUS_COMPLETE : ACL_EVENT_WAIT_STATUS_NOT_READY;
  return ACL_SUCCESS;
}

aclError aclrtSynchronizeEvent(aclrtEvent event) {
  return runtime_call(__func__, [&] { return synchronize("aclrtSynchronizeEvent", event, -1); });
}

aclError aclrtSynchronizeEventWithTimeout(aclrtEvent event, int32_t timeout) {
  return runtime_call(__func__, [&] { return synchronize("aclrtSynchronizeEventWithTimeout", event, timeout); });
}

aclError aclrtEventElapsedTime(float* ms, aclrtEvent startEvent, aclrtEvent endEvent) {
  if (ms == nullptr) return null_result(__func__, "ms");
  int code;
  const auto start = timed(__func__, "startEvent", startEvent, code);
  if (start == nullptr) return code;
  const auto end = timed(__func__, "endEvent", endEvent, code);
  if (end == nullptr) return code;
  const std::int64_t between = end->nanoseconds() - start->nanoseconds();
  if (between < 0) {
    return refuse(ACL_ERROR_RT_EVENT_TIMESTAMP_REVERSAL, "aclrtEventElapsedTime: endEvent was reached " +
                                                             std::to_string(-between) + " ns before startEvent");
  }
  *ms = static_cast<float>(static_cast<double>(between) / 1e6);
  return ACL_SUCCESS;
}

aclError aclrtEventGetTimestamp(aclrtEvent event, uint64_t* timestamp) {
  if (timestamp == nullptr) return null_result(__func__, "timestamp");
  int code;
  const auto marker = timed(__func__, "event", event, code);
  if (marker == nullptr) return code;
  *timestamp = static_cast<uint64_t>(marker->nanoseconds() / 1000);
  return ACL_SUCCESS;
}
