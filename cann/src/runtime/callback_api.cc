// Host functions and callbacks.
#include "runtime/arguments.h"
#include "runtime/callbacks.h"
#include "runtime/stream.h"

using namespace fusedattn::cann;

aclError aclrtLaunchHostFunc(aclrtStream stream, aclrtHostFunc fn, void* args) {
  return runtime_call(__func__, [&]() -> int {
    if (fn == nullptr) return null_result("aclrtLaunchHostFunc", "fn");
    int code;
    const auto live = stream_of("aclrtLaunchHostFunc", stream, code);
    if (live == nullptr) return code;
    return report(live->submit([fn, args]() -> Outcome {
      fn(args);
      return {};
    }));
  });
}

aclError aclrtLaunchCallback(aclrtCallback fn, void* userData, aclrtCallbackBlockType blockType, aclrtStream stream) {
  const int how = blockType;
  return runtime_call(__func__, [&]() -> int {
    if (fn == nullptr) return null_result("aclrtLaunchCallback", "fn");
    if (how != ACL_CALLBACK_NO_BLOCK && how != ACL_CALLBACK_BLOCK) {
      return refuse(ACL_ERROR_INVALID_PARAM, "aclrtLaunchCallback: blockType is " + std::to_string(how) + "; 0 and 1 are accepted");
    }
    int code;
    const auto live = stream_of("aclrtLaunchCallback", stream, code);
    if (live == nullptr) return code;
    if (live->subscriber == 0) {
      return refuse(ACL_ERROR_RT_STREAM_NO_CB_REG,
                    "aclrtLaunchCallback: no thread is subscribed to the stream; aclrtSubscribeReport subscribes one");
    }
    Stream* const target = live.get();  // whose work this is: it is there as long as it runs work
    return report(target->submit(
        [target, fn, userData, how]() -> Outcome { return deliver(*target, fn, userData, how == ACL_CALLBACK_BLOCK); }));
  });
}

aclError aclrtSubscribeReport(uint64_t threadId, aclrtStream stream) {
  return runtime_call(__func__, [&]() -> int {
    if (threadId == 0) {
      return refuse(ACL_ERROR_INVALID_PARAM, "aclrtSubscribeReport: threadId is 0; what pthread_self() returns in the thread is accepted");
    }
    int code;
    const auto live = stream_of("aclrtSubscribeReport", stream, code);
    if (live == nullptr) return code;
    if (live->subscriber != 0) {
      return refuse(ACL_ERROR_REPEAT_SUBSCRIBE, "aclrtSubscribeReport: thread " + std::to_string(live->subscriber) +
                                                    " is subscribed to the stream already; one at a time is accepted");
    }
    subscribe(*live, threadId);
    return ACL_SUCCESS;
  });
}

aclError aclrtUnSubscribeReport(uint64_t threadId, aclrtStream stream) {
  return runtime_call(__func__, [&]() -> int {
    int code;
    const auto live = stream_of("aclrtUnSubscribeReport", stream, code);
    if (live == nullptr) return code;
    const std::uint64_t subscriber = live->subscriber;
    if (subscriber == 0 || subscriber != threadId) {
      return refuse(subscriber == 0 ? ACL_ERROR_STREAM_NOT_SUBSCRIBE : ACL_ERROR_THREAD_NOT_SUBSCRIBE,
                    "aclrtUnSubscribeReport: thread " + std::to_string(threadId) + " is not subscribed to the stream; " +
                        (subscriber == 0 ? "no thread is" : "thread " + std::to_string(subscriber) + " is"));
    }
    forget_callbacks(*live);
    return ACL_SUCCESS;
  });
}

aclError aclrtProcessReport(int32_t timeout) {
  return runtime_call(__func__, [&]() -> int {
    if (timeout < -1) {
      return refuse(ACL_ERROR_INVALID_PARAM, "aclrtProcessReport: timeout is " + std::to_string(timeout) +
                                                 "; -1 (for ever), 0 and more are accepted");
    }
    switch (run_callback(deadline_in(timeout))) {
      case Ran::one: return ACL_SUCCESS;
      case Ran::none:
        return refuse(ACL_ERROR_WAIT_CALLBACK_TIMEOUT,
                      "aclrtProcessReport: no callback came within " + std::to_string(timeout) + " ms");
      case Ran::not_subscribed: break;
    }
    return refuse(ACL_ERROR_THREAD_NOT_SUBSCRIBE,
                  "aclrtProcessReport: this thread is not subscribed to a stream; aclrtSubscribeReport subscribes it");
  });
}
