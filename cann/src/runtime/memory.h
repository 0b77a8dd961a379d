// Blocks of memory that programs were given, by address.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

namespace fusedattn::cann {

enum class Where { device, host, registered };  // registered: the program's own, told of by aclrtHostRegister

struct Block {
  std::uintptr_t begin = 0;
  std::size_t size = 0;    // what was asked for
  std::size_t usable = 0;  // what may be touched
  Where where = Where::device;
  std::int32_t device = 0;
  void* memory = nullptr;  // to be freed
};

// 64-byte aligned and zeroed; `spare` bytes beyond the size, rounded up to 32, are usable. Null if there is not so much memory.
void* allocate(std::size_t size, std::size_t spare, Where where, std::int32_t device);

enum class Freed { yes, unknown, other_kind };
// Forgets a block that starts at the address; its memory goes when no lease is held that began before.
Freed release(const void* address, bool host);

// A piece of work in a stream holds one: memory that it may use is not taken from under it.
std::shared_ptr<void> lease();

bool add_registered(void* address, std::size_t size);  // false if it overlaps a known block
bool remove_registered(const void* address);

// The block around an address.
std::optional<Block> block_around(const void* address);
// Bytes from the address to the end of its block: to the end of what was asked for in strict mode, else of what is usable.
// nullopt for memory that is not one of these.
std::optional<std::size_t> room_behind(const void* address);

// How many blocks were never freed, and their bytes.
struct Held {
  std::size_t blocks = 0, bytes = 0;
};
Held held();

}  // namespace fusedattn::cann
