// Handles: what programs hold instead of addresses. A handle is a number made of a kind, a generation and a place in a table. No
// address looks like one, and a place gets a new generation with each object: unknown and dead handles are found out by
// comparing numbers, and nothing is ever dereferenced.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include "runtime/fork.h"

namespace fusedattn::cann {

enum class Kind : std::uint64_t {
  context = 1,
  stream,
  event,
  data_buffer,
  tensor,
  scalar,
  int_array,
  float_array,
  bool_array,
  tensor_list,
  scalar_list,
  executor
};

// What is wrong with a handle, for a sentence: "is 0x7ffd…, an address and no stream", "is a stream that was destroyed", ….
std::string why_not(const void* handle, Kind wanted);

// The parts of a handle. Bit 62 is set and bit 63 is not, which no address on a 64-bit machine can be.
struct HandleParts {
  Kind kind{};
  std::uint32_t generation = 0;  // 28 bits
  std::uint32_t place = 0;       // 24 bits
};
constexpr std::uint32_t kMostPlaces = 1u << 24;
constexpr std::uint32_t kGenerations = 1u << 28;
void* handle_of(HandleParts parts);
bool parts_of(const void* handle, HandleParts& parts);

template <class Object>
class Handles {
 public:
  explicit Handles(Kind kind) : kind_(kind) {}

  // Throws bad_alloc when there are 2^24 objects.
  void* add(std::shared_ptr<Object> object) {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) {
      if (entries_.size() == kMostPlaces) throw std::bad_alloc();
      free_.reserve(entries_.size() + 1);  // so that take() cannot fail
      entries_.emplace_back();
      free_.push_back(static_cast<std::uint32_t>(entries_.size() - 1));
    }
    const std::uint32_t place = free_.back();
    free_.pop_back();
    Entry& entry = entries_[place];
    entry.generation = (entry.generation + 1) % kGenerations;
    entry.object = std::move(object);
    return handle_of({kind_, entry.generation, place});
  }

  // Null for unknown and dead handles.
  std::shared_ptr<Object> find(const void* handle) const {
    const std::lock_guard lock(mutex_);
    const Entry* entry = entry_of(handle);
    return entry == nullptr ? nullptr : entry->object;
  }

  // The same, and the handle is dead from then on.
  std::shared_ptr<Object> take(const void* handle) {
    const std::lock_guard lock(mutex_);
    Entry* entry = const_cast<Entry*>(entry_of(handle));
    if (entry == nullptr) return nullptr;
    free_.push_back(static_cast<std::uint32_t>(entry - entries_.data()));
    return std::move(entry->object);
  }

  struct Live {
    void* handle;
    std::shared_ptr<Object> object;
  };
  std::vector<Live> all() const {
    const std::lock_guard lock(mutex_);
    std::vector<Live> live;
    for (std::uint32_t place = 0; place < entries_.size(); ++place) {
      const Entry& entry = entries_[place];
      if (entry.object) live.push_back({handle_of({kind_, entry.generation, place}), entry.object});
    }
    return live;
  }

 private:
  struct Entry {
    std::shared_ptr<Object> object;
    std::uint32_t generation = 0;
  };

  const Entry* entry_of(const void* handle) const {
    HandleParts parts;
    if (!parts_of(handle, parts) || parts.kind != kind_ || parts.place >= entries_.size()) return nullptr;
    const Entry& entry = entries_[parts.place];
    return entry.object && entry.generation == parts.generation ? &entry : nullptr;
  }

  const Kind kind_;
  mutable ForkMutex mutex_;
  std::vector<Entry> entries_;
  std::vector<std::uint32_t> free_;
};

}  // namespace fusedattn::cann
