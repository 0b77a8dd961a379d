// Asks the operating system.
#include "runtime/machine.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <initializer_list>
#include <string>

namespace fusedattn::cann {
namespace {

// The limit of a container, version 2 or 1 of control groups; SIZE_MAX if there is none.
std::size_t container_limit() {
  for (const char* path : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    std::ifstream file(path);
    std::size_t bytes;
    if (file >> bytes) return bytes;
  }
  return SIZE_MAX;
}

// A line such as "MemAvailable:  123 kB"; 0 if there is none.
std::size_t line_of(const char* path, const std::string& name) {
  std::ifstream file(path);
  for (std::string word; file >> word;) {
    std::size_t kilobytes;
    if (word == name && file >> kilobytes) return kilobytes * 1024;
  }
  return 0;
}

}  // namespace

std::int64_t usable_processors() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return std::max(1L, sysconf(_SC_NPROCESSORS_ONLN));
  return std::max(1, CPU_COUNT(&set));
}

std::size_t total_memory() {
  static const std::size_t total = std::min(
      static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::size_t>(sysconf(_SC_PAGESIZE)), container_limit());
  return total;
}

std::size_t free_memory() {
  const std::size_t own = line_of("/proc/self/status", "VmRSS:");
  const std::size_t total = total_memory();
  return std::min(total > own ? total - own : 0, line_of("/proc/meminfo", "MemAvailable:"));
}

std::int64_t last_cache() {
  for (const int level : {_SC_LEVEL4_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE, _SC_LEVEL2_CACHE_SIZE}) {
    if (const long bytes = sysconf(level); bytes > 0) return bytes;
  }
  return 0;
}

}  // namespace fusedattn::cann
