// aclrtMalloc, aclrtFree, and what is asked about memory.
#include <unistd.h>

#include "runtime/arguments.h"
#include "runtime/device.h"
#include "runtime/machine.h"
#include "runtime/memory.h"
#include "runtime/stream.h"
#include "runtime/waiting.h"

namespace fusedattn::cann {
namespace {

constexpr std::size_t kSpare = 32;
constexpr int kPolicies = ACL_MEM_MALLOC_HUGE1G_ONLY_P2P;
constexpr int kPolicyBits = ACL_MEM_TYPE_LOW_BAND_WIDTH | ACL_MEM_TYPE_HIGH_BAND_WIDTH | ACL_MEM_ACCESS_USER_SPACE_READONLY;

int no_memory(const char* function, std::size_t size) {
  return refuse(ACL_ERROR_RT_MEMORY_ALLOCATION, std::string(function) + ": size is " + std::to_string(size) +
                                                    "; there is not so much memory (" + std::to_string(total_memory()) +
                                                    " bytes in all)");
}

int check_size(const char* function, const char* argument, void** address, std::size_t size) {
  if (address == nullptr) return null_result(function, argument);
  if (size > 0) return ACL_SUCCESS;
  return refuse(ACL_ERROR_INVALID_PARAM, std::string(function) + ": size is 0; at least 1 byte is accepted");
}

int device_memory(const char* function, void** address, std::size_t size, int policy, std::size_t spare) {
  if (const int code = check_size(function, "devPtr", address, size)) return code;
  if (const int kind = policy & ~kPolicyBits; kind < 0 || kind > kPolicies) {
    return refuse(ACL_ERROR_INVALID_PARAM, std::string(function) + ": policy is " + std::to_string(policy) +
                                               "; values of aclrtMemMallocPolicy are accepted");
  }
  const auto context = current_context();
  if (context == nullptr) return no_context(function);
  void* memory = allocate(size, spare, Where::device, context->device);
  if (memory == nullptr) return no_memory(function, size);
  *address = memory;
  return ACL_SUCCESS;
}

int give_back(const char* function, void* address, bool host) {
  const char* argument = host ? "hostPtr" : "devPtr";
  if (address == nullptr) return null_result(function, argument);
  const Freed freed = release(address, host);
  if (freed == Freed::yes) return ACL_SUCCESS;
  const char* maker = host ? "aclrtMallocHost" : "aclrtMalloc";
  return refuse(ACL_ERROR_RT_PARAM_INVALID,
                std::string(function) + ": " + argument +
                    (freed == Freed::unknown ? " is no block of this library's, or was freed already; " : " is of the other kind; ") +
                    "what " + maker + " gave is accepted");
}

}  // namespace
}  // namespace fusedattn::cann

using namespace fusedattn::cann;

aclError aclrtMalloc(void** devPtr, size_t size, aclrtMemMallocPolicy policy) {
  const int how = policy;
  return runtime_call(__func__, [&] { return device_memory("aclrtMalloc", devPtr, size, how, kSpare); });
}

aclError aclrtMallocAlign32(void** devPtr, size_t size, aclrtMemMallocPolicy policy) {
  const int how = policy;
  return runtime_call(__func__, [&] { return device_memory("aclrtMallocAlign32", devPtr, size, how, 0); });
}

aclError aclrtMallocCached(void** devPtr, size_t size, aclrtMemMallocPolicy policy) {
  const int how = policy;
  return runtime_call(__func__, [&] { return device_memory("aclrtMallocCached", devPtr, size, how, kSpare); });
}

aclError aclrtMallocWithCfg(void** devPtr, size_t size, aclrtMemMallocPolicy policy, aclrtMallocConfig* cfg) {
  const int how = policy;
  return runtime_call(__func__, [&]() -> int {
    if (cfg != nullptr && cfg->numAttrs > 0 && cfg->attrs == nullptr) return null_result("aclrtMallocWithCfg", "cfg->attrs");
    return device_memory("aclrtMallocWithCfg", devPtr, size, how, kSpare);
  });
}

aclError aclrtFree(void* devPtr) {
  return runtime_call(__func__, [&] { return give_back("aclrtFree", devPtr, false); });
}

aclError aclrtFreeWithDevSync(void* devPtr) {
  return runtime_call(__func__, [&]() -> int {
    if (devPtr == nullptr) return null_result("aclrtFreeWithDevSync", "devPtr");
    if (const auto block = block_around(devPtr)) {
      for (const auto& [handle, stream] : streams().all()) {
        if (stream->device() != block->device || stream->lost()) continue;
        if (const int code = refuse_on_worker("aclrtFreeWithDevSync", stream)) return code;
        serve_while_waiting([&](Deadline until) { return stream->wait(until); }, std::nullopt);
      }
    }
    return give_back("aclrtFreeWithDevSync", devPtr, false);
  });
}

aclError aclrtMallocHost(void** hostPtr, size_t size) {
  return runtime_call(__func__, [&]() -> int {
    if (const int code = check_size("aclrtMallocHost", "hostPtr", hostPtr, size)) return code;
    void* memory = allocate(size, 0, Where::host, 0);
    if (memory == nullptr) return no_memory("aclrtMallocHost", size);
    *hostPtr = memory;
    return ACL_SUCCESS;
  });
}

aclError aclrtFreeHost(void* hostPtr) {
  return runtime_call(__func__, [&] { return give_back("aclrtFreeHost", hostPtr, true); });
}

aclError aclrtGetMemInfo(aclrtMemAttr attr, size_t* free, size_t* total) {
  const int which = attr;
  if (free == nullptr) return null_result(__func__, "free");
  if (total == nullptr) return null_result(__func__, "total");
  if (current_context() == nullptr) return no_context(__func__);
  const bool known = which >= ACL_DDR_MEM && which <= ACL_MEM_P2P_HUGE1G;
  *free = known ? free_memory() : 0;
  *total = known ? total_memory() : 0;
  return ACL_SUCCESS;
}

aclError aclrtPointerGetAttributes(const void* ptr, aclrtPtrAttributes* attributes) {
  if (ptr == nullptr) return null_result(__func__, "ptr");
  if (attributes == nullptr) return null_result(__func__, "attributes");
  *attributes = {};
  const auto block = block_around(ptr);
  attributes->location.type = !block                           ? ACL_MEM_LOCATION_TYPE_UNREGISTERED
                              : block->where == Where::device ? ACL_MEM_LOCATION_TYPE_DEVICE
                                                              : ACL_MEM_LOCATION_TYPE_HOST;
  attributes->location.id = block ? static_cast<uint32_t>(block->device) : 0;
  attributes->pageSize = static_cast<uint32_t>(sysconf(_SC_PAGESIZE));
  return ACL_SUCCESS;
}

aclError aclrtHostRegister(void* ptr, uint64_t size, aclrtHostRegisterType type, void** devPtr) {
  const int how = type;
  return runtime_call(__func__, [&]() -> int {
    if (ptr == nullptr) return null_result("aclrtHostRegister", "ptr");
    if (devPtr == nullptr) return null_result("aclrtHostRegister", "devPtr");
    if (size == 0) return refuse(ACL_ERROR_INVALID_PARAM, "aclrtHostRegister: size is 0; at least 1 byte is accepted");
    if (how != ACL_HOST_REGISTER_MAPPED) {
      return refuse(ACL_ERROR_INVALID_PARAM,
                    "aclrtHostRegister: type is " + std::to_string(how) + "; 0 (ACL_HOST_REGISTER_MAPPED) is accepted");
    }
    if (reinterpret_cast<std::uintptr_t>(ptr) + size < size || !add_registered(ptr, size)) {
      return refuse(ACL_ERROR_HOST_MEMORY_ALREADY_REGISTERED,
                    "aclrtHostRegister: ptr to ptr + size overlaps memory that is registered or was allocated by this library");
    }
    *devPtr = ptr;
    return ACL_SUCCESS;
  });
}

aclError aclrtHostUnregister(void* ptr) {
  if (ptr == nullptr) return null_result(__func__, "ptr");
  if (remove_registered(ptr)) return ACL_SUCCESS;
  return refuse(ACL_ERROR_HOST_MEMORY_NOT_REGISTERED,
                "aclrtHostUnregister: ptr is not registered; what aclrtHostRegister was given is accepted");
}

aclError aclrtAllocatorRegister(aclrtStream, aclrtAllocatorDesc) {
  return unsupported(__func__, "this library allocates no device memory on its own");
}

aclError aclrtAllocatorUnregister(aclrtStream) {
  return unsupported(__func__, "this library allocates no device memory on its own");
}
