// Which devices there are, and which context a thread has.
#include "runtime/device.h"

#include <cstdlib>

#include "message.h"
#include "runtime/stream.h"
#include "runtime/waiting.h"

namespace fusedattn::cann {
namespace {

thread_local void* current = nullptr;
thread_local bool ever = false;

constexpr std::int32_t kMostDevices = 64;

std::int32_t asked_for() {
  const char* text = std::getenv("FUSEDATTN_ACL_DEVICES");
  const long count = text == nullptr ? 1 : std::strtol(text, nullptr, 10);
  return static_cast<std::int32_t>(count < 1 ? 1 : count > kMostDevices ? kMostDevices : count);
}

// How many of the devices a list "0,2,3" shows; as on devices, it ends at the first that is none.
std::int32_t shown(const char* list, std::int32_t devices) {
  std::int32_t count = 0;
  for (char* end = nullptr; *list != '\0' && count < devices; list = end, ++count) {
    const long device = std::strtol(list, &end, 10);
    if (end == list || device < 0 || device >= devices) break;
    if (*end == ',') ++end;
  }
  return count;
}

}  // namespace

Handles<Context>& contexts() {
  static Handles<Context>& all = *new Handles<Context>(Kind::context);
  return all;
}

std::int32_t device_count() {
  static const std::int32_t count = [] {
    const std::int32_t devices = asked_for();
    const char* list = std::getenv("ASCEND_RT_VISIBLE_DEVICES");
    return devices > 1 && list != nullptr ? shown(list, devices) : devices;
  }();
  return count;
}

int check_device(const char* function, const char* argument, std::int64_t device) {
  if (device >= 0 && device < device_count()) return ACL_SUCCESS;
  if (device_count() == 0) {
    return refuse(ACL_ERROR_RT_NO_DEVICE, std::string(function) + ": ASCEND_RT_VISIBLE_DEVICES shows no device");
  }
  return refuse(ACL_ERROR_RT_INVALID_DEVICEID, std::string(function) + ": " + argument + " is " + std::to_string(device) +
                                                   "; 0 to " + std::to_string(device_count() - 1) + " are accepted");
}

std::shared_ptr<Context> current_context() { return current == nullptr ? nullptr : contexts().find(current); }

bool had_context() { return ever; }

void set_current_context(void* handle) {
  current = handle;
  ever = true;
}

void* current_context_handle() { return current_context() == nullptr ? nullptr : current; }

int no_context(const char* function) {
  return refuse(ACL_ERROR_RT_CONTEXT_NULL,
                std::string(function) + ": this thread has no context; call aclrtSetDevice or aclrtSetCurrentContext in it first");
}

void* make_context(std::int32_t device, bool of_device) {
  auto context = std::make_shared<Context>();
  context->device = device;
  context->of_device = of_device;
  void* handle = contexts().add(context);
  context->default_stream = streams().add(make_stream(handle, device));
  return handle;
}

int refuse_on_workers(const char* function, const void* context) {
  for (const auto& [handle, stream] : streams().all()) {
    if (stream->context() != context) continue;
    if (const int code = refuse_on_worker(function, stream)) return code;
  }
  return ACL_SUCCESS;
}

int end_context(const char* function, void* handle, bool drop) {
  if (const int code = refuse_on_workers(function, handle)) return code;
  std::vector<Handles<Stream>::Live> own;
  for (auto& live : streams().all()) {
    if (live.object->context() == handle) own.push_back(live);
  }
  contexts().take(handle);
  for (const auto& live : own) {
    streams().take(live.handle);
    if (drop) live.object->drop_work();
  }
  for (const auto& live : own) destroy_stream(live.object, drop);
  return ACL_SUCCESS;
}

}  // namespace fusedattn::cann
