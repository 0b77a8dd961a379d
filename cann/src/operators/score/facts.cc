#include "operators/score/facts.h"

#include <algorithm>
#include <initializer_list>
#include <limits>

namespace fusedattn::cann::score {
namespace {

bool is(const Request& r, const char* layout) { return r.layout && *r.layout == layout; }

// Cumulative lengths whose decreases count as sequences without rows.
std::vector<std::int64_t> rising(const std::vector<std::int64_t>& ends) {
  std::vector<std::int64_t> clamped;
  std::int64_t last = 0;
  for (const std::int64_t end : ends) clamped.push_back(last = std::max(end, last));
  return clamped;
}

// Saturated: what is too large to count is larger than any tensor.
constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
std::int64_t product(std::initializer_list<std::int64_t> factors) {
  std::int64_t all = 1;
  for (const std::int64_t factor : factors)
    if (__builtin_mul_overflow(all, factor, &all)) return kMost;
  return all;
}
std::int64_t sum(std::int64_t a, std::int64_t b) { return a > kMost - b ? kMost : a + b; }

std::int64_t quotient(std::int64_t a, std::int64_t b) { return b > 0 ? a / b : 0; }

}  // namespace

Facts::Facts(const Request& request)
    : r(request),
      backward(request.given.backward),
      packed(is(request, "TND")),
      folded(is(request, "BSH") || is(request, "SBH")),
      masked(static_cast<bool>(request[Role::atten_mask])),
      inner_pse(request.given.pse_type == 2 || request.given.pse_type == 3) {}

Sizes Facts::split(const Tensor& tensor, std::int64_t heads) const {
  const Dims& n = tensor.shape;
  if (packed) return {1, n[1], n[0], n[2]};
  if (is(r, "BSH")) return {n[0], heads, n[1], quotient(n[2], heads)};
  if (is(r, "SBH")) return {n[1], heads, n[0], quotient(n[2], heads)};
  if (is(r, "BSND")) return {n[0], n[2], n[1], n[3]};
  return {n[0], n[1], n[2], n[3]};
}

const Facts::Measures& Facts::measures() const {
  if (measures_) return *measures_;
  Measures m;
  m.queries = split(*r[Role::query], r.given.head_num);
  const std::int64_t folded_heads = folded ? quotient(r[Role::key]->shape.back(), m.queries.dim) : 0;
  m.keys = split(*r[Role::key], folded_heads);
  m.values = split(*r[Role::value], folded_heads);
  return measures_.emplace(m);
}

Steps Facts::laid(const Dims& shape, const Dims& strides, std::int64_t heads) const {
  const Dims& s = strides;
  if (packed) return {0, s[1], s[0]};
  const std::int64_t width = folded ? quotient(shape.back(), heads) * s.back() : 0;
  if (is(r, "BSH")) return {s[0], width, s[1]};
  if (is(r, "SBH")) return {s[1], width, s[0]};
  if (is(r, "BSND")) return {s[0], s[2], s[1]};
  return {s[0], s[1], s[2]};
}

std::int64_t Facts::Dr() const {
  const Slot& rope = r[Role::query_rope];
  if (!rope) return 0;
  return folded ? quotient(rope->shape.back(), N1()) : rope->shape.back();
}

Dims Facts::out_shape() const {
  Dims shape = r[Role::query]->shape;
  shape.back() = folded ? N1() * Dv() : Dv();
  return shape;
}

Dims Facts::stats_shape() const { return packed ? Dims{Sq(), N1(), kLanes} : Dims{B(), N1(), Sq(), kLanes}; }

bool Facts::writes_nothing() const { return Sq() == 0 || N1() == 0 || (!packed && B() == 0); }

bool Facts::sees_nothing() const { return writes_nothing() || Skv() == 0 || N2() == 0 || D() == 0 || Dv() == 0; }

const Facts::Sequences& Facts::sequences() const {
  if (sequences_) return *sequences_;
  Sequences s;
  if (packed) {
    s.q_ends = rising(*r.q_ends), s.kv_ends = rising(*r.kv_ends);
    std::int64_t q = 0, kv = 0;
    for (std::size_t b = 0; b < s.q_ends.size(); ++b) {
      s.lengths.push_back({s.q_ends[b] - q, s.kv_ends[b] - kv});
      q = s.q_ends[b], kv = s.kv_ends[b];
    }
  } else {
    s.lengths.push_back({Sq(), Skv()});
  }
  for (const Lengths& one : s.lengths) {
    s.longest.rows = std::max(s.longest.rows, one.rows), s.longest.columns = std::max(s.longest.columns, one.columns);
    s.numels = sum(s.numels, product({packed ? 1 : B(), N1(), one.rows, one.columns}));
  }
  return sequences_.emplace(std::move(s));
}

bool Facts::equal_lengths() const {
  return std::all_of(lengths().begin(), lengths().end(), [this](const Lengths& one) { return one == lengths().front(); });
}

std::int64_t Facts::clamp(std::int64_t tokens) { return std::clamp(tokens, kIntMin, kIntMax); }

std::int64_t Facts::band_sequence() const {
  std::int64_t found = -1;
  for (std::size_t b = 0; b < lengths().size(); ++b)
    if (lengths()[b].rows > 0 && (found < 0 || mode() == 7)) found = static_cast<std::int64_t>(b);
  return found;
}

bool Facts::causal() const {
  if (mode() == 0) return masked && pre() >= longest().rows && next() == 0;
  return mode() == 2 || mode() == 3;
}

}  // namespace fusedattn::cann::score
