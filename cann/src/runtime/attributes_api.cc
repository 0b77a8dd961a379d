// What the device says about itself: the truth, which is that it is a processor.
#include <array>
#include <cstdlib>
#include <cstring>

#include "runtime/arguments.h"
#include "runtime/device.h"
#include "runtime/machine.h"

namespace fusedattn::cann {
namespace {

#if defined(__aarch64__)
constexpr const char* kSocName = "fusedattn-cpu-aarch64";
#else
constexpr const char* kSocName = "fusedattn-cpu-x86_64";
#endif

struct CannAttribute {
  aclCannAttr name;
  std::int32_t value;
};
constexpr CannAttribute kCannAttributes[] = {{ACL_CANN_ATTR_INF_NAN, 1}, {ACL_CANN_ATTR_BF16, 1}, {ACL_CANN_ATTR_JIT_COMPILE, 0}};
constexpr aclCannAttr kCannNames[] = {ACL_CANN_ATTR_INF_NAN, ACL_CANN_ATTR_BF16, ACL_CANN_ATTR_JIT_COMPILE};

struct DeviceAttribute {
  int name;
  std::int64_t (*value)();
};
constexpr DeviceAttribute kDeviceAttributes[] = {
    {ACL_DEV_ATTR_AICPU_CORE_NUM, usable_processors},
    {ACL_DEV_ATTR_AICORE_CORE_NUM, usable_processors},
    {ACL_DEV_ATTR_CUBE_CORE_NUM, usable_processors},
    {ACL_DEV_ATTR_VECTOR_CORE_NUM, usable_processors},
    {ACL_DEV_ATTR_TOTAL_GLOBAL_MEM_SIZE, [] { return static_cast<std::int64_t>(total_memory()); }},
    {ACL_DEV_ATTR_L2_CACHE_SIZE, last_cache},
    {ACL_DEV_ATTR_IS_VIRTUAL, [] { return std::int64_t{device_count() > 1}; }},
};
constexpr DeviceAttribute kCapabilities[] = {
    {ACL_DEVICE_INFO_AI_CORE_NUM, usable_processors},
    {ACL_DEVICE_INFO_VECTOR_CORE_NUM, usable_processors},
    {ACL_DEVICE_INFO_L2_SIZE, last_cache},
};

template <class Table>
int look_up(const char* function, const Table& table, int name, int code, std::int64_t* value) {
  for (const DeviceAttribute& attribute : table) {
    if (attribute.name == name) {
      *value = attribute.value();
      return ACL_SUCCESS;
    }
  }
  return refuse(code, std::string(function) + ": attribute " + std::to_string(name) + " is not known for a processor");
}

}  // namespace
}  // namespace fusedattn::cann

using namespace fusedattn::cann;

const char* aclrtGetSocName() {
  const char* wanted = std::getenv("FUSEDATTN_ACL_SOC_NAME");
  return wanted != nullptr && *wanted != '\0' ? wanted : kSocName;
}

aclError aclGetCannAttributeList(const aclCannAttr** cannAttrList, size_t* num) {
  if (cannAttrList == nullptr) return null_result(__func__, "cannAttrList");
  if (num == nullptr) return null_result(__func__, "num");
  *cannAttrList = kCannNames;
  *num = std::size(kCannNames);
  return ACL_SUCCESS;
}

aclError aclGetCannAttribute(aclCannAttr cannAttr, int32_t* value) {
  const int name = cannAttr;
  if (value == nullptr) return null_result(__func__, "value");
  for (const CannAttribute& attribute : kCannAttributes) {
    if (attribute.name == name) {
      *value = attribute.value;
      return ACL_SUCCESS;
    }
  }
  return refuse(ACL_ERROR_INVALID_PARAM, "aclGetCannAttribute: cannAttr is " + std::to_string(name) + "; 0 to 2 are accepted");
}

aclError aclGetDeviceCapability(uint32_t deviceId, aclDeviceInfo deviceInfo, int64_t* value) {
  const int name = deviceInfo;
  if (value == nullptr) return null_result(__func__, "value");
  if (const int code = check_device(__func__, "deviceId", deviceId)) return code;
  return look_up(__func__, kCapabilities, name, ACL_ERROR_INVALID_PARAM, value);
}

aclError aclrtGetDeviceInfo(uint32_t deviceId, aclrtDevAttr attr, int64_t* value) {
  const int name = attr;
  if (value == nullptr) return null_result(__func__, "value");
  if (const int code = check_device(__func__, "deviceId", deviceId)) return code;
  return look_up(__func__, kDeviceAttributes, name, ACL_ERROR_RT_PARAM_INVALID, value);
}

aclError aclrtGetResInCurrentThread(aclrtDevResLimitType type, uint32_t* value) {
  const int which = type;
  if (value == nullptr) return null_result(__func__, "value");
  if (which != ACL_RT_DEV_RES_CUBE_CORE && which != ACL_RT_DEV_RES_VECTOR_CORE) {
    return refuse(ACL_ERROR_RT_PARAM_INVALID,
                  "aclrtGetResInCurrentThread: type is " + std::to_string(which) + "; 0 and 1 are accepted");
  }
  *value = static_cast<uint32_t>(usable_processors());
  return ACL_SUCCESS;
}
