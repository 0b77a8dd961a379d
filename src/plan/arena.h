// Hands out pieces of a workspace. Built on nothing it only measures: the code that uses the workspace also sizes it.
#pragma once
#include <cstddef>

namespace fusedattn {

class Arena {
 public:
  explicit Arena(void* base = nullptr) : base_(static_cast<char*>(base)) {}

  // `count` elements of T, on a cache line of its own; null when only measuring.
  template <class T>
  T* take(std::size_t count) {
    used_ = (used_ + 63) / 64 * 64;
    T* piece = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ += count * sizeof(T);
    return piece;
  }
  std::size_t used() const { return (used_ + 63) / 64 * 64; }

 private:
  char* base_;
  std::size_t used_ = 0;
};

}  // namespace fusedattn
