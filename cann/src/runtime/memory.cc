// The registry of blocks, and the memory that is freed while work is in flight.
#include "runtime/memory.h"

#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

#include "message.h"
#include "runtime/fork.h"
#include "runtime/machine.h"

namespace fusedattn::cann {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kGrain = 32;

// A stretch of time that ends when memory is freed. Work holds the epoch of its submission, an epoch the one after it; what was freed
// in an epoch goes with it, and that is when no work is left that began before.
struct Epoch {
  std::vector<void*> freed;
  std::shared_ptr<Epoch> next;

  ~Epoch() {
    for (void* memory : freed) std::free(memory);
    // One after another instead of one within the other, however many there are: who is destroyed meanwhile leaves its own to the outermost.
    thread_local std::shared_ptr<Epoch>* left = nullptr;
    if (left != nullptr) {
      *left = std::move(next);
      return;
    }
    for (std::shared_ptr<Epoch> after = std::move(next), further; after != nullptr; after = std::move(further)) {
      left = &further;
      after.reset();
    }
    left = nullptr;
  }
};

struct Registry {
  ForkMutex mutex;
  std::map<std::uintptr_t, Block> blocks;
  std::shared_ptr<Epoch> epoch = std::make_shared<Epoch>();

  std::map<std::uintptr_t, Block>::iterator around(std::uintptr_t address) {
    auto after = blocks.upper_bound(address);
    if (after == blocks.begin()) return blocks.end();
    --after;
    return address - after->second.begin < after->second.usable || address == after->second.begin ? after : blocks.end();
  }
};

Registry& registry() {
  static Registry& the_registry = *new Registry;
  return the_registry;
}

}  // namespace

void* allocate(std::size_t size, std::size_t spare, Where where, std::int32_t device) {
  if (size > total_memory()) return nullptr;
  const std::size_t usable = (size + kGrain - 1) / kGrain * kGrain + spare;
  void* memory = std::calloc(1, usable + kAlignment);  // zeroed by the operating system when it is much
  if (memory == nullptr) return nullptr;
  const auto begin = (reinterpret_cast<std::uintptr_t>(memory) + kAlignment - 1) / kAlignment * kAlignment;
  try {
    const std::lock_guard lock(registry().mutex);
    registry().blocks[begin] = {begin, size, usable, where, device, memory};
  } catch (...) {
    std::free(memory);
    throw;
  }
  return reinterpret_cast<void*>(begin);
}

Freed release(const void* address, bool host) {
  void* memory;
  {
    const std::lock_guard lock(registry().mutex);
    const auto found = registry().blocks.find(reinterpret_cast<std::uintptr_t>(address));
    if (found == registry().blocks.end()) return Freed::unknown;
    if (found->second.where != (host ? Where::host : Where::device)) return Freed::other_kind;
    memory = found->second.memory;
    Epoch& epoch = *registry().epoch;
    const bool in_use = registry().epoch.use_count() > 1;
    if (in_use) {
      epoch.freed.push_back(memory);
      memory = nullptr;
    }
    registry().blocks.erase(found);
  }
  std::free(memory);
  return Freed::yes;
}

std::shared_ptr<void> lease() {
  const std::lock_guard lock(registry().mutex);
  if (!registry().epoch->freed.empty()) {
    const auto next = std::make_shared<Epoch>();
    registry().epoch->next = next;
    registry().epoch = next;
  }
  return registry().epoch;
}

bool add_registered(void* address, std::size_t size) {
  const auto begin = reinterpret_cast<std::uintptr_t>(address);
  const std::lock_guard lock(registry().mutex);
  if (registry().around(begin) != registry().blocks.end()) return false;
  const auto after = registry().blocks.upper_bound(begin);
  if (after != registry().blocks.end() && after->first - begin < size) return false;
  registry().blocks[begin] = {begin, size, size, Where::registered, 0, nullptr};
  return true;
}

bool remove_registered(const void* address) {
  const std::lock_guard lock(registry().mutex);
  const auto found = registry().blocks.find(reinterpret_cast<std::uintptr_t>(address));
  if (found == registry().blocks.end() || found->second.where != Where::registered) return false;
  registry().blocks.erase(found);
  return true;
}

std::optional<Block> block_around(const void* address) {
  const std::lock_guard lock(registry().mutex);
  const auto found = registry().around(reinterpret_cast<std::uintptr_t>(address));
  if (found == registry().blocks.end()) return std::nullopt;
  return found->second;
}

std::optional<std::size_t> room_behind(const void* address) {
  const auto block = block_around(address);
  if (!block) return std::nullopt;
  const std::size_t before = reinterpret_cast<std::uintptr_t>(address) - block->begin;
  const std::size_t size = strict() ? block->size : block->usable;
  return before < size ? size - before : 0;
}

Held held() {
  const std::lock_guard lock(registry().mutex);
  Held sum;
  for (const auto& [begin, block] : registry().blocks) {
    if (block.where == Where::registered) continue;
    ++sum.blocks;
    sum.bytes += block.size;
  }
  return sum;
}

}  // namespace fusedattn::cann
