// Threads that wait for streams, and what may keep them from waiting.
#include "runtime/waiting.h"

#include <chrono>

#include "runtime/callbacks.h"

namespace fusedattn::cann {
namespace {

constexpr std::chrono::milliseconds kBetweenLooks{1};  // at callbacks, while waiting for what they may hold up

bool wait_for(Stream& stream, Deadline deadline) {
  return serve_while_waiting([&](Deadline until) { return stream.wait(until); }, deadline);
}

}  // namespace

bool serve_while_waiting(const std::function<bool(Deadline)>& wait, Deadline deadline) {
  if (!subscribed_here()) return wait(deadline);
  while (true) {
    const auto look = Clock::now() + kBetweenLooks;
    const bool last = deadline && *deadline <= look;
    if (wait(last ? deadline : Deadline(look))) return true;
    if (last) return false;
    while (run_callback(Clock::now()) == Ran::one) {
    }
  }
}

int check_timeout(const char* function, std::int32_t timeout) {
  if (timeout >= -1) return ACL_SUCCESS;
  return refuse(ACL_ERROR_RT_PARAM_INVALID,
                std::string(function) + ": timeout is " + std::to_string(timeout) + "; -1 (for ever), 0 and more are accepted");
}

int refuse_on_worker(const char* function, const std::shared_ptr<Stream>& stream) {
  if (!stream->is_here()) return ACL_SUCCESS;
  return refuse(ACL_ERROR_RT_PARAM_INVALID,
                std::string(function) + ": called by a function that the stream itself runs, which would wait for itself");
}

int synchronize_stream(const char* function, const std::shared_ptr<Stream>& stream, Deadline deadline) {
  if (const int code = refuse_on_worker(function, stream)) return code;
  if (stream->lost()) {
    return refuse(ACL_ERROR_RT_INVALID_HANDLE,
                  std::string(function) + ": stream was used before fork; a child must create streams of its own");
  }
  if (!wait_for(*stream, deadline)) {
    return refuse(ACL_ERROR_RT_STREAM_SYNC_TIMEOUT, std::string(function) + ": the stream's work did not end within the timeout");
  }
  return report(stream->take_failure());
}

void destroy_stream(const std::shared_ptr<Stream>& stream, bool drop) {
  if (!drop && stream->subscriber == this_thread()) wait_for(*stream, std::nullopt);
  forget_callbacks(*stream);
  stream->end(drop);
}

}  // namespace fusedattn::cann
