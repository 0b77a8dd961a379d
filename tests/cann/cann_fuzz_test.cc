// Random sequences of calls with valid, nearly valid and wild arguments: nothing crashes, hangs, leaks a worker, or writes beside an
// output.
//
//   cann_fuzz_test [seed [sequences]]        Without arguments: a few seconds, the same every time.
//   clang++ -DFUSEDATTN_LIBFUZZER -fsanitize=fuzzer,address … links the same as a libFuzzer target; see docs/cann.md.
#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include "acl/acl.h"
#include "aclnn/aclnn_base.h"
#include "aclnnop/aclnn_flash_attention_score.h"
#include "aclnnop/aclnn_nsa_compress.h"
#include "aclnnop/aclnn_ring_attention_update.h"

namespace {

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "cann_fuzz_test: %s\n", what);
  std::abort();
}

// Where choices come from: bytes while there are some, then zeros, which end a sequence soon.
class Choices {
 public:
  Choices(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool left() const { return at_ < size_; }
  uint32_t below(uint32_t count) {
    uint32_t value = 0;
    for (uint32_t most = count - 1; most > 0; most >>= 8) value = value << 8 | byte();
    return value % count;
  }
  bool rarely() { return below(16) == 0; }

 private:
  uint8_t byte() { return at_ < size_ ? data_[at_++] : 0; }
  const uint8_t* data_;
  size_t size_, at_ = 0;
};

constexpr size_t kSpare = 32;
constexpr uint8_t kUntouched = 0xA5;

struct Memory {
  char* address;
  size_t size;
  size_t reach;  // of what was asked for and of tensors that may lie there, spare bytes included
  size_t usable() const { return (size + 31) / 32 * 32 + kSpare; }
};

// Everything that calls have given, dead handles included.
struct World {
  explicit World(Choices choices) : choose(choices) {}
  Choices choose;
  std::vector<void*> handles;
  std::vector<Memory> memory;

  void keep(void* handle) {
    if (handle != nullptr) handles.push_back(handle);
  }
  // One of all handles, of any kind, alive or dead; or something that is none.
  template <class Handle>
  Handle* handle() {
    static int on_no_table;
    if (handles.empty() || choose.rarely()) return choose.below(2) == 0 ? nullptr : reinterpret_cast<Handle*>(&on_no_table);
    const size_t recent = handles.size() > 12 && choose.below(4) != 0 ? handles.size() - 12 : 0;
    return static_cast<Handle*>(handles[recent + choose.below(static_cast<uint32_t>(handles.size() - recent))]);
  }
  Memory* block() {
    if (memory.empty() || choose.rarely()) return nullptr;
    return &memory[choose.below(static_cast<uint32_t>(memory.size()))];
  }
  int64_t number() {
    static constexpr int64_t kNumbers[] = {0, 1, 2, 3, 4, 7, 8, 16, 31, 64, 65, 128, 1000, -1, -2, INT32_MAX, INT64_MAX, INT64_MIN};
    return kNumbers[choose.below(std::size(kNumbers))];
  }
  int enumerator() { return static_cast<int>(choose.below(12)) - 1; }
};

void allocate(World& world) {
  void* address = nullptr;
  const size_t size = world.choose.rarely() ? static_cast<size_t>(world.number()) % (size_t{1} << 20) : 1 + world.choose.below(20000);
  if (aclrtMalloc(&address, size, static_cast<aclrtMemMallocPolicy>(world.enumerator())) != 0) return;
  const Memory made{static_cast<char*>(address), size, size};
  std::memset(made.address + made.size, kUntouched, made.usable() - made.size);
  world.memory.push_back(made);
}

void check_spare(const Memory& memory) {
  for (size_t i = memory.reach; i < memory.usable(); ++i) {
    if (static_cast<uint8_t>(memory.address[i]) != kUntouched) fail("something wrote beside an output");
  }
}

// Frees only when nothing planned can still mean the block: addresses are the caller's to keep, on devices as well.
void release_all(World& world) {
  aclrtSynchronizeDevice();
  for (const Memory& memory : world.memory) {
    check_spare(memory);
    if (aclrtFree(memory.address) != 0) fail("a live block could not be freed");
    if (aclrtFree(memory.address) == 0) fail("a block was freed twice");
  }
  world.memory.clear();
}

// Copies within what was asked for, or far beyond it, but never into the spare bytes that check_spare() looks at.
size_t count_for(World& world, const Memory* memory) {
  return memory == nullptr || world.choose.rarely() ? size_t{1} << 40 : world.choose.below(static_cast<uint32_t>(memory->size) + 1);
}

void copy(World& world) {
  const Memory *to = world.block(), *from = world.block();
  const size_t count = count_for(world, to);
  void *dst = to == nullptr ? nullptr : to->address, *src = from == nullptr ? nullptr : from->address;
  const auto kind = static_cast<aclrtMemcpyKind>(world.enumerator());
  if (world.choose.below(2) == 0) {
    aclrtMemcpyAsync(dst, count, src, count, kind, world.handle<void>());
  } else {
    aclrtSynchronizeDevice();
    aclrtMemcpy(dst, count, src, count, kind);
    aclrtMemset(dst, count, world.enumerator(), count);
  }
}

void nothing(void*) {}

void on_streams(World& world) {
  void* made = nullptr;
  switch (world.choose.below(17)) {
    case 0: aclrtCreateStream(&made); break;
    case 1: aclrtCreateStreamWithConfig(&made, world.choose.below(9), world.choose.below(80)); break;
    case 2: aclrtDestroyStream(world.handle<void>()); break;
    case 3: aclrtDestroyStreamForce(world.handle<void>()); break;
    case 4: aclrtSynchronizeStream(world.handle<void>()); break;
    case 5: aclrtSynchronizeStreamWithTimeout(world.handle<void>(), static_cast<int32_t>(world.number() % 3)); break;
    case 6: aclrtLaunchHostFunc(world.handle<void>(), nothing, nullptr); break;
    case 7: aclrtCreateEvent(&made); break;
    case 8: aclrtCreateEventWithFlag(&made, world.choose.below(100)); break;
    case 9: aclrtDestroyEvent(world.handle<void>()); break;
    case 10: aclrtRecordEvent(world.handle<void>(), world.handle<void>()); break;
    case 11: aclrtStreamWaitEvent(world.handle<void>(), world.handle<void>()); break;
    case 12: aclrtSynchronizeEvent(world.handle<void>()); break;
    case 13: aclrtResetEvent(world.handle<void>(), world.handle<void>()); break;
    case 14: aclrtSubscribeReport(static_cast<uint64_t>(pthread_self()), world.handle<void>()); break;
    case 15: {
      const auto how = static_cast<aclrtCallbackBlockType>(world.choose.below(3));
      aclrtLaunchCallback(nothing, nullptr, how, world.handle<void>());
      break;
    }
    case 16: aclrtProcessReport(static_cast<int32_t>(world.choose.below(2))); break;
  }
  world.keep(made);
}

void on_devices(World& world) {
  void* made = nullptr;
  int64_t value;
  switch (world.choose.below(10)) {
    case 0: aclrtSetDevice(static_cast<int32_t>(world.choose.below(3)) - 1); break;
    case 1: aclrtResetDevice(static_cast<int32_t>(world.choose.below(3)) - 1); break;
    case 2: aclrtCreateContext(&made, static_cast<int32_t>(world.choose.below(2))); break;
    case 3: aclrtDestroyContext(world.handle<void>()); break;
    case 4: aclrtSetCurrentContext(world.handle<void>()); break;
    case 5: aclrtCtxGetCurrentDefaultStream(&made); break;
    case 6: aclrtCtxGetSysParamOpt(static_cast<aclSysParamOpt>(world.choose.below(5)), &value); break;
    case 7: aclrtSetSysParamOpt(static_cast<aclSysParamOpt>(world.choose.below(5)), world.number()); break;
    case 8: aclInit(nullptr); break;
    case 9: aclFinalize(); break;
  }
  world.keep(made);
}

// Spare bytes that a view reaches are its own; views that reach further are refused.
void reach(Memory& block, double bytes) {
  if (bytes > 0 && bytes <= static_cast<double>(block.usable())) block.reach = std::max(block.reach, static_cast<size_t>(bytes));
}

aclTensor* tensor(World& world, std::vector<int64_t> shape, aclDataType dtype) {
  if (world.choose.rarely() && !shape.empty()) shape[world.choose.below(static_cast<uint32_t>(shape.size()))] = world.number();
  if (world.choose.rarely()) dtype = static_cast<aclDataType>(world.choose.below(40));
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t d = shape.size(); d-- > 1;) {
    strides[d - 1] = static_cast<int64_t>(static_cast<uint64_t>(strides[d]) * static_cast<uint64_t>(shape[d]));
  }
  if (world.choose.rarely() && !shape.empty()) strides[world.choose.below(static_cast<uint32_t>(shape.size()))] = world.number();
  Memory* block = world.block();
  const int64_t offset = world.choose.rarely() ? world.number() : 0;
  auto last = static_cast<double>(offset);
  for (size_t d = 0; d < shape.size(); ++d) {
    last += static_cast<double>(std::max<int64_t>(shape[d], 1) - 1) * static_cast<double>(std::max<int64_t>(strides[d], 0));
  }
  if (block != nullptr) reach(*block, (last + 1) * static_cast<double>(aclDataTypeSize(dtype)));
  aclTensor* made = aclCreateTensor(shape.data(), shape.size(), dtype, strides.data(), offset,
                                    static_cast<aclFormat>(world.enumerator()), shape.data(), shape.size(),
                                    block == nullptr ? nullptr : block->address);
  world.keep(made);
  return made;
}

void on_objects(World& world) {
  const int64_t numbers[] = {world.number(), world.number(), world.number()};
  const aclTensor* members[] = {world.handle<aclTensor>(), world.handle<aclTensor>()};
  uint64_t size;
  int64_t* sizes = nullptr;
  switch (world.choose.below(12)) {
    case 0: tensor(world, {numbers[0], numbers[1]}, ACL_FLOAT); break;
    case 1: aclDestroyTensor(world.handle<aclTensor>()); break;
    case 2: world.keep(aclCreateIntArray(numbers, world.choose.below(4))); break;
    case 3: aclDestroyIntArray(world.handle<aclIntArray>()); break;
    case 4: world.keep(aclCreateTensorList(members, 2)); break;
    case 5: aclDestroyTensorList(world.handle<aclTensorList>()); break;
    case 6: aclGetTensorListSize(world.handle<aclTensorList>(), &size); break;
    case 7: aclGetViewShape(world.handle<aclTensor>(), &sizes, &size); break;
    case 8: aclDestroyAclOpExecutor(world.handle<aclOpExecutor>()); break;
    case 9: aclSetAclOpExecutorRepeatable(world.handle<aclOpExecutor>()); break;
    case 10: {
      Memory* block = world.block();
      if (block != nullptr) block->reach = block->usable();
      aclSetTensorAddr(world.handle<aclOpExecutor>(), world.choose.below(24), world.handle<aclTensor>(),
                       block == nullptr ? nullptr : block->address);
      break;
    }
    case 11: {
      aclOpExecutor* executor = world.handle<aclOpExecutor>();
      aclSetDynamicInputTensorAddr(executor, world.choose.below(4), 0, world.handle<aclTensorList>(), nullptr);
      break;
    }
  }
  delete[] sizes;
}

using PhaseTwo = aclnnStatus (*)(void*, uint64_t, aclOpExecutor*, aclrtStream);

// The second phase, now and then without a workspace, twice, or of another operator.
void run(World& world, PhaseTwo phase_two, uint64_t size, aclOpExecutor* executor) {
  world.keep(executor);
  std::vector<Memory*> wide;
  for (Memory& block : world.memory) {
    if (block.size >= size) wide.push_back(&block);
  }
  void* workspace = nullptr;
  if (!wide.empty()) workspace = wide[world.choose.below(static_cast<uint32_t>(wide.size()))]->address;
  phase_two(workspace, world.choose.rarely() ? size / 2 : size, executor, world.choose.below(2) == 0 ? nullptr : world.handle<void>());
  if (world.choose.rarely()) phase_two(workspace, size, world.handle<aclOpExecutor>(), nullptr);
}

void attention(World& world) {
  Choices& choose = world.choose;
  const int64_t b = 1 + choose.below(2), n = 1 + choose.below(2), s = 1 + choose.below(20), d = 1 + choose.below(24);
  static constexpr aclDataType kTypes[] = {ACL_FLOAT, ACL_FLOAT16, ACL_BF16};
  const aclDataType dtype = kTypes[choose.below(3)];
  char layout[8] = "BNSD";
  if (choose.rarely()) layout[choose.below(8)] = static_cast<char>(choose.below(256));
  const auto rows = [&] { return tensor(world, {b, n, s, d}, dtype); };
  const auto stats = [&] { return tensor(world, {b, n, s, 8}, ACL_FLOAT); };
  aclTensor* mask = choose.below(3) == 0 ? tensor(world, {s, s}, ACL_BOOL) : nullptr;
  aclTensor *q = rows(), *k = rows(), *v = rows(), *max = stats(), *sum = stats(), *out = rows();
  if (choose.rarely()) q = world.handle<aclTensor>();
  uint64_t size = 0;
  aclOpExecutor* executor = nullptr;
  const int64_t heads = choose.rarely() ? world.number() : n, mode = choose.below(4) == 0 ? choose.below(10) : 0;
  if (aclnnFlashAttentionScoreGetWorkspaceSize(q, k, v, nullptr, nullptr, nullptr, mask, nullptr, 0.5, choose.rarely() ? 2.0 : 1.0,
                                               choose.rarely() ? world.number() : 1000, world.number(), heads, layout, 0, mode, max, sum,
                                               nullptr, out, &size, &executor) == 0) {
    run(world, aclnnFlashAttentionScore, size, executor);
  }
}

void compress(World& world) {
  Choices& choose = world.choose;
  const int64_t rows = 16 + choose.below(48), n = 1 + choose.below(2), d = 16;
  const int64_t ends[] = {rows / 2, choose.rarely() ? world.number() : rows};
  aclIntArray* lengths = aclCreateIntArray(ends, 2);
  world.keep(lengths);
  char layout[] = "TND";
  const int64_t block = choose.rarely() ? world.number() : 16, stride = choose.rarely() ? world.number() : 16;
  aclTensor* input = tensor(world, {rows, n, d}, ACL_FLOAT16);
  aclTensor* weight = tensor(world, {16, n}, ACL_FLOAT16);
  aclTensor* output = tensor(world, {rows / 2 / 16 * 2 + (rows % 2 != 0 && rows / 2 % 16 == 15), n, d}, ACL_FLOAT16);
  uint64_t size = 0;
  aclOpExecutor* executor = nullptr;
  if (aclnnNsaCompressGetWorkspaceSize(input, weight, lengths, layout, block, stride, 0, output, &size, &executor) == 0) {
    run(world, aclnnNsaCompress, size, executor);
  }
}

void update(World& world) {
  Choices& choose = world.choose;
  const int64_t s = 1 + choose.below(16), b = 1 + choose.below(2), n = 1 + choose.below(2), d = 64;
  char layout[] = "SBH";
  const auto rows = [&] { return tensor(world, {s, b, n * d}, ACL_FLOAT16); };
  const auto stats = [&] { return tensor(world, {b, n, s, 8}, ACL_FLOAT); };
  aclTensor *a = rows(), *a_max = stats(), *a_sum = stats(), *c = rows(), *c_max = stats(), *c_sum = stats();
  aclTensor *out = rows(), *max = stats(), *sum = stats();
  uint64_t size = 0;
  aclOpExecutor* executor = nullptr;
  if (aclnnRingAttentionUpdateGetWorkspaceSize(a, a_max, a_sum, c, c_max, c_sum, nullptr, layout, out, max, sum, &size, &executor) == 0) {
    run(world, aclnnRingAttentionUpdate, size, executor);
  }
}

void sequence(const uint8_t* data, size_t size) {
  World world(Choices(data, size));
  aclrtSetDevice(0);
  for (int i = 0; i < 6; ++i) allocate(world);
  while (world.choose.left()) {
    switch (world.choose.below(10)) {
      case 0: allocate(world); break;
      case 1: copy(world); break;
      case 2: case 3: on_streams(world); break;
      case 4: on_devices(world); break;
      case 5: on_objects(world); break;
      case 6: case 7: attention(world); break;
      case 8: compress(world); break;
      case 9: update(world); break;
    }
    if (world.choose.below(8) == 0) aclGetRecentErrMsg();
  }
  aclrtSetDevice(0);
  for (void* handle : world.handles) aclrtSynchronizeStream(handle);
  aclrtSynchronizeStream(nullptr);
  release_all(world);
  for (void* handle : world.handles) {  // in the order of their making, which is the wrong one
    aclrtDestroyContext(handle);
    aclrtDestroyStream(handle);
    aclrtDestroyEvent(handle);
    aclDestroyTensorList(static_cast<aclTensorList*>(handle));
    aclDestroyTensor(static_cast<aclTensor*>(handle));
    aclDestroyIntArray(static_cast<aclIntArray*>(handle));
    aclDestroyAclOpExecutor(static_cast<aclOpExecutor*>(handle));
  }
  for (void* handle : world.handles) aclrtDestroyContext(handle);  // which strict mode refused above
  aclrtResetDeviceForce(0);
  aclrtGetLastError(ACL_RT_THREAD_LEVEL);
}

}  // namespace

#if defined(FUSEDATTN_LIBFUZZER)
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  sequence(data, size);
  return 0;
}
#else
namespace {

// Those that stay: a worker that has been let go is listed until it has ended, so the fewest that are seen for a while count.
std::ptrdiff_t threads() {
  std::ptrdiff_t fewest = std::numeric_limits<std::ptrdiff_t>::max();
  for (int i = 0; i < 50; ++i) {
    const std::filesystem::directory_iterator all("/proc/self/task");
    fewest = std::min(fewest, std::distance(begin(all), end(all)));
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return fewest;
}

}  // namespace

int main(int argc, char** argv) {
  const unsigned long first = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 1;
  const unsigned long count = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 400;
  std::ptrdiff_t before = 0;
  for (unsigned long seed = first; seed < first + count; ++seed) {
    std::mt19937 random(static_cast<std::mt19937::result_type>(seed));
    std::vector<uint8_t> bytes(200 + random() % 1500);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    sequence(bytes.data(), bytes.size());
    if (seed == first + count / 2) before = threads();  // the shared pool has its threads by now
  }
  if (threads() > before) fail("workers were left behind");
  std::printf("%lu sequences from seed %lu\n", count, first);
  return 0;
}
#endif
