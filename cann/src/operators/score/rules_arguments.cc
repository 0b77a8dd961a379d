// Constraints: what is missing, the layout, ranks, dtypes, head sizes.
#include "operators/score/constraints.h"

namespace fusedattn::cann::score {
namespace {

std::string is_null(const char* name) { return std::string(name) + " is null"; }

Sentence first_null(const Facts& f, std::initializer_list<Role> roles) {
  for (const Role role : roles)
    if (!f[role] && !f[role].dead) return is_null(f.name(role));
  return {};
}

Sentence inputs(const Facts& f) { return first_null(f, {Role::query, Role::key, Role::value}); }
Sentence gradient(const Facts& f) { return first_null(f, {Role::dy, Role::attention_out}); }
Sentence outputs(const Facts& f) {
  if (f.backward) return first_null(f, {Role::dq, Role::dk, Role::dv});
  return first_null(f, {Role::softmax_max, Role::softmax_sum, Role::attention_out});
}
Sentence no_layout(const Facts& f) { return f.r.given.input_layout == nullptr ? Sentence(is_null("inputLayout")) : Sentence(); }

Sentence dead(const Facts& f) {
  for (const std::span<const Slot> slots : {std::span<const Slot>(f.r.slots), std::span<const Slot>(f.r.unused)})
    for (const Slot& slot : slots)
      if (slot.dead) return std::string(slot.name) + " is no live aclTensor";
  if (f.r.dead_list != nullptr) return std::string(f.r.dead_list) + " is no live aclIntArray";
  return {};
}

std::string quoted(const std::optional<std::string>& text) {
  return text ? "'" + *text + "'" : "not terminated within 64 characters";
}

Sentence packed_alone(const Facts& f) {
  if (!f.r.given.packed_alone || f.packed) return {};
  return "inputLayout is " + quoted(f.r.layout);
}

Sentence known_layout(const Facts& f) {
  if (f.r.layout)
    for (const char* known : {"BSH", "SBH", "BSND", "BNSD", "TND"})
      if (*f.r.layout == known) return {};
  return "inputLayout is " + quoted(f.r.layout);
}

// The interfaces without sequence lists cannot be told where packed sequences end.
Sentence packed_without_lists(const Facts& f) {
  if (!f.packed || f.r.given.packed_alone || f.r.given.unified) return {};
  return std::string("inputLayout is 'TND', which ") + f.r.given.function + " has no sequence lengths for";
}

Sentence rank(const Facts& f) {
  for (const Role role : {Role::query, Role::key, Role::value})
    if (f[role]->shape.size() != f.layout().size()) return f.shape(role);
  return {};
}
std::string ranks(const Facts& f) { return f.layout() + " needs as many dimensions as it has letters"; }

Sentence float_dtype(const Facts& f) {
  if (f.dtype() == ACL_FLOAT16 || f.dtype() == ACL_BF16 || f.dtype() == ACL_FLOAT) return {};
  return dtype_of(f[Role::query]);
}

Sentence one_dtype(const Facts& f) {
  for (const Role role : {Role::key, Role::value})
    if (f[role]->dtype != f.dtype()) return dtype_of(f[role]);
  return {};
}
std::string queries_dtype(const Facts& f) { return "query's, " + text(f.dtype()); }

Sentence pse_dtype(const Facts& f) {
  const Slot& pse = f[Role::real_shift];
  return !pse || f.inner_pse || pse->dtype == f.dtype() ? Sentence() : Sentence(dtype_of(pse));
}

Sentence slopes_dtype(const Facts& f) {
  const Slot& pse = f[Role::real_shift];
  if (!f.inner_pse || (pse && pse->dtype == ACL_FLOAT)) return {};
  const std::string given = pse ? dtype_of(pse) : is_null(pse.name);
  return given + " with pseType " + std::to_string(f.r.given.pse_type);
}

Sentence dequantised(const Facts& f) {
  for (const Slot& slot : f.r.unused)
    if (slot && std::string(slot.name).rfind("dScale", 0) == 0) return std::string(slot.name) + " is given";
  return {};
}

// Documented to count with quantised inputs alone: 0 FLOAT16, 1 BFLOAT16.
Sentence out_dtype(const Facts& f) {
  const std::int64_t given = f.r.given.out_dtype;
  if (given == 0 || (given == 1 && (!strict() || f.dtype() == ACL_BF16))) return {};
  return "outDtype is " + std::to_string(given);
}

Sentence positive_heads(const Facts& f) {
  if (f.r.given.head_num > 0) return {};
  return "headNum is " + std::to_string(f.r.given.head_num);
}

Sentence folded_features(const Facts& f) {
  return f.folded && f.D() == 0 ? Sentence(f.shape(Role::query) + ", head size 0") : Sentence();
}

Sentence features(const Facts& f, Role role, std::int64_t size) {
  return std::string(f.name(role)) + " has head size " + std::to_string(size);
}
Sentence key_features(const Facts& f) { return f.key_D() == f.D() ? Sentence() : features(f, Role::key, f.key_D()); }
Sentence value_features(const Facts& f) { return f.Dv() <= f.D() ? Sentence() : features(f, Role::value, f.Dv()); }
Sentence most_features(const Facts& f) { return f.D() <= 768 ? Sentence() : features(f, Role::query, f.D()); }
std::string queries_features(const Facts& f) { return "query's, " + std::to_string(f.D()); }
std::string at_most_features(const Facts& f) { return "at most key's, " + std::to_string(f.D()); }

Sentence softmax_layout(const Facts& f) {
  const auto& layout = f.r.softmax_layout;
  if (layout && (layout->empty() || *layout == "same_as_input")) return {};
  return "softmaxInLayout is " + quoted(f.r.softmax_layout);
}

const Row kPresence[] = {
    {"null.inputs", kNull, kNull, "a tensor", inputs},
    {"null.gradient", 0, kNull, "a tensor", gradient},
    {"null.outputs", kNull, kNull, "a tensor", outputs},
    {"null.layout", kNull, kNull, "a layout's name", no_layout},
    {"handle.alive", kValue, kValue, "what aclCreateTensor or aclCreateIntArray returned and nobody destroyed", dead},
};
const Row kArguments[] = {
    {"layout.packed", kValue, kValue, "TND", packed_alone},
    {"layout.known", kValue, kValue, "BSH, SBH, BSND, BNSD, TND", known_layout},
    {"layout.lists", kTiling, kTiling, "BSH, SBH, BSND, BNSD", packed_without_lists},
    {"layout.rank", kValue, kValue, ranks, rank},
    {"dtype.float", kValue, kValue, "ACL_FLOAT16, ACL_BF16, ACL_FLOAT", float_dtype},
    {"dtype.same", kValue, kTiling, queries_dtype, one_dtype},
    {"dtype.pse", kValue, kTiling, queries_dtype, pse_dtype},
    {"dtype.slopes", kValue, kValue, "a tensor of ACL_FLOAT slopes", slopes_dtype},
    {"quantised.scales", kKernel, kKernel, "null, for quantised inputs are not computed", dequantised},
    {"quantised.dtype", kKernel, kKernel, "0, and 1 where it changes nothing", out_dtype},
    {"heads.positive", kValue, kValue, "integers above 0", positive_heads},
    {"features.folded", 0, kValue, "a head size of 1 to 768", folded_features},
    {"features.key", kValue, kValue, queries_features, key_features},
    {"features.value", kValue, kValue, at_most_features, value_features},
    {"features.most", kValue, kTiling, "1 to 768", most_features},
    {"statistics.layout", 0, kValue, "'' and 'same_as_input'", softmax_layout},
};

}  // namespace

std::span<const Row> presence_rows() { return kPresence; }
std::span<const Row> argument_rows() { return kArguments; }

}  // namespace fusedattn::cann::score
