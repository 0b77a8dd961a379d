// securec.h: memory, strings and printing with sizes.
#include "securec.h"

#include <cstdio>
#include <cstring>

namespace {

// EINVAL for what the limits forbid.
bool refused(const void* dest, std::size_t dest_max, std::size_t limit) {
  return dest == nullptr || dest_max == 0 || dest_max > limit;
}

template <class Move>
errno_t move_memory(void* dest, std::size_t dest_max, const void* src, std::size_t count, Move move) {
  if (refused(dest, dest_max, SECUREC_MEM_MAX_LEN)) return EINVAL;
  if (src == nullptr) {
    std::memset(dest, 0, dest_max);
    return EINVAL;
  }
  if (count > dest_max) {
    std::memset(dest, 0, dest_max);
    return ERANGE;
  }
  if (count > 0 && dest != src) move(dest, src, count);
  return EOK;
}

// At most `count` characters of `src`, behind the first `used` of `dest`.
errno_t append(char* dest, std::size_t dest_max, std::size_t used, const char* src, std::size_t count) {
  if (src == nullptr) {
    dest[0] = '\0';
    return EINVAL;
  }
  const std::size_t room = dest_max - used;
  const std::size_t length = strnlen(src, count < room ? count : room);
  if (length >= room) {
    dest[0] = '\0';
    return ERANGE;
  }
  std::memmove(dest + used, src, length);
  dest[used + length] = '\0';
  return EOK;
}

errno_t concatenate(char* dest, std::size_t dest_max, const char* src, std::size_t count) {
  if (refused(dest, dest_max, SECUREC_STRING_MAX_LEN)) return EINVAL;
  const std::size_t used = strnlen(dest, dest_max);
  if (used == dest_max) {
    dest[0] = '\0';
    return EINVAL;
  }
  return append(dest, dest_max, used, src, count);
}

}  // namespace

errno_t memcpy_s(void* dest, size_t destMax, const void* src, size_t count) {
  return move_memory(dest, destMax, src, count, [](void* to, const void* from, std::size_t n) { std::memmove(to, from, n); });
}

errno_t memmove_s(void* dest, size_t destMax, const void* src, size_t count) { return memcpy_s(dest, destMax, src, count); }

errno_t memset_s(void* dest, size_t destMax, int c, size_t count) {
  if (refused(dest, destMax, SECUREC_MEM_MAX_LEN)) return EINVAL;
  std::memset(dest, c, count < destMax ? count : destMax);
  return count > destMax ? ERANGE : EOK;
}

errno_t strcpy_s(char* strDest, size_t destMax, const char* strSrc) {
  return refused(strDest, destMax, SECUREC_STRING_MAX_LEN) ? EINVAL : append(strDest, destMax, 0, strSrc, SIZE_MAX);
}

errno_t strncpy_s(char* strDest, size_t destMax, const char* strSrc, size_t count) {
  return refused(strDest, destMax, SECUREC_STRING_MAX_LEN) ? EINVAL : append(strDest, destMax, 0, strSrc, count);
}

errno_t strcat_s(char* strDest, size_t destMax, const char* strSrc) { return concatenate(strDest, destMax, strSrc, SIZE_MAX); }

errno_t strncat_s(char* strDest, size_t destMax, const char* strSrc, size_t count) {
  return concatenate(strDest, destMax, strSrc, count);
}

char* strtok_s(char* strToken, const char* strDelimit, char** context) {
  if (strDelimit == nullptr || context == nullptr || (strToken == nullptr && *context == nullptr)) return nullptr;
  return strtok_r(strToken, strDelimit, context);
}

int vsnprintf_s(char* strDest, size_t destMax, size_t count, const char* format, va_list argList) {
  if (refused(strDest, destMax, SECUREC_STRING_MAX_LEN)) return -1;
  if (format == nullptr || (count >= destMax && count != SIZE_MAX)) {
    strDest[0] = '\0';
    return -1;
  }
  const std::size_t room = count < destMax ? count + 1 : destMax;
  const int length = std::vsnprintf(strDest, room, format, argList);
  if (length >= 0 && static_cast<std::size_t>(length) < room) return length;
  if (length < 0 || room == destMax) strDest[0] = '\0';  // cut at the count on purpose, else nothing is left
  return -1;
}

int vsprintf_s(char* strDest, size_t destMax, const char* format, va_list argList) {
  return vsnprintf_s(strDest, destMax, SIZE_MAX, format, argList);
}

int sprintf_s(char* strDest, size_t destMax, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int length = vsprintf_s(strDest, destMax, format, arguments);
  va_end(arguments);
  return length;
}

int snprintf_s(char* strDest, size_t destMax, size_t count, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int length = vsnprintf_s(strDest, destMax, count, format, arguments);
  va_end(arguments);
  return length;
}
