// Constraints: heads, batches and sequences agree; cumulative lengths; sizes that fit; the sink.
#include <algorithm>
#include <cmath>

#include "operators/score/constraints.h"

namespace fusedattn::cann::score {
namespace {

constexpr double kLargestScale = 2.3e38;  // times log2(e) it still is a float32

Sentence keep_prob(const Facts& f) {
  return f.keep_prob() > 0.0f && f.keep_prob() <= 1.0f ? Sentence() : Sentence("keepProb is " + number(f.r.given.keep_prob));
}
Sentence scale(const Facts& f) {
  return std::fabs(f.r.given.scale_value) <= kLargestScale ? Sentence() : Sentence("scaleValue is " + number(f.r.given.scale_value));
}

Sentence hidden(const Facts& f, Role role, std::int64_t unit) {
  const std::int64_t size = f[role]->shape.back();
  if (!f.folded || (unit > 0 ? size % unit : size) == 0) return {};
  return std::string(f.name(role)) + " has hidden size " + std::to_string(size);
}
Sentence hidden_query(const Facts& f) { return hidden(f, Role::query, f.r.given.head_num); }
Sentence hidden_key(const Facts& f) { return hidden(f, Role::key, f.D()); }
Sentence hidden_value(const Facts& f) { return hidden(f, Role::value, f.N2()); }
std::string of_heads(const Facts& f) { return "a multiple of headNum = " + std::to_string(f.r.given.head_num); }
std::string of_features(const Facts& f) { return "a multiple of query's head size, " + std::to_string(f.D()); }
std::string of_key_heads(const Facts& f) { return "a multiple of key's " + std::to_string(f.N2()) + " heads"; }

Sentence heads(const Facts& f) {
  if (f.N1() == f.r.given.head_num) return {};
  return "headNum is " + std::to_string(f.r.given.head_num) + "; query has " + std::to_string(f.N1()) + " heads";
}
Sentence groups(const Facts& f) {
  if (f.N2() == 0 || f.N1() % f.N2() == 0) return {};
  return std::string(f.name(Role::key)) + " has " + std::to_string(f.N2()) + " heads";
}
std::string divisors(const Facts& f) { return "divisors of headNum = " + std::to_string(f.r.given.head_num); }

Sentence batches(const Facts& f) {
  if (f.packed || (f.keys().batch == f.B() && f.values().batch == f.B())) return {};
  return std::string(f.name(Role::key)) + " has batch " + std::to_string(f.keys().batch) + ", value has batch " +
         std::to_string(f.values().batch);
}
std::string queries_batch(const Facts& f) { return "query's, " + std::to_string(f.B()); }

Sentence values(const Facts& f) {
  if (f.values().heads == f.N2() && f.values().rows == f.Skv()) return {};
  return "value has " + std::to_string(f.values().heads) + " heads and " + std::to_string(f.values().rows) + " rows";
}
std::string keys_rows(const Facts& f) {
  return "key's, " + std::to_string(f.N2()) + " heads and " + std::to_string(f.Skv()) + " rows";
}

Sentence no_features(const Facts& f) { return f.D() > 0 && f.N2() > 0 && f.Dv() == 0 ? Sentence("value has head size 0") : Sentence(); }
std::string up_to_features(const Facts& f) { return "1 to key's, " + std::to_string(f.D()); }

Sentence rows(const Facts& f) {
  if (std::max(f.Sq(), f.Skv()) <= kIntMax) return {};
  return "query has " + std::to_string(f.Sq()) + " rows, key has " + std::to_string(f.Skv());
}

std::string entries(const char* name, const std::optional<std::vector<std::int64_t>>& list) {
  return std::string(name) + " has " + std::to_string(list ? list->size() : 0) + " entries";
}

Sentence lists(const Facts& f) {
  const auto &q = f.r.q_ends, &kv = f.r.kv_ends;
  if (!f.packed || (q && kv && !q->empty() && q->size() == kv->size())) return {};
  return entries("actualSeqQLenOptional", q) + ", " + entries("actualSeqKvLenOptional", kv);
}

// Decreases alone may follow a decrease; the lengths of padded lists are 0 there.
bool rises(const std::vector<std::int64_t>& ends) {
  std::int64_t before = 0;
  bool fell = false;
  for (const std::int64_t end : ends) {
    if (end < 0 || (fell && end > before)) return false;
    fell = fell || end < before;
    before = end;
  }
  return true;
}

Sentence rising(const Facts& f) {
  if (!f.packed) return {};
  if (!rises(*f.r.q_ends)) return "actualSeqQLenOptional is " + text(*f.r.q_ends);
  return rises(*f.r.kv_ends) ? Sentence() : Sentence("actualSeqKvLenOptional is " + text(*f.r.kv_ends));
}

Sentence ends_with(const char* name, std::int64_t end, std::int64_t rows) {
  if (end <= rows) return {};
  return std::string(name) + " ends with " + std::to_string(end) + " of " + std::to_string(rows) + " packed rows";
}
Sentence totals(const Facts& f) {
  if (!f.packed) return {};
  if (Sentence q = ends_with("actualSeqQLenOptional", f.totals().rows, f.Sq())) return q;
  return ends_with("actualSeqKvLenOptional", f.totals().columns, f.Skv());
}

Sentence sink(const Facts& f) {
  const Slot& sink = f[Role::sink];
  if (!sink || (sink->dtype == ACL_FLOAT && sink->shape == Dims{f.N1()})) return {};
  return f.shape(Role::sink) + " and dtype " + text(sink->dtype);
}
std::string sink_shape(const Facts& f) { return "ACL_FLOAT [" + std::to_string(f.N1()) + "], one per query head"; }

const Row kRows[] = {
    {"probability.range", kTiling, kTiling, "numbers above 0 up to 1", keep_prob},
    {"scale.range", kTiling, kTiling, "numbers from -2.3e38 to 2.3e38", scale},
    {"heads.query", kTiling, kTiling, of_heads, hidden_query},
    {"heads.key", kTiling, kTiling, of_features, hidden_key},
    {"heads.value", kTiling, kTiling, of_key_heads, hidden_value},
    {"heads.number", kTiling, kTiling, "query's number of heads", heads},
    {"heads.groups", kTiling, kTiling, divisors, groups},
    {"shapes.batch", kTiling, kTiling, queries_batch, batches},
    {"shapes.value", kTiling, kTiling, keys_rows, values},
    {"shapes.features", kTiling, kTiling, up_to_features, no_features},
    {"shapes.rows", kTiling, kTiling, "up to 2147483647", rows},
    {"sequences.number", kTiling, kTiling, "one entry per sequence in both", lists},
    {"sequences.rising", kTiling, kTiling, "cumulative lengths, decreasing at the end alone", rising},
    {"sequences.total", kTiling, kTiling, "at most the number of packed rows", totals},
    {"sink.shape", kTiling, kTiling, sink_shape, sink},
};

}  // namespace

std::span<const Row> shape_rows() { return kRows; }

}  // namespace fusedattn::cann::score
