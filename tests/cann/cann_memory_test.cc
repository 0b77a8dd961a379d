// Memory: blocks, their spare bytes and attributes, copies and fills; contexts. Runs in lenient and in strict mode.
#include <cstdlib>
#include <cstring>
#include <vector>

#include "acl_check.h"

namespace {

const bool strict = std::getenv("FUSEDATTN_ACL_STRICT") != nullptr;

void* device_memory(size_t size) {
  void* address = nullptr;
  FINE(aclrtMalloc(&address, size, ACL_MEM_MALLOC_HUGE_FIRST));
  return address;
}

aclrtMemLocationType type_of(const void* address) {
  aclrtPtrAttributes attributes;
  FINE(aclrtPointerGetAttributes(address, &attributes));
  return attributes.location.type;
}

}  // namespace

TEST(blocks_are_aligned_zeroed_and_have_room) {
  FINE(aclrtSetDevice(0));
  for (const size_t size : {size_t{1}, size_t{31}, size_t{1000}, size_t{5} << 20}) {
    auto* memory = static_cast<unsigned char*>(device_memory(size));
    CHECK_EQ(reinterpret_cast<uintptr_t>(memory) % 64, 0u);
    const size_t usable = (size + 31) / 32 * 32 + 32;
    size_t other = 0;
    for (size_t i = 0; i < usable; ++i) other += memory[i] != 0;
    CHECK_EQ(other, 0u);
    std::memset(memory, 1, usable);  // the address sanitizer looks on
    FINE(aclrtFree(memory));
  }
}

TEST(sizes_and_policies_are_checked) {
  void* memory = nullptr;
  REFUSED(aclrtMalloc(nullptr, 8, ACL_MEM_MALLOC_HUGE_FIRST), 100000);
  REFUSED(aclrtMalloc(&memory, 0, ACL_MEM_MALLOC_HUGE_FIRST), 100000);
  REFUSED(aclrtMalloc(&memory, SIZE_MAX, ACL_MEM_MALLOC_HUGE_FIRST), 207001);
  REFUSED(aclrtMalloc(&memory, SIZE_MAX / 2, ACL_MEM_MALLOC_HUGE_FIRST), 207001);
  REFUSED(aclrtMalloc(&memory, 8, static_cast<aclrtMemMallocPolicy>(8)), 100000);
  REFUSED(aclrtMallocHost(&memory, 0), 100000);
  REFUSED(aclrtMallocHost(nullptr, 8), 100000);
  CHECK(memory == nullptr);
  FINE(aclrtMallocAlign32(&memory, 8, static_cast<aclrtMemMallocPolicy>(ACL_MEM_MALLOC_NORMAL_ONLY | ACL_MEM_TYPE_HIGH_BAND_WIDTH)));
  FINE(aclrtFree(memory));
  FINE(aclrtMallocCached(&memory, 8, ACL_MEM_MALLOC_NORMAL_ONLY));
  FINE(aclrtFreeWithDevSync(memory));
  aclrtMallocConfig config{nullptr, 0};
  FINE(aclrtMallocWithCfg(&memory, 8, ACL_MEM_MALLOC_NORMAL_ONLY, &config));
  FINE(aclrtFree(memory));
  config.numAttrs = 1;
  REFUSED(aclrtMallocWithCfg(&memory, 8, ACL_MEM_MALLOC_NORMAL_ONLY, &config), 100000);
}

TEST(freeing_what_is_not_there_is_refused) {
  void* memory = device_memory(8);
  void* host;
  FINE(aclrtMallocHost(&host, 8));
  REFUSED(aclrtFree(host), 107000);
  REFUSED(aclrtFreeHost(memory), 107000);
  REFUSED(aclrtFree(static_cast<char*>(memory) + 4), 107000);
  FINE(aclrtFree(memory));
  REFUSED(aclrtFree(memory), 107000);
  REFUSED(aclrtFreeWithDevSync(memory), 107000);
  REFUSED(aclrtFree(nullptr), 100000);
  REFUSED(aclrtFree(wild()), 107000);
  FINE(aclrtFreeHost(host));
  REFUSED(aclrtFreeHost(host), 107000);
  REFUSED(aclrtFreeHost(nullptr), 100000);
}

TEST(addresses_are_classified) {
  void *memory = device_memory(100), *host, *seen;
  FINE(aclrtMallocHost(&host, 100));
  CHECK_EQ(type_of(memory), ACL_MEM_LOCATION_TYPE_DEVICE);
  CHECK_EQ(type_of(static_cast<char*>(memory) + 99), ACL_MEM_LOCATION_TYPE_DEVICE);
  CHECK_EQ(type_of(host), ACL_MEM_LOCATION_TYPE_HOST);
  std::vector<char> own(64);
  CHECK_EQ(type_of(own.data()), ACL_MEM_LOCATION_TYPE_UNREGISTERED);
  FINE(aclrtHostRegister(own.data(), own.size(), ACL_HOST_REGISTER_MAPPED, &seen));
  CHECK(seen == own.data());
  CHECK_EQ(type_of(own.data() + 63), ACL_MEM_LOCATION_TYPE_HOST);
  REFUSED(aclrtHostRegister(own.data() + 8, 8, ACL_HOST_REGISTER_MAPPED, &seen), 507910);
  REFUSED(aclrtHostRegister(own.data(), 0, ACL_HOST_REGISTER_MAPPED, &seen), 100000);
  REFUSED(aclrtHostRegister(memory, 8, ACL_HOST_REGISTER_MAPPED, &seen), 507910);
  REFUSED(aclrtFreeHost(own.data()), 107000);
  FINE(aclrtHostUnregister(own.data()));
  REFUSED(aclrtHostUnregister(own.data()), 507911);
  REFUSED(aclrtHostUnregister(memory), 507911);
  REFUSED(aclrtPointerGetAttributes(nullptr, nullptr), 100000);
  FINE(aclrtFree(memory));
  CHECK_EQ(type_of(memory), ACL_MEM_LOCATION_TYPE_UNREGISTERED);
  FINE(aclrtFreeHost(host));
}

TEST(copies_check_their_arguments) {
  void* memory = device_memory(64);
  char text[256] = "text";
  REFUSED(aclrtMemcpy(nullptr, 1, text, 1, ACL_MEMCPY_HOST_TO_DEVICE), 100000);
  REFUSED(aclrtMemcpy(memory, 1, nullptr, 1, ACL_MEMCPY_HOST_TO_DEVICE), 100000);
  REFUSED(aclrtMemcpy(memory, 4, text, 5, ACL_MEMCPY_HOST_TO_DEVICE), 107000);
  REFUSED(aclrtMemcpy(memory, 4, text, 4, static_cast<aclrtMemcpyKind>(8)), 100000);
  REFUSED(aclrtMemcpy(memory, 256, text, 256, ACL_MEMCPY_HOST_TO_DEVICE), 107000);  // never beyond a block's end
  FINE(aclrtMemcpy(memory, 4, text, 0, ACL_MEMCPY_HOST_TO_DEVICE));
  FINE(aclrtMemcpy(memory, 4, memory, 4, ACL_MEMCPY_DEVICE_TO_DEVICE));
  FINE(aclrtMemcpy(memory, 64, text, 64, ACL_MEMCPY_INTER_DEVICE_TO_DEVICE));
  FINE(aclrtMemcpy(memory, 64, text, 64, ACL_MEMCPY_DEVICE_TO_HOST));  // the addresses decide
  CHECK(std::strcmp(static_cast<char*>(memory), "text") == 0);
  REFUSED(aclrtMemset(memory, 8, 1, 9), 107000);
  REFUSED(aclrtMemset(nullptr, 8, 1, 8), 100000);
  REFUSED(aclrtMemset(memory, 1000, 1, 1000), 107000);
  FINE(aclrtMemset(memory, 8, 1, 0));
  FINE(aclrtMemset(memory, 64, 0x101, 64));
  CHECK_EQ(static_cast<char*>(memory)[63], 1);
  FINE(aclrtFree(memory));
}

TEST(reading_beyond_a_block_gives_zeros_or_is_refused) {
  void* memory = device_memory(64);
  FINE(aclrtMemset(memory, 64, 5, 64));
  std::vector<char> host(256, 7);
  if (strict) {
    REFUSED(aclrtMemcpy(host.data(), host.size(), memory, 256, ACL_MEMCPY_DEVICE_TO_HOST), 107000);
    CHECK_EQ(host[0], 7);
  } else {
    FINE(aclrtMemcpy(host.data(), host.size(), memory, 256, ACL_MEMCPY_DEVICE_TO_HOST));
    CHECK_EQ(host[63], 5);
    CHECK_EQ(host[64], 0);
    CHECK_EQ(host[255], 0);
  }
  FINE(aclrtFree(memory));
}

TEST(copies_of_lines) {
  char from[4][8], to[4][16] = {};
  for (int i = 0; i < 32; ++i) from[i / 8][i % 8] = static_cast<char>(i);
  FINE(aclrtMemcpy2d(to, 16, from, 8, 5, 4, ACL_MEMCPY_HOST_TO_HOST));
  CHECK(to[3][4] == 28 && to[3][5] == 0 && to[0][1] == 1);
  REFUSED(aclrtMemcpy2d(to, 4, from, 8, 5, 4, ACL_MEMCPY_HOST_TO_HOST), 107000);
  REFUSED(aclrtMemcpy2d(to, 16, from, 4, 5, 4, ACL_MEMCPY_HOST_TO_HOST), 107000);
  REFUSED(aclrtMemcpy2d(to, 16, from, 8, 5, SIZE_MAX, ACL_MEMCPY_HOST_TO_HOST), 107000);
  REFUSED(aclrtMemcpy2d(nullptr, 16, from, 8, 5, 4, ACL_MEMCPY_HOST_TO_HOST), 100000);
  FINE(aclrtMemcpy2d(to, 16, from, 8, 0, 4, ACL_MEMCPY_HOST_TO_HOST));
}

TEST(copies_in_a_stream_come_in_its_order) {
  aclrtStream stream;
  FINE(aclrtCreateStream(&stream));
  void *a = device_memory(1024), *b = device_memory(1024);
  std::vector<char> host(1024, 0), source(1024, 9);
  FINE(aclrtMemsetAsync(a, 1024, 3, 1024, stream));
  FINE(aclrtMemcpyAsync(b, 1024, a, 1024, ACL_MEMCPY_DEVICE_TO_DEVICE, stream));
  FINE(aclrtMemcpyAsync(a, 1024, source.data(), 512, ACL_MEMCPY_HOST_TO_DEVICE, stream));
  std::fill(source.begin(), source.end(), 0);  // memory of the program's own may be a temporary
  FINE(aclrtMemcpyAsync(host.data(), 1024, a, 1024, ACL_MEMCPY_DEVICE_TO_HOST, stream));
  FINE(aclrtMemcpy2dAsync(a, 64, b, 64, 32, 16, ACL_MEMCPY_DEVICE_TO_DEVICE, stream));
  FINE(aclrtSynchronizeStream(stream));
  CHECK(host[0] == 9 && host[511] == 9 && host[512] == 3);
  if (strict) {
    REFUSED(aclrtMemcpyAsync(host.data(), 1, source.data(), 1, ACL_MEMCPY_HOST_TO_HOST, stream), 207000);
  } else {
    FINE(aclrtMemcpyAsync(host.data(), 1, source.data(), 1, ACL_MEMCPY_HOST_TO_HOST, stream));
  }
  REFUSED(aclrtMemcpyAsync(a, 1, b, 2, ACL_MEMCPY_DEVICE_TO_DEVICE, stream), 107000);
  REFUSED(aclrtMemsetAsync(a, 1, 0, 2, stream), 107000);
  REFUSED(aclrtMemsetAsync(a, 1, 0, 1, wild()), 107017);
  FINE(aclrtFree(a));
  FINE(aclrtFree(b));
  FINE(aclrtDestroyStream(stream));
}

TEST(memory_that_work_uses_outlives_its_freeing) {
  aclrtStream stream;
  FINE(aclrtCreateStream(&stream));
  for (int round = 0; round < 20; ++round) {
    void *a = device_memory(1 << 16), *b = device_memory(1 << 16);
    FINE(aclrtMemsetAsync(a, 1 << 16, round, 1 << 16, stream));
    FINE(aclrtMemcpyAsync(b, 1 << 16, a, 1 << 16, ACL_MEMCPY_DEVICE_TO_DEVICE, stream));
    FINE(aclrtFree(a));
    FINE(aclrtFree(b));
    REFUSED(aclrtFree(b), 107000);
  }
  FINE(aclrtDestroyStream(stream));
}

TEST(streams_of_other_contexts) {
  aclrtContext first, second;
  aclrtStream stream;
  FINE(aclrtGetCurrentContext(&first));
  FINE(aclrtCreateStream(&stream));
  FINE(aclrtCreateContext(&second, 0));
  if (strict) {
    REFUSED(aclrtSynchronizeStream(stream), 107003);
    FINE(aclrtSetCurrentContext(first));
  }
  FINE(aclrtSynchronizeStream(stream));
  FINE(aclrtDestroyContext(second));
  FINE(aclrtSetCurrentContext(first));
  FINE(aclrtDestroyStream(stream));
}

TEST(memory_is_told_honestly) {
  size_t free = 0, total = 0;
  FINE(aclrtGetMemInfo(ACL_HBM_MEM, &free, &total));
  CHECK(free > 0 && free < total);
  FINE(aclrtGetMemInfo(static_cast<aclrtMemAttr>(99), &free, &total));
  CHECK(free == 0 && total == 0);
  REFUSED(aclrtGetMemInfo(ACL_HBM_MEM, nullptr, &total), 100000);
  REFUSED(aclrtAllocatorRegister(nullptr, nullptr), 207000);
  REFUSED(aclrtAllocatorUnregister(nullptr), 207000);
  FINE(aclrtResetDevice(0));
  REFUSED(aclrtGetMemInfo(ACL_HBM_MEM, &free, &total), 107002);
}

TEST_MAIN()
