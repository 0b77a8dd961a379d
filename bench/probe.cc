// probe.cc: the C functions of probe.h over the loops of streams.h.
#include "probe.h"

#include <cstdlib>
#include <exception>
#include <memory>
#include <new>
#include <span>

#include "slices.h"
#include "streams.h"

namespace {

using fusedattn::probe::Stream;

constexpr int kMostThreads = 1024;
constexpr std::size_t kRow = 512;           // floats of a row of exponentials: two rows fit any first-level cache
constexpr std::size_t kReadGranule = 1024;  // what MemoryLoops::read asks of a size

// Memory that is written by the first thread to use it, so that its pages are near that thread.
class Buffer {
 public:
  explicit Buffer(std::size_t bytes)
      : count_(bytes / sizeof(float)),
        memory_(static_cast<float*>(std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096)), &std::free) {
    if (memory_ == nullptr) throw std::bad_alloc();
  }

  float* data() {
    if (!filled_) {
      for (std::size_t i = 0; i < count_; ++i) memory_.get()[i] = -static_cast<float>(i % kRow) / 8;
      filled_ = true;
    }
    return memory_.get();
  }

 private:
  std::size_t count_;
  std::shared_ptr<float> memory_;
  bool filled_ = false;
};

bool in_range(int32_t threads, double seconds) {
  return threads >= 1 && threads <= kMostThreads && seconds > 0 && seconds <= 60;
}

const Stream* stream(int32_t index) {
  const std::span<const Stream> all = fusedattn::probe::streams();
  return index >= 0 && static_cast<std::size_t>(index) < all.size() ? &all[static_cast<std::size_t>(index)] : nullptr;
}

// 10^9 items per second for work whose every pass has `items`. -1 where memory or threads could not be had: no
// exception crosses the C functions.
double rate(const fusedattn::probe::MakeWork& make_work, double items, int threads, double seconds) {
  try {
    return fusedattn::probe::units_per_second(make_work, threads, seconds) * items * 1e-9;
  } catch (const std::exception&) {
    return -1;
  }
}

}  // namespace

extern "C" {

int32_t fusedattn_probe_count(void) { return static_cast<int32_t>(fusedattn::probe::streams().size()); }

const char* fusedattn_probe_name(int32_t index) {
  const Stream* found = stream(index);
  return found == nullptr ? nullptr : found->name;
}

const char* fusedattn_probe_refusal(int32_t index) {
  const Stream* found = stream(index);
  return found == nullptr ? "no such stream" : found->refusal;
}

double fusedattn_probe_flops(int32_t index, int32_t threads, double seconds) {
  const Stream* found = stream(index);
  if (found == nullptr || found->refusal[0] != 0 || !in_range(threads, seconds)) return -1;
  const auto work = [found](long passes) { found->run(static_cast<std::uint64_t>(passes)); };
  return rate([&] { return work; }, found->flops_per_pass, threads, seconds);
}

double fusedattn_probe_exp(int32_t threads, double seconds) {
  if (!in_range(threads, seconds)) return -1;
  const auto make = [loops = fusedattn::probe::memory_loops()] {
    return [loops, x = Buffer(kRow * sizeof(float)), y = Buffer(kRow * sizeof(float))](long passes) mutable {
      for (long pass = 0; pass < passes; ++pass) {
        const float sum = loops.exp(x.data(), y.data(), kRow);
        asm volatile("" ::"m"(sum) : "memory");
      }
    };
  };
  return rate(make, kRow, threads, seconds);
}

double fusedattn_probe_read(size_t bytes, int32_t threads, double seconds) {
  if (!in_range(threads, seconds) || bytes < 4096) return -1;
  const std::size_t whole = bytes / kReadGranule * kReadGranule;
  const auto make = [loops = fusedattn::probe::memory_loops(), whole] {
    return [loops, whole, buffer = Buffer(whole)](long passes) mutable {
      const float* data = buffer.data();
      for (long pass = 0; pass < passes; ++pass) loops.read(data, whole);
    };
  };
  return rate(make, static_cast<double>(whole), threads, seconds);
}

}  // extern "C"
