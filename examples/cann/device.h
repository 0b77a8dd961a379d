// device.h: what every program here does around its operator: a device, a stream, tensors that are copied there and back. C++11.
#ifndef DEVICE_H
#define DEVICE_H

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "acl/acl.h"
#include "aclnn/acl_meta.h"

// Ends the program with the status and the sentence behind it.
inline void require(int status, const char* what) {
  if (status == ACL_SUCCESS) return;
  const char* sentence = aclGetRecentErrMsg();
  std::printf("%s: %d %s\n", what, status, sentence != nullptr ? sentence : "");
  std::exit(1);
}

class Device {
 public:
  Device() {
    require(aclInit(nullptr), "aclInit");
    require(aclrtSetDevice(0), "aclrtSetDevice");
    require(aclrtCreateStream(&stream_), "aclrtCreateStream");
  }
  ~Device() {
    aclrtDestroyStream(stream_);
    aclrtResetDevice(0);
    aclFinalize();
  }

  // Phase 2 in memory of the size that phase 1 named, and a wait.
  void run(aclnnStatus (*operation)(void*, uint64_t, aclOpExecutor*, aclrtStream), uint64_t workspace_size, aclOpExecutor* executor) {
    void* workspace = nullptr;
    if (workspace_size > 0) require(aclrtMalloc(&workspace, workspace_size, ACL_MEM_MALLOC_HUGE_FIRST), "aclrtMalloc");
    require(operation(workspace, workspace_size, executor, stream_), "phase 2");
    require(aclrtSynchronizeStream(stream_), "aclrtSynchronizeStream");
    if (workspace != nullptr) aclrtFree(workspace);
  }

 private:
  aclrtStream stream_;
};

// A contiguous tensor on the device, of float32 numbers.
class Floats {
 public:
  Floats(const std::vector<int64_t>& shape, const std::vector<float>& numbers) : numbers_(numbers) {
    require(aclrtMalloc(&memory_, bytes(), ACL_MEM_MALLOC_HUGE_FIRST), "aclrtMalloc");
    require(aclrtMemcpy(memory_, bytes(), numbers_.data(), bytes(), ACL_MEMCPY_HOST_TO_DEVICE), "aclrtMemcpy");
    tensor_ = aclCreateTensor(shape.data(), shape.size(), ACL_FLOAT, nullptr, 0, ACL_FORMAT_ND, shape.data(), shape.size(), memory_);
  }
  ~Floats() {
    aclDestroyTensor(tensor_);
    aclrtFree(memory_);
  }
  Floats(const Floats&) = delete;
  Floats& operator=(const Floats&) = delete;

  operator aclTensor*() const { return tensor_; }
  aclTensor* get() const { return tensor_; }
  void release() { tensor_ = nullptr; }  // a list that it was in has destroyed it
  const std::vector<float>& fetch() {
    require(aclrtMemcpy(&numbers_[0], bytes(), memory_, bytes(), ACL_MEMCPY_DEVICE_TO_HOST), "aclrtMemcpy");
    return numbers_;
  }

 private:
  std::size_t bytes() const { return numbers_.size() * sizeof(float); }
  std::vector<float> numbers_;
  void* memory_ = nullptr;
  aclTensor* tensor_ = nullptr;
};

// Numbers between -1 and 1.
inline std::vector<float> numbers(int64_t count, unsigned seed) {
  std::vector<float> made(static_cast<std::size_t>(count));
  for (unsigned n = 0; n < made.size(); ++n) made[n] = static_cast<float>((n * 37 + seed * 101) % 199) / 99.0f - 1.0f;
  return made;
}
inline std::vector<float> zeros(int64_t count) { return std::vector<float>(static_cast<std::size_t>(count)); }

// Prints a result beside what it should be, and ends the program if they differ.
inline void expect(const char* what, double have, double want) {
  std::printf("%-24s %12.6f   expected %12.6f\n", what, have, want);
  if (!(std::fabs(have - want) <= 1e-4 * (1.0 + std::fabs(want)))) std::exit(1);
}

#endif
