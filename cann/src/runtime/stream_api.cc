// aclrtCreateStream and what else is done with streams.
#include "runtime/arguments.h"
#include "runtime/device.h"
#include "runtime/event.h"
#include "runtime/stream.h"
#include "runtime/waiting.h"

namespace fusedattn::cann {
namespace {

constexpr std::uint32_t kLowestPriority = 7;
constexpr std::uint32_t kStreamFlags = 0x3F;  // all of ACL_STREAM_*

int create(const char* function, aclrtStream* stream) {
  const auto context = current_context();
  if (context == nullptr) return no_context(function);
  *stream = streams().add(make_stream(current_context_handle(), context->device));
  return ACL_SUCCESS;
}

int destroy(const char* function, aclrtStream handle, bool drop) {
  if (handle == nullptr) return null_result(function, "stream");
  const auto stream = streams().find(handle);
  if (stream == nullptr) {
    return refuse(ACL_ERROR_RT_INVALID_HANDLE, std::string(function) + ": stream " + why_not(handle, Kind::stream));
  }
  const auto context = contexts().find(stream->context());
  if (context != nullptr && context->default_stream == handle) {
    return refuse(ACL_ERROR_RT_PARAM_INVALID,
                  std::string(function) + ": stream is the default one of its context, and ends with it");
  }
  if (const int code = refuse_on_worker(function, stream)) return code;
  if (streams().take(handle) != nullptr) destroy_stream(stream, drop);
  return ACL_SUCCESS;
}

int synchronize(const char* function, aclrtStream handle, std::int32_t timeout) {
  if (const int code = check_timeout(function, timeout)) return code;
  int code;
  const auto stream = stream_of(function, handle, code);
  return stream == nullptr ? code : synchronize_stream(function, stream, deadline_in(timeout));
}

}  // namespace
}  // namespace fusedattn::cann

using namespace fusedattn::cann;

aclError aclrtCreateStream(aclrtStream* stream) {
  return runtime_call(__func__, [&]() -> int {
    if (stream == nullptr) return null_result("aclrtCreateStream", "stream");
    return create("aclrtCreateStream", stream);
  });
}

aclError aclrtCreateStreamWithConfig(aclrtStream* stream, uint32_t priority, uint32_t flag) {
  return runtime_call(__func__, [&]() -> int {
    const std::string function = "aclrtCreateStreamWithConfig";
    if (stream == nullptr) return null_result("aclrtCreateStreamWithConfig", "stream");
    if (priority > kLowestPriority) {
      return refuse(ACL_ERROR_RT_PARAM_INVALID, function + ": priority is " + std::to_string(priority) + "; 0 to 7 are accepted");
    }
    if ((flag & ~kStreamFlags) != 0) {
      return refuse(ACL_ERROR_RT_PARAM_INVALID,
                    function + ": flag is " + std::to_string(flag) + "; ACL_STREAM_* or-ed together are accepted");
    }
    return create("aclrtCreateStreamWithConfig", stream);
  });
}

aclError aclrtDestroyStream(aclrtStream stream) {
  return runtime_call(__func__, [&] { return destroy("aclrtDestroyStream", stream, false); });
}

aclError aclrtDestroyStreamForce(aclrtStream stream) {
  return runtime_call(__func__, [&] { return destroy("aclrtDestroyStreamForce", stream, true); });
}

aclError aclrtSynchronizeStream(aclrtStream stream) {
  return runtime_call(__func__, [&] { return synchronize("aclrtSynchronizeStream", stream, -1); });
}

aclError aclrtSynchronizeStreamWithTimeout(aclrtStream stream, int32_t timeout) {
  return runtime_call(__func__, [&] { return synchronize("aclrtSynchronizeStreamWithTimeout", stream, timeout); });
}

aclError aclrtStreamQuery(aclrtStream stream, aclrtStreamStatus* status) {
  if (status == nullptr) return null_result(__func__, "status");
  int code;
  const auto live = stream_of(__func__, stream, code);
  if (live == nullptr) return code;
  *status = live->idle() ? ACL_STREAM_STATUS_COMPLETE : ACL_STREAM_STATUS_NOT_READY;
  return ACL_SUCCESS;
}

aclError aclrtStreamGetId(aclrtStream stream, int32_t* streamId) {
  if (streamId == nullptr) return null_result(__func__, "streamId");
  int code;
  const auto live = stream_of(__func__, stream, code);
  if (live == nullptr) return code;
  *streamId = live->id();
  return ACL_SUCCESS;
}

aclError aclrtStreamWaitEvent(aclrtStream stream, aclrtEvent event) {
  return runtime_call(__func__, [&]() -> int {
    int code;
    const auto awaited = event_of("aclrtStreamWaitEvent", event, code);
    if (awaited == nullptr) return code;
    const auto live = stream_of("aclrtStreamWaitEvent", stream, code);
    return live == nullptr ? code : report(wait_in_stream(live, awaited));
  });
}
