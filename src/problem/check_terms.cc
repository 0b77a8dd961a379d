// Masks, bias, ALiBi, sink: what they must be.
#include "problem/check_terms.h"

#include "problem/check_memory.h"

namespace fusedattn {
namespace {

constexpr std::int64_t kFarthestStart = std::int64_t{1} << 52;  // sums with positions stay far from the end of 64 bits

Status check_prefix(const Problem& p) {
  if (p.mask.prefix == nullptr) return {};
  for (std::int64_t b = 0; b < p.batch; ++b) {
    const std::string which = "mask.prefix[" + text(b) + "]";
    if (p.mask.prefix[b] < 0) return refuse(which, p.mask.prefix[b], "0 or more columns");
    const Sequence seq = sequence(p, b);
    if (sight_of(p.mask, b, seq.q_len, seq.kv_len).band.left < kUnbounded / 2)
      return refuse(which, p.mask.prefix[b], "a prefix beside bands that are unbounded to the left");
  }
  return {};
}

// What only packed sequences have.
Status check_blocks(const Problem& p) {
  const char* name = p.mask.bytes.whole ? "mask.whole" : p.stats.blocks ? "stats.blocks" : p.bias.blocks ? "bias.blocks" : nullptr;
  if (p.packed() || name == nullptr) return {};
  return Status::invalid(std::string(name) + " is 1 and q_ends is NULL; accepted: 1 with packed sequences alone");
}

Status check_bytes(const Problem& p, const Lengths& longest) {
  const Bytes& bytes = p.mask.bytes;
  if (bytes.data == nullptr) return {};
  const Strides counts = bytes.whole ? Strides{1, p.q_heads, p.q_len} : Strides{p.batch, p.q_heads, longest.rows};
  return check_reach("mask", {bytes.batch_stride, bytes.head_stride, bytes.row_stride}, counts, bytes.whole ? p.kv_len : longest.cols, 1);
}

Status check_bias(const Problem& p, const Lengths& longest) {
  if (p.bias.data == nullptr) return {};
  if (p.bias.before_scale && p.softcap != 0.0f)
    return Status::invalid("bias.before_scale is 1 with a softcap; accepted: 0, a bias added to the capped scores");
  FUSEDATTN_CHECK(check_aligned("bias.data", p.bias.data, size_of(p.bias.dtype)));
  if (p.bias.blocks) return {};
  return check_reach("bias", {p.bias.batch_stride, p.bias.head_stride, p.bias.row_stride}, {p.batch, p.q_heads, longest.rows}, longest.cols,
                     size_of(p.bias.dtype));
}

Status check_alibi(const Problem& p) {
  if (p.alibi.slopes == nullptr) return {};
  FUSEDATTN_CHECK(check_aligned("alibi.slopes", p.alibi.slopes, alignof(float)));
  struct Start {
    const char* name;
    std::int64_t value;
  };
  for (const Start& start : {Start{"alibi.q_start", p.alibi.q_start}, Start{"alibi.kv_start", p.alibi.kv_start}})
    if (start.value < -kFarthestStart || start.value > kFarthestStart) return refuse(start.name, start.value, "-2^52 to 2^52");
  return check_reach("alibi", {p.alibi.batch_stride, p.alibi.head_stride, 0}, {p.batch, p.q_heads, 1}, 1, sizeof(float));
}

Status check_own(const char* name, const void* written, std::initializer_list<const void*> others) {
  for (const void* other : others)
    if (other != nullptr && other == written)
      return Status::invalid(std::string(name) + " is the address of another tensor; accepted: memory of its own, for it is written while the others are in use");
  return {};
}

// Written: one gradient for each element of the bias.
Status check_bias_gradient(const Problem& p) {
  if (p.bias.data == nullptr) return Status::invalid("bias.data is NULL and d_bias.data is not; accepted: the bias that the forward took");
  if (p.bias.blocks || p.bias.row_stride < 0)
    return Status::invalid("d_bias.data is not NULL with a bias in blocks or of negative row_stride; accepted: NULL, for its gradient is not computed");
  FUSEDATTN_CHECK(check_aligned("d_bias.data", p.d_bias.data, size_of(p.bias.dtype)));
  const Lengths longest = longest_of(p);
  const auto count = [](std::int64_t stride, std::int64_t size) { return stride == 0 ? 1 : size; };
  const Strides strides = {p.d_bias.batch_stride, p.d_bias.head_stride, p.d_bias.row_stride};
  const Strides counts = {count(p.bias.batch_stride, p.batch), count(p.bias.head_stride, p.q_heads), count(p.bias.row_stride, longest.rows)};
  FUSEDATTN_CHECK(check_reach("d_bias", strides, counts, longest.cols, size_of(p.bias.dtype)));
  return check_steps("d_bias", strides, counts, longest.cols);
}

}  // namespace

Status check_terms(const Problem& p) {
  const Lengths longest = longest_of(p);
  FUSEDATTN_CHECK(check_prefix(p));
  FUSEDATTN_CHECK(check_blocks(p));
  FUSEDATTN_CHECK(check_bytes(p, longest));
  FUSEDATTN_CHECK(check_bias(p, longest));
  FUSEDATTN_CHECK(check_alibi(p));
  return check_aligned("sink", p.sink, alignof(float));
}

Status check_term_gradients(const Problem& p, std::initializer_list<const std::byte*> others) {
  if (p.d_sink != nullptr && p.sink == nullptr) return Status::invalid("sink is NULL and d_sink is not; accepted: the sink that the forward took");
  FUSEDATTN_CHECK(check_aligned("d_sink", p.d_sink, alignof(float)));
  for (const std::byte* other : others) {
    if (p.d_bias.data != nullptr) FUSEDATTN_CHECK(check_own("d_bias.data", p.d_bias.data, {other}));
    if (p.d_sink != nullptr) FUSEDATTN_CHECK(check_own("d_sink", p.d_sink, {other}));
  }
  if (p.d_sink != nullptr)
    FUSEDATTN_CHECK(check_own("d_sink", p.d_sink, {p.sink, p.stats.max, p.stats.sum, p.bias.data, p.alibi.slopes, p.d_bias.data}));
  if (p.d_bias.data == nullptr) return {};
  FUSEDATTN_CHECK(check_own("d_bias.data", p.d_bias.data, {p.bias.data, p.sink, p.stats.max, p.stats.sum, p.alibi.slopes, p.mask.bytes.data, p.dropout.bits}));
  return check_bias_gradient(p);
}

}  // namespace fusedattn
