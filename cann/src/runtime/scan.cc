// sscanf_s: one conversion at a time, so that the sizes between the destinations can be taken out of the arguments.
#include <cstdio>
#include <cstring>
#include <string>

#include "securec.h"

namespace {

// From one conversion to the next.
struct Piece {
  std::string before;  // what must match first
  std::string flags;   // "*", width, length: as written
  std::string what;    // 'd', 's', "[a-z]", …; empty at the end of the format
  bool stores = false;
  bool text = false;  // s, c or [: a size follows the destination
  int width = 0;      // 0: none written
};

// The set of "%[...]", from its bracket on.
std::string set_at(const char* at) {
  const char* end = at + 1;
  if (*end == '^') ++end;
  if (*end == ']') ++end;
  while (*end != '\0' && *end != ']') ++end;
  return std::string(at, *end == ']' ? end + 1 : end);
}

Piece next_piece(const char*& format) {
  Piece piece;
  while (*format != '\0' && (*format != '%' || format[1] == '%')) {
    if (*format == '%') piece.before += *format++;
    piece.before += *format++;
  }
  if (*format == '\0') return piece;
  ++format;
  piece.stores = *format != '*';
  if (!piece.stores) ++format;
  while (*format >= '0' && *format <= '9' && piece.width < 1000000) piece.width = piece.width * 10 + (*format++ - '0');
  const std::size_t length = std::strspn(format, "hlLjzt");
  piece.flags.assign(format, length);
  format += length;
  piece.what = *format == '[' ? set_at(format) : std::string(format, *format == '\0' ? 0 : 1);
  format += piece.what.size();
  piece.text = !piece.what.empty() && std::strchr("sc[", piece.what[0]) != nullptr;
  return piece;
}

// The characters that %s or %[ would take, one more than fit at most: "%*<n>s%n" tells.
std::size_t length_of(const char* at, const Piece& piece, std::size_t most) {
  const std::string format = piece.before + "%*" + std::to_string(most) + piece.what + "%n";
  int with = 0, without = 0;
  std::sscanf(at, format.c_str(), &with);
  std::sscanf(at, (piece.before + (piece.what == "s" ? " %n" : "%n")).c_str(), &without);
  return static_cast<std::size_t>(with > without ? with - without : 0);
}

bool fits(const char* at, const Piece& piece, std::size_t size) {
  const std::size_t limit = static_cast<std::size_t>(piece.width);
  if (piece.what == "c") return size >= (limit == 0 ? 1 : limit);
  if (limit != 0 && limit < size) return true;
  return size > 1 ? length_of(at, piece, size) < size : size == 1 && length_of(at, piece, 1) == 0;
}

}  // namespace

int sscanf_s(const char* buffer, const char* format, ...) {
  if (buffer == nullptr || format == nullptr) return -1;
  va_list arguments;
  va_start(arguments, format);
  int stored = 0;
  const char* at = buffer;
  while (true) {
    const Piece piece = next_piece(format);
    if (piece.what.empty()) break;
    std::string one = piece.before + "%" + (piece.stores ? "" : "*");
    if (piece.width > 0) one += std::to_string(piece.width);
    one += piece.flags + piece.what;
    int consumed = -1, result;
    if (!piece.stores) {
      result = std::sscanf(at, (one + "%n").c_str(), &consumed);
    } else if (void* to = va_arg(arguments, void*); piece.what == "n") {
      *static_cast<int*>(to) = static_cast<int>(at - buffer) + static_cast<int>(piece.before.size());
      continue;
    } else {
      if (piece.text && (to == nullptr || !fits(at, piece, va_arg(arguments, std::size_t)))) {
        if (to != nullptr) *static_cast<char*>(to) = '\0';
        break;
      }
      result = std::sscanf(at, (one + "%n").c_str(), to, &consumed);
      if (result == 1) ++stored;
    }
    if (consumed < 0) {
      if (result == EOF && stored == 0) stored = EOF;
      break;
    }
    at += consumed;
  }
  va_end(arguments);
  return stored;
}
