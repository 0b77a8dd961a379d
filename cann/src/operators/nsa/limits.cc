// What NsaCompress and NsaCompressGrad refuse: one table, in order.
#include <algorithm>

#include "operators/nsa/compress.h"

namespace fusedattn::cann::nsa {
namespace {

constexpr std::int64_t kMostHeads = 128, kMostDim = 256, kMostBlock = 128, kStep = 16;
constexpr int kNull = ACLNN_ERR_PARAM_NULLPTR, kValue = ACLNN_ERR_PARAM_INVALID;

std::string s(std::int64_t n) { return std::to_string(n); }

Sentence no_tensor(const Request& r) {
  for (const Slot& slot : r.slots)
    if (!slot && !slot.dead) return std::string(slot.name) + " is null; accepted: a tensor";
  return {};
}

Sentence no_lengths(const Request& r) {
  if (r.backward || r.lengths_handle != nullptr) return {};
  return std::string(r.lengths_name) + " is null; accepted: a list of cumulative lengths, one per sequence";
}

Sentence dead(const Request& r) {
  for (const Slot& slot : r.slots)
    if (slot.dead) return std::string(slot.name) + " is no live aclTensor; accepted: what aclCreateTensor returned and nobody destroyed";
  if (r.lengths_handle != nullptr && !r.lengths)
    return std::string(r.lengths_name) + " is no live aclIntArray; accepted: what aclCreateIntArray returned and nobody destroyed";
  return {};
}

Sentence some_lengths(const Request& r) {
  if (!r.lengths || !r.lengths->empty()) return {};
  return std::string(r.lengths_name) + " is empty; accepted: at least one length";
}

Sentence dtype(const Request& r) {
  for (const Slot& slot : r.slots)
    if (slot->dtype != ACL_FLOAT16 && slot->dtype != ACL_BF16 && (slot->dtype != ACL_FLOAT || strict()))
      return dtype_of(slot) + "; accepted: ACL_FLOAT16, ACL_BF16" + (strict() ? "" : " and, beyond devices, ACL_FLOAT");
  return {};
}

Sentence one_dtype(const Request& r) {
  for (const Slot& slot : r.slots)
    if (slot->dtype != r[kInput]->dtype) return dtype_of(slot) + "; accepted: input's, " + text(r[kInput]->dtype);
  return {};
}

Sentence rank(const Request& r) {
  for (std::size_t i = 0; i < r.slots.size(); ++i) {
    const bool matrix = i == kWeight || i == kGradWeight;
    if (r.slots[i]->rank() != (matrix ? 2 : 3))
      return shape_of(r.slots[i]) + "; accepted: " + (matrix ? "[block, N]" : "three dimensions, [T, N, D]");
  }
  return {};
}

Sentence empty(const Request& r) {
  if (!r[kInput]->empty()) return {};
  return shape_of(r[kInput]) + "; accepted: T, N and D of at least 1";
}

Sentence layout(const Request& r) {
  if (r.layout && *r.layout == "TND") return {};
  const std::string given = r.layout ? "'" + *r.layout + "'" : "null or unterminated";
  return std::string(r.backward ? "layoutOptionalOptional" : "layoutOptional") + " is " + given + "; accepted: TND";
}

Sentence length_type(const Request& r) {
  if (r.length_type == 0 || (r.backward && r.length_type == 1)) return {};
  return "actSeqLenType is " + s(r.length_type) + "; accepted: 0, cumulative" + (r.backward ? ", and 1, lengths" : "");
}

std::string steps(std::int64_t most) { return "; accepted: multiples of 16 from 16 to " + s(most); }
Sentence block(const Request& r) {
  if (kStep <= r.block && r.block <= kMostBlock && r.block % kStep == 0) return {};
  return "compressBlockSize is " + s(r.block) + steps(kMostBlock);
}
Sentence stride(const Request& r) {
  if (kStep <= r.stride && r.stride <= r.block && r.stride % kStep == 0) return {};
  return "compressStride is " + s(r.stride) + steps(r.block) + ", compressBlockSize";
}

Sentence weight(const Request& r) {
  const Dims wanted = {r.block, r.heads()};
  return r[kWeight]->shape == wanted ? Sentence() : shape_of(r[kWeight]) + "; accepted: " + text(wanted) + ", [compressBlockSize, N]";
}

Sentence dim(const Request& r) {
  return r.dim() % kStep == 0 ? Sentence() : "input has head size D = " + s(r.dim()) + "; accepted: multiples of 16";
}
Sentence most_dim(const Request& r) {
  return !strict() || r.dim() <= kMostDim ? Sentence() : "input has head size D = " + s(r.dim()) + "; accepted: at most 256";
}
Sentence most_heads(const Request& r) {
  return !strict() || r.heads() <= kMostHeads ? Sentence() : "input has N = " + s(r.heads()) + " heads; accepted: at most 128";
}

std::string lengths_are(const Request& r) { return std::string(r.lengths_name) + " is " + text(*r.lengths); }

Sentence rising(const Request& r) {
  if (!r.lengths) return {};
  std::int64_t before = 0, total = 0;
  for (const std::int64_t length : *r.lengths) {
    const bool overflows = __builtin_add_overflow(total, length, &total);
    if (length < 0 || overflows || (r.length_type == 0 && length < before))
      return lengths_are(r) + "; accepted: " + (r.length_type == 0 ? "cumulative lengths, which never decrease" : "lengths from 0 on");
    if (r.length_type == 0) total = 0;
    before = length;
  }
  return {};
}

Sentence all_tokens(const Request& r) {
  if (r.ends().back() == r.tokens()) return {};
  return lengths_are(r) + ", which ends with " + s(r.ends().back()) + "; accepted: an end at T = " + s(r.tokens()) + ", input's tokens";
}

Sentence output(const Request& r) {
  if (r[kOutput]->shape == r.output_shape()) return {};
  return shape_of(r[kOutput]) + "; accepted: " + text(r.output_shape()) + ", a row for every window";
}

Sentence gradients(const Request& r) {
  if (!r.backward) return {};
  for (const auto& [gradient, of] : {std::pair{kGradInput, kInput}, std::pair{kGradWeight, kWeight}})
    if (r[gradient]->shape != r[of]->shape)
      return shape_of(r[gradient]) + "; accepted: " + r[of].name + "'s, " + text(r[of]->shape);
  return {};
}

Sentence with(Sentence fault, const char* accepted) { return fault ? Sentence(*fault + "; accepted: " + accepted) : Sentence(); }
Sentence overlap(const Request& r) { return with(overlapping(r.slots), "strides that give every element an address of its own"); }
Sentence shared(const Request& r) { return with(sharing(r.slots), "memory of its own, for it is written"); }
Sentence aligned(const Request& r) { return with(misaligned(r.slots), "addresses aligned to their dtype"); }

const Row kRows[] = {
    {"null.tensors", kNull, no_tensor},
    {"null.lengths", kNull, no_lengths},
    {"handle.alive", kValue, dead},
    {"lengths.some", kValue, some_lengths},
    {"dtype.float", kValue, dtype},
    {"dtype.same", kValue, one_dtype},
    {"shape.rank", kValue, rank},
    {"shape.empty", kValue, empty},
    {"layout", kValue, layout},
    {"lengths.type", kValue, length_type},
    {"block", kValue, block},
    {"stride", kValue, stride},
    {"shape.weight", kValue, weight},
    {"shape.features", kValue, dim},
    {"strict.features", kValue, most_dim},
    {"strict.heads", kValue, most_heads},
    {"lengths.rising", kValue, rising},
    {"lengths.total", kValue, all_tokens},
    {"output.shape", kValue, output},
    {"output.gradients", kValue, gradients},
    {"output.overlap", kValue, overlap},
    {"output.address", kValue, shared},
    {"address.aligned", kValue, aligned},
};

}  // namespace

std::span<const Row> rows() { return kRows; }

Outcome check(const Request& request) {
  for (const Row& row : kRows)
    if (const Sentence sentence = row.violated(request))
      return {row.code, std::string(request.function) + ": " + *sentence + " [" + row.id + "]"};
  return {};
}

}  // namespace fusedattn::cann::nsa
