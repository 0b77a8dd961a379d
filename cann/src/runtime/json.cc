// A reader of JSON that keeps nothing: configurations are accepted, and none of their keys means anything here.
#include "runtime/json.h"

namespace fusedattn::cann {
namespace {

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  bool object_alone() {
    skip_space();
    if (peek() != '{' || !value(0)) return false;
    skip_space();
    return at_ == text_.size();
  }

 private:
  static constexpr int kDeepest = 200;

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool take(char wanted) {
    if (peek() != wanted) return false;
    ++at_;
    return true;
  }
  void skip_space() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos) ++at_;
  }

  bool value(int depth) {
    if (depth > kDeepest) return false;
    skip_space();
    switch (peek()) {
      case '{': return members('}', depth, true);
      case '[': return members(']', depth, false);
      case '"': return string();
      default: return word("true") || word("false") || word("null") || number();
    }
  }

  bool members(char close, int depth, bool named) {
    ++at_;
    skip_space();
    if (take(close)) return true;
    do {
      skip_space();
      if (named && !(string() && (skip_space(), take(':')))) return false;
      if (!value(depth + 1)) return false;
      skip_space();
    } while (take(','));
    return take(close);
  }

  bool string() {
    if (!take('"')) return false;
    for (; at_ < text_.size(); ++at_) {
      if (text_[at_] == '"') {
        ++at_;
        return true;
      }
      if (static_cast<unsigned char>(text_[at_]) < ' ') return false;
      if (text_[at_] == '\\') ++at_;
    }
    return false;
  }

  bool word(std::string_view wanted) {
    if (text_.substr(at_, wanted.size()) != wanted) return false;
    at_ += wanted.size();
    return true;
  }

  bool digits() {
    const std::size_t start = at_;
    while (peek() >= '0' && peek() <= '9') ++at_;
    return at_ > start;
  }

  bool number() {
    take('-');
    if (!digits()) return false;
    if (take('.') && !digits()) return false;
    if (take('e') || take('E')) {
      if (!take('+')) take('-');
      return digits();
    }
    return true;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

bool is_json_object(std::string_view text) { return Reader(text).object_alone(); }

}  // namespace fusedattn::cann
