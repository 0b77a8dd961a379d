// What RingAttentionUpdate refuses in phase 1: one table, in order.
#include <algorithm>

#include "operators/ring/update.h"

namespace fusedattn::cann::ring {
namespace {

constexpr std::int64_t kLanes = 8, kOnChip = 192 * 1024;  // bytes that a device has for the heads of a token
constexpr int kNull = ACLNN_ERR_PARAM_NULLPTR, kValue = ACLNN_ERR_PARAM_INVALID, kTiling = ACLNN_ERR_INNER_TILING_ERROR;
constexpr Tensors kOuts[] = {kPrevOut, kCurOut, kOut}, kStatistics[] = {kPrevMax, kPrevSum, kCurMax, kCurSum, kMax, kSum};

std::string s(std::int64_t n) { return std::to_string(n); }

Sentence no_tensor(const Request& r) {
  for (std::size_t i = 0; i < kTensors; ++i)
    if (i != kLengths && !r.slots[i] && !r.slots[i].dead) return std::string(r.slots[i].name) + " is null; accepted: a tensor";
  return {};
}

Sentence dead(const Request& r) {
  for (const Slot& slot : r.slots)
    if (slot.dead) return std::string(slot.name) + " is no live aclTensor; accepted: what aclCreateTensor returned and nobody destroyed";
  return {};
}

Sentence no_layout(const Request& r) {
  return r.has_layout ? Sentence() : Sentence("inputLayoutOptional is null; accepted: SBH, TND");
}

std::string quoted(const std::optional<std::string>& text) {
  return text ? "'" + *text + "'" : "not terminated within 64 characters";
}

Sentence layout(const Request& r) {
  if (r.layout && (*r.layout == "SBH" || *r.layout == "TND")) return {};
  return "inputLayoutOptional is " + quoted(r.layout) + "; accepted: SBH, TND";
}

Sentence softmax_layout(const Request& r) {
  if (r.softmax_layout && (r.softmax_layout->empty() || *r.softmax_layout == "SBH" || *r.softmax_layout == "TND")) return {};
  return "inputSoftmaxLayoutOptional is " + quoted(r.softmax_layout) + "; accepted: '', SBH, TND";
}

Sentence no_lengths(const Request& r) {
  if (!r.packed() || r[kLengths]) return {};
  return "actualSeqQlenOptional is null; accepted with inputLayoutOptional TND: cumulative lengths with a leading 0, an ACL_INT64 tensor";
}

Sentence format(const Request& r) {
  for (const Slot& slot : r.slots)
    if (slot && (slot->format == ACL_FORMAT_FRACTAL_NZ || (strict() && slot->format != ACL_FORMAT_ND)))
      return std::string(slot.name) + " has format " + s(slot->format) + "; accepted: ACL_FORMAT_ND";
  return {};
}

Sentence out_dtype(const Request& r) {
  const aclDataType dtype = r[kPrevOut]->dtype;
  if (dtype != ACL_FLOAT16 && dtype != ACL_BF16 && dtype != ACL_FLOAT)
    return dtype_of(r[kPrevOut]) + "; accepted: ACL_FLOAT16, ACL_BF16, ACL_FLOAT";
  for (const Tensors which : kOuts)
    if (r[which]->dtype != dtype) return dtype_of(r[which]) + "; accepted: prevAttnOut's, " + text(dtype);
  return {};
}

Sentence stats_dtype(const Request& r) {
  for (const Tensors which : kStatistics)
    if (r[which]->dtype != ACL_FLOAT) return dtype_of(r[which]) + "; accepted: ACL_FLOAT";
  return {};
}

Sentence lengths_dtype(const Request& r) {
  return !r.packed() || r[kLengths]->dtype == ACL_INT64 ? Sentence() : dtype_of(r[kLengths]) + "; accepted: ACL_INT64";
}

const char* form(const Request& r, bool statistics) {
  if (statistics) return r.packed() ? "[T, N, 8]" : "[B, N, S, 8]";
  return r.packed() ? "[T, N, D]" : "[S, B, N * D]";
}

Sentence rank(const Request& r) {
  for (const Tensors which : kOuts)
    if (r[which]->rank() != 3) return shape_of(r[which]) + "; accepted: " + form(r, false);
  for (const Tensors which : kStatistics)
    if (r[which]->rank() != (r.packed() ? 3 : 4)) return shape_of(r[which]) + "; accepted: " + form(r, true);
  return {};
}

Sentence lengths_rank(const Request& r) {
  return !r.in_blocks() || r[kLengths]->rank() == 1 ? Sentence() : shape_of(r[kLengths]) + "; accepted: one dimension";
}

Sentence lanes(const Request& r) {
  if (r.stats_shape().back() == kLanes) return {};
  return shape_of(r[kPrevMax]) + "; accepted: a last dimension of 8, copies of one number";
}

Sentence empty(const Request& r) {
  for (std::size_t i = 0; i < kTensors; ++i)
    if (i != kLengths && r.slots[i]->empty()) return shape_of(r.slots[i]) + "; accepted: dimensions above 0";
  return {};
}

Sentence same(const Slot& slot, const Slot& like) {
  if (slot->shape == like->shape) return {};
  return shape_of(slot) + "; accepted: " + like.name + "'s, " + text(like->shape);
}
Sentence same_outs(const Request& r) {
  for (const Tensors which : kOuts)
    if (Sentence fault = same(r[which], r[kPrevOut])) return fault;
  return {};
}
Sentence same_statistics(const Request& r) {
  for (const Tensors which : kStatistics)
    if (Sentence fault = same(r[which], r[kPrevMax])) return fault;
  return {};
}

Sentence agreement(const Request& r) {
  const Dims &out = r.out_shape(), &stats = r.stats_shape();
  if (r.packed() ? stats[0] == out[0] && stats[1] == out[1] : stats[0] == out[1] && stats[2] == out[0]) return {};
  return shape_of(r[kPrevMax]) + "; accepted: " + form(r, true) + " beside prevAttnOut of " + text(out);
}

Sentence heads(const Request& r) {
  if (r.packed() || r.out_shape().back() % r.stats_shape()[1] == 0) return {};
  return shape_of(r[kPrevOut]) + "; accepted: a last dimension that is a multiple of prevSoftmaxMax's " + s(r.stats_shape()[1]) + " heads";
}

Sentence features(const Request& r) {
  if (!strict() || !r.packed() || r.out_shape().back() % 64 == 0) return {};
  return "prevAttnOut has head size " + s(r.out_shape().back()) + "; accepted: multiples of 64";
}

Sentence on_chip(const Request& r) {
  if (!strict() || !r.packed()) return {};
  const auto up = [](std::int64_t n) { return (n + 63) / 64 * 64; };
  const std::int64_t n = r.out_shape()[1], d = r.out_shape()[2], width = bytes_of(r[kPrevOut]->dtype);
  const std::int64_t needed = up(n * d) * (6 * width + 8) + up(n * kLanes) * 56;
  if (needed <= kOnChip) return {};
  return "prevAttnOut has " + s(n) + " heads of " + s(d) + ", which take " + s(needed) + " bytes on a device; accepted: at most " +
         s(kOnChip);
}

Sentence with(Sentence fault, const char* accepted) { return fault ? Sentence(*fault + "; accepted: " + accepted) : Sentence(); }

// Rows are independent: an output may lie exactly on the input of its kind.
bool may_share(const Slot& output, const Slot& other) {
  const auto kind = [](const Slot& slot) { return slot.source.parameter % 3; };
  return other.source.parameter < kLengths && kind(output) == kind(other) && !other.source.output && output->strides == other->strides;
}
Sentence overlap(const Request& r) { return with(overlapping(r.slots), "strides that give every element an address of its own"); }
Sentence shared(const Request& r) {
  return with(sharing(r.slots, may_share), "memory of its own, or exactly that of an input of its kind");
}
Sentence aligned(const Request& r) { return with(misaligned(r.slots), "addresses aligned to their dtype"); }

const Row kRows[] = {
    {"null.tensors", kNull, no_tensor},
    {"null.layout", kNull, no_layout},
    {"handle.alive", kValue, dead},
    {"layout.input", kValue, layout},
    {"layout.statistics", kValue, softmax_layout},
    {"null.lengths", kNull, no_lengths},
    {"dtype.attention", kValue, out_dtype},
    {"dtype.statistics", kValue, stats_dtype},
    {"dtype.lengths", kValue, lengths_dtype},
    {"format", kValue, format},
    {"shape.rank", kValue, rank},
    {"shape.lengths", kValue, lengths_rank},
    {"shape.lanes", kValue, lanes},
    {"shape.empty", kValue, empty},
    {"shape.attention", kValue, same_outs},
    {"shape.statistics", kValue, same_statistics},
    {"shape.agreement", kValue, agreement},
    {"shape.heads", kValue, heads},
    {"output.overlap", kValue, overlap},
    {"output.address", kValue, shared},
    {"address.aligned", kValue, aligned},
    {"strict.features", kTiling, features},
    {"strict.size", kTiling, on_chip},
};

}  // namespace

std::span<const Row> rows() { return kRows; }

Outcome check(const Request& request) {
  for (const Row& row : kRows)
    if (const Sentence sentence = row.violated(request))
      return {row.code, std::string(request.function) + ": " + *sentence + " [" + row.id + "]"};
  return {};
}

}  // namespace fusedattn::cann::ring
