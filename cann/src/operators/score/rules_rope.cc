// Constraints: the rotary parts of query and key.
#include "operators/score/constraints.h"

namespace fusedattn::cann::score {
namespace {

bool given(const Facts& f) { return f[Role::query_rope] && f[Role::key_rope]; }
std::string beside(const Facts& f) { return std::string(" beside ") + f.name(Role::query_rope); }

Sentence both(const Facts& f) {
  if (static_cast<bool>(f[Role::query_rope]) == static_cast<bool>(f[Role::key_rope])) return {};
  return std::string(f.name(f[Role::query_rope] ? Role::query_rope : Role::key_rope)) + " is given alone";
}

Sentence dtype(const Facts& f) {
  if (!given(f)) return {};
  for (const Role role : {Role::query, Role::key, Role::value, Role::query_rope, Role::key_rope})
    if (f[role]->dtype != ACL_BF16) return std::string(f.name(role)) + " has dtype " + text(f[role]->dtype) + beside(f);
  return {};
}

bool fits(const Facts& f, Role role, Role partner, std::int64_t heads) {
  Dims shape = f[role]->shape, wanted = f[partner]->shape;
  if (shape.size() != wanted.size()) return false;
  wanted.back() = f.folded ? heads * f.Dr() : f.Dr();
  return shape == wanted;
}

Sentence shape(const Facts& f) {
  if (!given(f)) return {};
  if (!fits(f, Role::query_rope, Role::query, f.N1())) return f.shape(Role::query_rope);
  return fits(f, Role::key_rope, Role::key, f.N2()) ? Sentence() : f.shape(Role::key_rope);
}

Sentence features(const Facts& f) {
  if (!given(f) || (0 < f.Dr() && f.Dr() <= f.D() && f.D() % 8 == 0 && f.Dr() % 8 == 0)) return {};
  return std::string(f.name(Role::query_rope)) + " has head size " + std::to_string(f.Dr()) + " beside query's " + std::to_string(f.D());
}

Sentence alone(const Facts& f) {
  if (!given(f)) return {};
  if (f.r.given.sparse_mode == 6) return "sparseMode is 6" + beside(f);
  for (const Role role : {Role::real_shift, Role::drop_mask})
    if (f[role]) return std::string(f.name(role)) + " is given" + beside(f);
  return f.r.given.keep_prob != 1.0 ? Sentence("keepProb is " + number(f.r.given.keep_prob) + beside(f)) : Sentence();
}

Sentence mask(const Facts& f) {
  return given(f) && !f.masked ? Sentence(std::string(f.name(Role::atten_mask)) + " is null" + beside(f)) : Sentence();
}

const Row kRows[] = {
    {"rope.both", kValue, kValue, "both rotary parts, or neither", both},
    {"rope.dtype", kValue, kValue, "ACL_BF16 for all five", dtype},
    {"rope.shape", kValue, kValue, "query's and key's but for the head size, which is the same for both", shape},
    {"rope.features", kValue, kValue, "multiples of 8, the rotary part not above query's", features},
    {"rope.alone", kValue, kValue, "no positional shift, no dropout, a sparseMode other than 6", alone},
    {"rope.mask", kNull, kNull, "a mask", mask},
};

}  // namespace

std::span<const Row> rope_rows() { return kRows; }

}  // namespace fusedattn::cann::score
