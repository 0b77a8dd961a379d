// Constraints of FUSEDATTN_ACL_STRICT=1: what devices are documented to take, and what they would quietly pass over.
#include <algorithm>

#include "operators/score/constraints.h"

namespace fusedattn::cann::score {
namespace {

constexpr std::int64_t kMostHeads = 256, kMostRows = 1 << 20, kMostBatches = 2 << 20, kMostSequences = 2048;

std::string s(std::int64_t n) { return std::to_string(n); }

Sentence batches(const Facts& f) {
  if (f.B() <= (f.packed ? kMostSequences : kMostBatches)) return {};
  return "the batch is " + s(f.B()) + " with inputLayout " + f.layout();
}
Sentence heads(const Facts& f) { return f.N1() <= kMostHeads ? Sentence() : Sentence("headNum is " + s(f.N1())); }
Sentence rows(const Facts& f) {
  return std::max(f.Sq(), f.Skv()) <= kMostRows ? Sentence() : Sentence("query has " + s(f.Sq()) + " rows, key has " + s(f.Skv()));
}

Sentence prefix(const Facts& f) {
  const auto entries = static_cast<std::int64_t>(f.r.prefix ? f.r.prefix->size() : 0);
  return entries <= (f.packed ? 1024 : 2048) ? Sentence() : Sentence("prefixOptional has " + s(entries) + " entries");
}

Sentence lists(const Facts& f) {
  if (!f.packed && (f.r.q_ends || f.r.kv_ends)) return "sequence lengths are given with inputLayout " + f.layout();
  return {};
}

Sentence falling(const Facts& f) {
  if (!f.packed) return {};
  if (!std::is_sorted(f.r.q_ends->begin(), f.r.q_ends->end())) return "actualSeqQLenOptional is " + text(*f.r.q_ends);
  if (std::is_sorted(f.r.kv_ends->begin(), f.r.kv_ends->end())) return {};
  return "actualSeqKvLenOptional is " + text(*f.r.kv_ends);
}

Sentence unused(const Facts& f) {
  for (const Slot& slot : f.r.unused)
    if (slot && !slot.source.output && !slot->empty()) return std::string(slot.name) + " is given";
  return {};
}

Sentence tokens(const Facts& f) {
  if (f.r.given.pre_tokens != f.pre()) return "preTokens is " + s(f.r.given.pre_tokens);
  return f.r.given.next_tokens != f.next() ? Sentence("nextTokens is " + s(f.r.given.next_tokens)) : Sentence();
}

Sentence bits(const Facts& f) {
  if (f[Role::drop_mask] && f.keep_prob() == 1.0f) return std::string(f.name(Role::drop_mask)) + " is given with keepProb 1";
  if (f.keep_prob() < 1.0f && !f[Role::drop_mask] && !f.generates())
    return std::string(f.name(Role::drop_mask)) + " is null with keepProb " + number(f.r.given.keep_prob);
  return {};
}

Sentence softmax_layout(const Facts& f) {
  const auto& layout = f.r.softmax_layout;
  if (f.r.given.softmax_layout != nullptr && layout && (layout->empty() || *layout == "same_as_input")) return {};
  return std::string(f.backward ? "softmaxInLayout" : "softmaxOutLayout") + " is " +
         (layout && f.r.given.softmax_layout != nullptr ? "'" + *layout + "'" : "null or unterminated");
}

Sentence format(const Facts& f) {
  for (const Slot& slot : f.r.slots)
    if (slot && slot->format != ACL_FORMAT_ND) return std::string(slot.name) + " has format " + s(slot->format);
  return {};
}

const Row kRows[] = {
    {"strict.batch", kTiling, kTiling, "up to 2097152, with TND 2048", batches},
    {"strict.heads", kTiling, kTiling, "up to 256", heads},
    {"strict.rows", kTiling, kTiling, "up to 1048576", rows},
    {"strict.prefix", kTiling, kTiling, "up to 2048 entries, with TND 1024", prefix},
    {"strict.lists", kValue, kValue, "null; lengths go with TND alone", lists},
    {"strict.falling", kTiling, kTiling, "lengths that never decrease", falling},
    {"strict.unused", kValue, kValue, "null, for it is reserved", unused},
    {"strict.tokens", kTiling, kTiling, "32-bit numbers", tokens},
    {"strict.bits", kTiling, kTiling, "bits with keepProb below 1, and none with 1", bits},
    {"strict.layout", kValue, kValue, "'' and 'same_as_input'", softmax_layout},
    {"strict.format", kValue, kValue, "ACL_FORMAT_ND", format},
};

}  // namespace

std::span<const Row> strict_rows() { return kRows; }

}  // namespace fusedattn::cann::score
