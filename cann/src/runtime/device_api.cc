// aclrtSetDevice and what else is about devices.
#include <array>
#include <vector>

#include "message.h"
#include "runtime/arguments.h"
#include "runtime/device.h"
#include "runtime/stream.h"
#include "runtime/waiting.h"

namespace fusedattn::cann {
namespace {

struct Device {
  std::uint64_t sets = 0;
  void* context = nullptr;
};

struct Devices {
  ForkMutex mutex;
  std::array<Device, 64> all;
};

Devices& devices() {
  static Devices& the_devices = *new Devices;
  return the_devices;
}

void* default_context(std::int32_t number) {
  const std::lock_guard lock(devices().mutex);
  return devices().all[number].context;
}

// Takes back one set, or all; *ended is the default context when none remain.
bool take_back(std::int32_t number, bool all, void** ended) {
  const std::lock_guard lock(devices().mutex);
  Device& device = devices().all[number];
  if (device.sets == 0) return false;
  device.sets = all ? 0 : device.sets - 1;
  if (device.sets == 0) *ended = std::exchange(device.context, nullptr);
  return true;
}

int reset(const char* function, std::int32_t number, bool all) {
  if (const int code = check_device(function, "deviceId", number)) return code;
  if (const int code = refuse_on_workers(function, default_context(number))) return code;
  void* ended = nullptr;
  if (!take_back(number, all, &ended)) {
    return refuse(ACL_ERROR_RT_PARAM_INVALID,
                  std::string(function) + ": device " + std::to_string(number) + " is not set; aclrtSetDevice was not called for it");
  }
  return ended == nullptr ? ACL_SUCCESS : end_context(function, ended, false);
}

int synchronize(const char* function, std::int32_t timeout) {
  if (const int code = check_timeout(function, timeout)) return code;
  const auto context = current_context();
  if (context == nullptr) return no_context(function);
  const Deadline deadline = deadline_in(timeout);
  int first = ACL_SUCCESS;
  for (const auto& [handle, stream] : streams().all()) {
    if (stream->device() != context->device || stream->lost()) continue;
    const int code = synchronize_stream(function, stream, deadline);
    if (first == ACL_SUCCESS) first = code;
  }
  return first;
}

}  // namespace

}  // namespace fusedattn::cann

using namespace fusedattn::cann;

aclError aclrtSetDevice(int32_t deviceId) {
  return runtime_call(__func__, [&]() -> int {
    if (const int code = check_device("aclrtSetDevice", "deviceId", deviceId)) return code;
    void* made = nullptr;
    {
      const std::lock_guard lock(devices().mutex);
      Device& device = devices().all[deviceId];
      if (device.context != nullptr) {
        ++device.sets;
        set_current_context(device.context);
        return ACL_SUCCESS;
      }
    }
    made = make_context(deviceId, true);
    void* spare = nullptr;
    {
      const std::lock_guard lock(devices().mutex);
      Device& device = devices().all[deviceId];
      if (device.context == nullptr) {
        device.context = made;
      } else {
        spare = made;  // another thread was first
      }
      ++device.sets;
      set_current_context(device.context);
    }
    return spare == nullptr ? ACL_SUCCESS : end_context("aclrtSetDevice", spare, true);
  });
}

aclError aclrtResetDevice(int32_t deviceId) {
  return runtime_call(__func__, [&] { return reset("aclrtResetDevice", deviceId, false); });
}

aclError aclrtResetDeviceForce(int32_t deviceId) {
  return runtime_call(__func__, [&] { return reset("aclrtResetDeviceForce", deviceId, true); });
}

aclError aclrtGetDevice(int32_t* deviceId) {
  if (deviceId == nullptr) return null_result(__func__, "deviceId");
  const auto context = current_context();
  if (context == nullptr) return no_context(__func__);
  *deviceId = context->device;
  return ACL_SUCCESS;
}

aclError aclrtGetDeviceCount(uint32_t* count) {
  if (count == nullptr) return null_result(__func__, "count");
  *count = static_cast<uint32_t>(device_count());
  return ACL_SUCCESS;
}

aclError aclrtGetRunMode(aclrtRunMode* runMode) {
  if (runMode == nullptr) return null_result(__func__, "runMode");
  *runMode = ACL_HOST;
  return ACL_SUCCESS;
}

aclError aclrtSynchronizeDevice() {
  return runtime_call(__func__, [] { return synchronize("aclrtSynchronizeDevice", -1); });
}

aclError aclrtSynchronizeDeviceWithTimeout(int32_t timeout) {
  return runtime_call(__func__, [&] { return synchronize("aclrtSynchronizeDeviceWithTimeout", timeout); });
}

aclError aclrtQueryDeviceStatus(int32_t deviceId, aclrtDeviceStatus* deviceStatus) {
  if (deviceStatus == nullptr) return null_result(__func__, "deviceStatus");
  if (const int code = check_device(__func__, "deviceId", deviceId)) return code;
  *deviceStatus = ACL_RT_DEVICE_STATUS_NORMAL;
  return ACL_SUCCESS;
}

aclError aclrtGetDeviceUtilizationRate(int32_t, aclrtUtilizationInfo*) {
  return unsupported(__func__, "the use of the processor is not measured");
}

aclError aclrtDeviceCanAccessPeer(int32_t* canAccessPeer, int32_t deviceId, int32_t peerDeviceId) {
  if (canAccessPeer == nullptr) return null_result(__func__, "canAccessPeer");
  if (const int code = check_device(__func__, "deviceId", deviceId)) return code;
  if (const int code = check_device(__func__, "peerDeviceId", peerDeviceId)) return code;
  if (deviceId == peerDeviceId) {
    return refuse(ACL_ERROR_RT_PARAM_INVALID, "aclrtDeviceCanAccessPeer: peerDeviceId is " + std::to_string(peerDeviceId) +
                                                  ", as deviceId is; another device is accepted");
  }
  *canAccessPeer = 1;
  return ACL_SUCCESS;
}

aclError aclrtDeviceEnablePeerAccess(int32_t peerDeviceId, uint32_t) { return check_device(__func__, "peerDeviceId", peerDeviceId); }

aclError aclrtDeviceDisablePeerAccess(int32_t peerDeviceId) { return check_device(__func__, "peerDeviceId", peerDeviceId); }
