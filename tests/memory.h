// memory.h: bytes for tensors, on the heap or flush with a page that must not be touched.
#ifndef FUSEDATTN_TESTS_MEMORY_H
#define FUSEDATTN_TESTS_MEMORY_H

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>

namespace fusedattn::tests {

// Where a buffer lies: anywhere, ending where a forbidden page begins, or beginning where a forbidden page ends.
enum class Place { anywhere, before_guard, after_guard };

// Bytes that read 0xFF everywhere (NaN in every type) until something else is written.
class Memory {
 public:
  Memory() = default;
  explicit Memory(std::size_t bytes, Place place = Place::anywhere) : bytes_(bytes) {
    if (place == Place::anywhere) {
      whole_ = std::shared_ptr<std::byte>(static_cast<std::byte*>(::operator new(bytes, kLine)), [](std::byte* at) { ::operator delete(at, kLine); });
      data_ = whole_.get();  // to the byte, so that the address sanitizer sees the first one behind
    } else {
      guard(place);
    }
    std::memset(data_, 0xFF, bytes);
  }
  std::byte* data() const { return data_; }
  std::size_t size() const { return bytes_; }

 private:
  static constexpr std::align_val_t kLine{64};

  // Pages for the bytes between two pages that cannot be read or written.
  void guard(Place place) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t inner = (bytes_ + page - 1) / page * page, total = inner + 2 * page;
    void* base = mmap(nullptr, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) throw std::runtime_error("mmap failed");
    whole_ = std::shared_ptr<std::byte>(static_cast<std::byte*>(base), [total](std::byte* at) { munmap(at, total); });
    std::byte* begin = whole_.get() + page;
    if (inner > 0 && mprotect(begin, inner, PROT_READ | PROT_WRITE) != 0) throw std::runtime_error("mprotect failed");
    data_ = place == Place::after_guard ? begin : begin + inner - bytes_;
  }

  std::shared_ptr<std::byte> whole_;
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace fusedattn::tests
#endif
