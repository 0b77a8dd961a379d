// array.h: tensors of the Ascend door for tests: memory from aclrtMalloc, a view of it, and its numbers as doubles.
#ifndef FUSEDATTN_TESTS_CANN_ARRAY_H
#define FUSEDATTN_TESTS_CANN_ARRAY_H

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "acl/acl.h"
#include "aclnn/aclnn_base.h"
#include "check.h"
#include "storage.h"

namespace fusedattn::tests {

using Shape = std::vector<int64_t>;

inline int32_t storage_dtype(aclDataType dtype) {
  return dtype == ACL_FLOAT ? FUSEDATTN_FLOAT32 : dtype == ACL_BF16 ? FUSEDATTN_BFLOAT16 : FUSEDATTN_FLOAT16;
}

inline int64_t product(const Shape& shape) {
  int64_t all = 1;
  for (const int64_t length : shape) all *= length;
  return all;
}

// How a tensor lies in its memory: contiguous, with a gap behind every row, with every second element used, or transposed twice.
enum class Lie { contiguous, gaps, every_second, reversed_axes };

// Numbers in (-1, 1) that depend on seed and position alone.
inline double noise(uint64_t seed, int64_t position) {
  uint64_t bits = (seed * 0x9E3779B97F4A7C15u) ^ (static_cast<uint64_t>(position) + 1) * 0xBF58476D1CE4E5B9u;
  bits ^= bits >> 29, bits *= 0x94D049BB133111EBu, bits ^= bits >> 32;
  return static_cast<double>(bits & 0xFFFFFF) / 8388608.0 - 1.0;
}

// Device 0 for this thread, once.
inline void use_device() {
  thread_local const aclError status = aclrtSetDevice(0);
  CHECK_EQ(status, ACL_SUCCESS);
}

class Array {
 public:
  Array() = default;
  Array(aclDataType dtype, const Shape& shape, Lie lie = Lie::contiguous) : dtype_(dtype), shape_(shape), strides_(shape.size()) {
    int64_t step = lie == Lie::every_second ? 2 : 1;
    for (std::size_t k = 0; k < shape.size(); ++k) {
      const std::size_t axis = lie == Lie::reversed_axes ? k : shape.size() - 1 - k;
      strides_[axis] = step;
      step *= shape[axis] > 0 ? shape[axis] : 1;
      if (lie == Lie::gaps && k == 0) step += 3;
    }
    offset_ = lie == Lie::contiguous ? 0 : 5;
    width_ = static_cast<int64_t>(aclDataTypeSize(dtype));
    elements_ = offset_ + step;
    const auto bytes = static_cast<std::size_t>(elements_ * width_);
    use_device();
    CHECK_EQ(aclrtMalloc(reinterpret_cast<void**>(&data_), bytes > 0 ? bytes : 1, ACL_MEM_MALLOC_HUGE_FIRST), ACL_SUCCESS);
    std::memset(data_, 0xFF, bytes);  // NaN, and a mask that hides everything
    handle_ = make(data_);
  }
  Array(Array&& other) noexcept { *this = std::move(other); }
  Array& operator=(Array&& other) noexcept {
    std::swap(dtype_, other.dtype_), std::swap(shape_, other.shape_), std::swap(strides_, other.strides_);
    std::swap(offset_, other.offset_), std::swap(width_, other.width_), std::swap(elements_, other.elements_);
    std::swap(data_, other.data_), std::swap(handle_, other.handle_), std::swap(dead_, other.dead_);
    return *this;
  }
  ~Array() {
    destroy();
    if (data_ != nullptr) aclrtFree(data_);
  }

  // null where there is no array: an optional argument that is not given.
  aclTensor* handle() const { return handle_; }
  explicit operator bool() const { return data_ != nullptr; }
  const Shape& shape() const { return shape_; }
  aclDataType dtype() const { return dtype_; }
  std::byte* data() const { return data_; }
  int64_t size() const { return product(shape_); }
  void destroy() {
    if (handle_ != nullptr && !dead_) CHECK_EQ(aclDestroyTensor(handle_), 0);
    handle_ = nullptr;
  }
  // Destroys the tensor, and leaves the handle as it was.
  void kill() {
    if (!dead_) CHECK_EQ(aclDestroyTensor(handle_), 0);
    dead_ = true;
  }
  // The same view of other memory, or of none; the caller destroys it.
  aclTensor* make(void* data) const {
    const Shape storage = {elements_};
    return aclCreateTensor(shape_.data(), shape_.size(), dtype_, strides_.data(), offset_, ACL_FORMAT_ND, storage.data(), 1, data);
  }

  // Element `index` in the order of the shape.
  std::byte* at(int64_t index) const {
    int64_t position = offset_;
    for (std::size_t axis = shape_.size(); axis-- > 0;) position += index % shape_[axis] * strides_[axis], index /= shape_[axis];
    return data_ + position * width_;
  }
  double get(int64_t index) const {
    if (width_ == 1) return static_cast<double>(std::to_integer<int>(*at(index)));
    if (width_ != 8) return load(storage_dtype(dtype_), at(index));
    int64_t number;
    std::memcpy(&number, at(index), sizeof number);
    return static_cast<double>(number);
  }
  void set(int64_t index, double value) const {
    const auto whole = static_cast<int64_t>(value);
    if (width_ == 1)
      *at(index) = static_cast<std::byte>(whole);
    else if (width_ == 8)
      std::memcpy(at(index), &whole, sizeof whole);
    else if (std::isfinite(value))
      store(storage_dtype(dtype_), at(index), value);
    else
      store_special(at(index), value);
  }
  const Array& fill(uint64_t seed, double size = 1.0) const {
    for (int64_t i = 0; i < this->size(); ++i) set(i, size * noise(seed, i));
    return *this;
  }
  const Array& fill_with(double value) const {
    for (int64_t i = 0; i < size(); ++i) set(i, value);
    return *this;
  }
  std::vector<double> numbers() const {
    std::vector<double> all;
    for (int64_t i = 0; i < size(); ++i) all.push_back(get(i));
    return all;
  }

 private:
  // Infinities and NaN, which no rounding gives.
  void store_special(std::byte* to, double value) const {
    const auto single = static_cast<float>(value);
    const auto bits = std::bit_cast<uint32_t>(single);
    const auto half = static_cast<uint16_t>((bits >> 16 & 0x8000) | (std::isnan(value) ? 0x7E00 : 0x7C00)),
               brain = static_cast<uint16_t>(bits >> 16);
    std::memcpy(to,
                dtype_ == ACL_FLOAT  ? static_cast<const void*>(&single)
                : dtype_ == ACL_BF16 ? &brain
                                     : &half,
                static_cast<std::size_t>(width_));
  }

  aclDataType dtype_ = ACL_FLOAT;
  Shape shape_, strides_;
  int64_t offset_ = 0, width_ = 4, elements_ = 0;
  std::byte* data_ = nullptr;
  aclTensor* handle_ = nullptr;
  bool dead_ = false;
};

// A list of integers; null where it is not given.
class Ints {
 public:
  Ints() = default;
  Ints(const std::vector<int64_t>& numbers) : handle_(aclCreateIntArray(numbers.data(), numbers.size())) {}
  Ints(Ints&& other) noexcept { *this = std::move(other); }
  Ints& operator=(Ints&& other) noexcept {
    std::swap(handle_, other.handle_), std::swap(dead_, other.dead_);
    return *this;
  }
  ~Ints() { destroy(); }
  aclIntArray* handle() const { return handle_; }
  void destroy() {
    if (handle_ != nullptr && !dead_) aclDestroyIntArray(handle_);
    handle_ = nullptr;
  }
  void kill() {
    aclDestroyIntArray(handle_);
    dead_ = true;
  }

 private:
  aclIntArray* handle_ = nullptr;
  bool dead_ = false;
};

inline std::string message() {
  const char* text = aclGetRecentErrMsg();
  return text != nullptr ? text : "";
}

// A stream of device 0, which the program sets up once.
class Stream {
 public:
  Stream() {
    use_device();
    CHECK_EQ(aclrtCreateStream(&stream_), ACL_SUCCESS);
  }
  ~Stream() { aclrtDestroyStream(stream_); }
  aclrtStream get() const { return stream_; }
  void wait() const { CHECK_EQ(aclrtSynchronizeStream(stream_), ACL_SUCCESS); }

 private:
  aclrtStream stream_ = nullptr;
};

// Memory of a phase 1.
class Workspace {
 public:
  explicit Workspace(uint64_t bytes) {
    if (bytes > 0) CHECK_EQ(aclrtMalloc(&data_, bytes, ACL_MEM_MALLOC_HUGE_FIRST), ACL_SUCCESS);
    if (bytes > 0) std::memset(data_, 0xFF, bytes);
  }
  ~Workspace() {
    if (data_ != nullptr) aclrtFree(data_);
  }
  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
};

}  // namespace fusedattn::tests
#endif
