// Constraints: what the gradient takes from the forward, and what is written.
#include "operators/score/constraints.h"

namespace fusedattn::cann::score {
namespace {

std::string given(const Facts& f, Role role) { return f.shape(role) + " and dtype " + text(f[role]->dtype); }

// The statistics of packed sequences are documented as [N, T, 8], too: the memory is the same where it is contiguous.
bool statistics_fit(const Facts& f, const Slot& slot) {
  if (slot->dtype != ACL_FLOAT) return false;
  if (slot->shape == f.stats_shape()) return true;
  const bool in_blocks = !f.r.softmax_layout || *f.r.softmax_layout != "same_as_input";
  return f.packed && in_blocks && slot->shape == Dims{f.N1(), f.Sq(), kLanes};
}

Sentence statistics(const Facts& f) {
  for (const Role role : {Role::softmax_max, Role::softmax_sum}) {
    if (!f[role]) return std::string(f.name(role)) + " is null";
    if (!statistics_fit(f, f[role])) return given(f, role);
  }
  return {};
}
std::string statistics_shape(const Facts& f) { return "ACL_FLOAT " + text(f.stats_shape()); }

Sentence outs(const Facts& f) {
  for (const Role role : {Role::dy, Role::attention_out})
    if (f[role]->dtype != f.dtype() || f[role]->shape != f.out_shape()) return given(f, role);
  return {};
}
std::string out_shape(const Facts& f) { return text(f.dtype()) + " " + text(f.out_shape()) + ", as attentionOut"; }

Sentence written_out(const Facts& f) {
  const Slot& out = f[Role::attention_out];
  return out->dtype == f.dtype() && out->shape == f.out_shape() ? Sentence() : Sentence(given(f, Role::attention_out));
}

struct Gradient {
  Role gradient, of;
};
constexpr Gradient kGradients[] = {{Role::dq, Role::query}, {Role::dk, Role::key}, {Role::dv, Role::value},
                                   {Role::dq_rope, Role::query_rope}, {Role::dk_rope, Role::key_rope}, {Role::dsink, Role::sink}};

Sentence missing_gradient(const Facts& f) {
  for (const auto& [gradient, of] : kGradients)
    if (f[of] && !f[gradient]) return std::string(f.name(gradient)) + " is null and " + f.name(of) + " is not";
  return {};
}

Sentence written_gradients(const Facts& f) {
  for (const auto& [gradient, of] : kGradients)
    if (f[of] && (f[gradient]->dtype != f[of]->dtype || f[gradient]->shape != f[of]->shape))
      return given(f, gradient) + "; " + f.name(of) + " has " + text(f[of]->dtype) + " " + text(f[of]->shape);
  return {};
}

Sentence overlap(const Facts& f) { return overlapping(f.r.slots); }
Sentence shared(const Facts& f) { return sharing(f.r.slots); }
Sentence aligned(const Facts& f) { return misaligned(f.r.slots); }

const Row kGradient[] = {
    {"gradient.outputs", 0, kTiling, out_shape, outs},
    {"gradient.statistics", 0, kTiling, statistics_shape, statistics},
};
const Row kOutputs[] = {
    {"output.attention", kValue, 0, out_shape, written_out},
    {"output.statistics", kValue, 0, statistics_shape, statistics},
    {"output.missing", 0, kNull, "a tensor", missing_gradient},
    {"output.gradients", 0, kValue, "the dtype and the shape of what it is the gradient of", written_gradients},
    {"output.overlap", kValue, kValue, "strides that give every element an address of its own, for it is written", overlap},
    {"output.address", kValue, kValue, "memory of its own, for it is written while the others are in use", shared},
    {"address.aligned", kValue, kValue, "addresses aligned to their dtype", aligned},
};

}  // namespace

std::span<const Row> gradient_rows() { return kGradient; }
std::span<const Row> output_rows() { return kOutputs; }

}  // namespace fusedattn::cann::score
