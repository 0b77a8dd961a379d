// Constraints: types, shapes and preconditions of the positional shift; the bits that dropout takes from the caller.
#include <algorithm>

#include "operators/score/constraints.h"
#include "operators/score/pse.h"

namespace fusedattn::cann::score {
namespace {

constexpr std::int64_t kFarthestStart = std::int64_t{1} << 52;  // sums with positions stay far from the end of 64 bits

bool outer(const Facts& f) { return f[Role::real_shift] && !f.inner_pse; }
bool inner(const Facts& f) { return f[Role::real_shift] && f.inner_pse; }
std::string s(std::int64_t n) { return std::to_string(n); }
std::string with_type(const Facts& f) { return " with pseType " + s(f.r.given.pse_type); }

Sentence type(const Facts& f) {
  return f.r.given.pse_type >= 0 && f.r.given.pse_type <= 3 ? Sentence() : Sentence("pseType is " + s(f.r.given.pse_type));
}

Sentence missing(const Facts& f) {
  if (f[Role::real_shift] || f.r.given.pse_type != 0) return {};
  return std::string(f.name(Role::real_shift)) + " is null with pseType 0";
}

Sentence mode(const Facts& f) {
  if (!f[Role::real_shift] || !f.packed || f.mode() != 7) return {};
  return std::string(f.name(Role::real_shift)) + " is given with sparseMode 7";
}

Sentence shape(const Facts& f) {
  return outer(f) && pse_form(f) == PseForm::none ? Sentence(f.shape(Role::real_shift)) : Sentence();
}
std::string shapes(const Facts& f) {
  const std::string bn = s(f.B()) + ", " + s(f.N1()), n = "[1, " + s(f.N1());
  if (f.packed)
    return "[" + s(f.numels()) + "], [" + s(f.N1() * f.totals().columns) + "], [" + bn + ", 1024, " + s(f.longest().columns) + "], " + n +
           ", 1024, " + s(f.longest().columns) + "]";
  const std::string scores = s(f.Sq()) + ", " + s(f.Skv()) + "]", last = ", 1024, " + s(f.Skv()) + "]";
  return "[" + bn + ", " + scores + ", " + n + ", " + scores + ", [" + bn + ", 1, " + s(f.Skv()) + "], and for longer causal sequences [" +
         bn + last + " or " + n + last;
}

Sentence compressed(const Facts& f) {
  if (!outer(f) || pse_form(f) != PseForm::last_rows) return {};
  const bool equal = std::all_of(f.lengths().begin(), f.lengths().end(), [](const Lengths& n) { return n.rows == n.columns; });
  if (equal && f.causal() && (f.packed || f.Sq() > kSuppliedRows)) return {};
  const std::string lengths = f.packed ? "several lengths" : "q length " + s(f.Sq()) + ", kv length " + s(f.Skv());
  return f.shape(Role::real_shift) + ", 1024 rows, with " + lengths + " and sparseMode " + s(f.r.given.sparse_mode);
}

Sentence slopes(const Facts& f) {
  if (!inner(f)) return {};
  const Dims& shape = f[Role::real_shift]->shape;
  if (shape == Dims{f.N1()} || shape == Dims{f.B(), f.N1()}) return {};
  return f.shape(Role::real_shift) + with_type(f);
}
std::string slope_shapes(const Facts& f) { return "[" + s(f.N1()) + "], [" + s(f.B()) + ", " + s(f.N1()) + "]"; }

Sentence lengths(const Facts& f) {
  if (!inner(f)) return {};
  for (std::size_t b = f.packed && f.mode() == 8 ? 1 : 0; b < f.lengths().size(); ++b)
    if (const Lengths& n = f.lengths()[b]; n.rows != n.columns)
      return "sequence " + std::to_string(b) + " has q length " + s(n.rows) + " and kv length " + s(n.columns) + with_type(f);
  return {};
}

Sentence far_starts(const Facts& f) {
  if (!inner(f)) return {};
  const auto [q, kv] = starts(f);
  if (q < -kFarthestStart || q > kFarthestStart) return "qStartIdxOptional[0] is " + s(q);
  return kv < -kFarthestStart || kv > kFarthestStart ? Sentence("kvStartIdxOptional[0] is " + s(kv)) : Sentence();
}

Sentence cut_starts(const Facts& f) {
  if (!inner(f) || !f.packed || f.mode() != 8) return {};
  const Lengths& n = f.lengths().front();
  const auto [q, kv] = starts(f);
  if (n.rows - n.columns + q - kv == 0) return {};
  return "qStartIdxOptional is " + s(q) + ", kvStartIdxOptional is " + s(kv) + " with first lengths q " + s(n.rows) + ", kv " +
         s(n.columns);
}

// Whether dropMask is looked at: the gradient ignores it where nothing is dropped.
bool bits_read(const Facts& f) { return f[Role::drop_mask] && (!f.backward || f.keep_prob() < 1.0f); }

Sentence bits_dtype(const Facts& f) {
  if (!bits_read(f) || f[Role::drop_mask]->dtype == ACL_UINT8) return {};
  return std::string(f.name(Role::drop_mask)) + " has dtype " + text(f[Role::drop_mask]->dtype);
}

Sentence bits_size(const Facts& f) {
  if (!bits_read(f) || f[Role::drop_mask]->elements() >= f.numels() / 8 + (f.numels() % 8 != 0)) return {};
  return std::string(f.name(Role::drop_mask)) + " has " + s(f[Role::drop_mask]->elements()) + " bytes for " + s(f.numels()) + " scores";
}

Sentence bits_missing(const Facts& f) {
  if (f.keep_prob() == 1.0f || f[Role::drop_mask] || f.generates()) return {};
  return std::string(f.name(Role::drop_mask)) + " is null with keepProb " + number(f.r.given.keep_prob);
}

const Row kPse[] = {
    {"pse.type", kTiling, kTiling, "0, 1, 2, 3", type},
    {"pse.missing", kTiling, kTiling, "a tensor, or pseType 1", missing},
    {"pse.mode", kTiling, kTiling, "null", mode},
    {"pse.shape", kTiling, kTiling, shapes, shape},
    {"pse.compressed", kTiling, kTiling,
     "equal lengths (above 1024 outside TND) and a causal mask: sparseMode 2, 3, or 0 with nextTokens 0", compressed},
    {"pse.slopes", kTiling, kTiling, slope_shapes, slopes},
    {"pse.lengths", kTiling, kTiling, "equal lengths", lengths},
    {"pse.range", kTiling, kTiling, "-2^52 to 2^52", far_starts},
    {"pse.starts", kTiling, kTiling, "q - kv + qStart - kvStart = 0", cut_starts},
};
const Row kDropout[] = {
    {"dropout.dtype", kTiling, kTiling, "ACL_UINT8", bits_dtype},
    {"dropout.size", kTiling, kTiling, "one bit per score", bits_size},
    {"dropout.missing", 0, kTiling, "the bits that the forward took", bits_missing},
};

}  // namespace

std::span<const Row> pse_rows() { return kPse; }
std::span<const Row> dropout_rows() { return kDropout; }

}  // namespace fusedattn::cann::score
