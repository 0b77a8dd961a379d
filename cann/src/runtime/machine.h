// What the machine has: processors, memory, caches.
#pragma once
#include <cstddef>
#include <cstdint>

namespace fusedattn::cann {

std::int64_t usable_processors();  // of this process, at least 1
std::size_t total_memory();        // bytes: of the machine, or what its container may use
std::size_t free_memory();         // bytes: of that, what is neither this process's nor used otherwise
std::int64_t last_cache();         // bytes of the last level; 0 if unknown

}  // namespace fusedattn::cann
