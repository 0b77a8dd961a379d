// Copies and fills, now or in a stream.
#include <cstring>

#include "runtime/arguments.h"
#include "runtime/device.h"
#include "runtime/memory.h"
#include "runtime/stream.h"

namespace fusedattn::cann {
namespace {

// Lines of `width` bytes; a plain copy is one line.
struct Copy {
  std::byte* dst = nullptr;
  std::size_t dst_pitch = 0;
  const std::byte* src = nullptr;
  std::size_t src_pitch = 0;
  std::size_t width = 0, height = 1;
  std::size_t readable = SIZE_MAX;  // bytes behind src; what lies beyond reads as zero

  std::size_t extent(std::size_t pitch) const { return (height - 1) * pitch + width; }
  void run() const {
    for (std::size_t line = 0; line < height; ++line) {
      const std::size_t start = line * src_pitch;
      const std::size_t real = start >= readable ? 0 : std::min(width, readable - start);
      std::byte* to = dst + line * dst_pitch;
      if (real > 0) std::memmove(to, src + start, real);
      if (real < width) std::memset(to + real, 0, width - real);
    }
  }
};

int check_kind(const char* function, int kind) {
  if (kind >= ACL_MEMCPY_HOST_TO_HOST && kind <= ACL_MEMCPY_INTER_DEVICE_TO_DEVICE) return ACL_SUCCESS;
  return refuse(ACL_ERROR_INVALID_PARAM, std::string(function) + ": kind is " + std::to_string(kind) + "; 0 to 7 are accepted");
}

int too_much(const char* function, const char* what, std::size_t value, std::size_t most) {
  return refuse(ACL_ERROR_RT_PARAM_INVALID, std::string(function) + ": " + what + " is " + std::to_string(value) + "; at most " +
                                                std::to_string(most) + " is accepted");
}

// Whether the blocks at both ends, where they are known, are large enough. Reading too far is a habit of programs; writing never is.
int check_room(const char* function, Copy& copy) {
  if (!had_context()) return no_context(function);
  const std::size_t written = copy.extent(copy.dst_pitch), read = copy.extent(copy.src_pitch);
  if (const auto room = room_behind(copy.dst); room && written > *room) {
    return too_much(function, "the number of bytes to write at dst", written, *room);
  }
  const auto room = room_behind(copy.src);
  if (room && read > *room) {
    if (strict()) return too_much(function, "the number of bytes to read at src", read, *room);
    copy.readable = *room;
  }
  return ACL_SUCCESS;
}

// Reads what programs pass; `copy.width` is 0 when there is nothing to do.
int read_line(const char* function, void* dst, std::size_t destMax, const void* src, std::size_t count, int kind, Copy& copy) {
  if (dst == nullptr) return null_result(function, "dst");
  if (src == nullptr) return null_result(function, "src");
  if (const int code = check_kind(function, kind)) return code;
  if (count > destMax) return too_much(function, "count", count, destMax);
  if (count == 0 || dst == src) return ACL_SUCCESS;
  copy = {static_cast<std::byte*>(dst), count, static_cast<const std::byte*>(src), count, count};
  return check_room(function, copy);
}

int read_lines(const char* function, Copy wanted, int kind, Copy& copy) {
  if (wanted.dst == nullptr) return null_result(function, "dst");
  if (wanted.src == nullptr) return null_result(function, "src");
  if (const int code = check_kind(function, kind)) return code;
  if (wanted.width > wanted.dst_pitch) return too_much(function, "width", wanted.width, wanted.dst_pitch);
  if (wanted.width > wanted.src_pitch) return too_much(function, "width", wanted.width, wanted.src_pitch);
  if (wanted.width == 0 || wanted.height == 0) return ACL_SUCCESS;
  const std::size_t pitch = std::max(wanted.dst_pitch, wanted.src_pitch);
  if (wanted.height - 1 > (SIZE_MAX / 2 - wanted.width) / pitch) return too_much(function, "height", wanted.height, SIZE_MAX / 2 / pitch);
  copy = wanted;
  return check_room(function, copy);
}

// In the stream's order. Memory that is not one of ours may be a temporary of the caller's: then this returns when the copy is made.
int submit(const char* function, const Copy& copy, int kind, aclrtStream handle) {
  if (strict() && kind == ACL_MEMCPY_HOST_TO_HOST) {
    return unsupported(function, "devices copy from host to host only without a stream (FUSEDATTN_ACL_STRICT=1)");
  }
  int code;
  const auto stream = stream_of(function, handle, code);
  if (stream == nullptr) return code;
  if (copy.width == 0) return ACL_SUCCESS;
  const bool ours = block_around(copy.src) && block_around(copy.dst);
  const Outcome outcome = stream->submit([copy]() -> Outcome {
    copy.run();
    return {};
  });
  if (outcome.ok() && !ours && !stream->is_here()) stream->wait(std::nullopt);
  return report(outcome);
}

int check_fill(const char* function, void* address, std::size_t most, std::size_t count) {
  if (address == nullptr) return null_result(function, "devPtr");
  if (count > most) return too_much(function, "count", count, most);
  if (!had_context()) return no_context(function);
  if (const auto room = room_behind(address); room && count > *room) return too_much(function, "count", count, *room);
  return ACL_SUCCESS;
}

}  // namespace
}  // namespace fusedattn::cann

using namespace fusedattn::cann;

aclError aclrtMemcpy(void* dst, size_t destMax, const void* src, size_t count, aclrtMemcpyKind kind) {
  Copy copy;
  if (const int code = read_line(__func__, dst, destMax, src, count, kind, copy)) return code;
  if (copy.width > 0) copy.run();
  return ACL_SUCCESS;
}

aclError aclrtMemcpyAsync(void* dst, size_t destMax, const void* src, size_t count, aclrtMemcpyKind kind, aclrtStream stream) {
  const int how = kind;
  return runtime_call(__func__, [&]() -> int {
    Copy copy;
    if (const int code = read_line("aclrtMemcpyAsync", dst, destMax, src, count, how, copy)) return code;
    return submit("aclrtMemcpyAsync", copy, how, stream);
  });
}

aclError aclrtMemcpy2d(void* dst, size_t dpitch, const void* src, size_t spitch, size_t width, size_t height, aclrtMemcpyKind kind) {
  Copy copy;
  const Copy wanted{static_cast<std::byte*>(dst), dpitch, static_cast<const std::byte*>(src), spitch, width, height};
  if (const int code = read_lines(__func__, wanted, kind, copy)) return code;
  if (copy.width > 0) copy.run();
  return ACL_SUCCESS;
}

aclError aclrtMemcpy2dAsync(void* dst, size_t dpitch, const void* src, size_t spitch, size_t width, size_t height,
                            aclrtMemcpyKind kind, aclrtStream stream) {
  const int how = kind;
  return runtime_call(__func__, [&]() -> int {
    Copy copy;
    const Copy wanted{static_cast<std::byte*>(dst), dpitch, static_cast<const std::byte*>(src), spitch, width, height};
    if (const int code = read_lines("aclrtMemcpy2dAsync", wanted, how, copy)) return code;
    return submit("aclrtMemcpy2dAsync", copy, how, stream);
  });
}

aclError aclrtMemset(void* devPtr, size_t maxCount, int32_t value, size_t count) {
  if (const int code = check_fill(__func__, devPtr, maxCount, count)) return code;
  if (count > 0) std::memset(devPtr, value, count);
  return ACL_SUCCESS;
}

aclError aclrtMemsetAsync(void* devPtr, size_t maxCount, int32_t value, size_t count, aclrtStream stream) {
  return runtime_call(__func__, [&]() -> int {
    if (const int code = check_fill("aclrtMemsetAsync", devPtr, maxCount, count)) return code;
    int code;
    const auto live = stream_of("aclrtMemsetAsync", stream, code);
    if (live == nullptr) return code;
    return report(live->submit([devPtr, value, count]() -> Outcome {
      if (count > 0) std::memset(devPtr, value, count);
      return {};
    }));
  });
}
