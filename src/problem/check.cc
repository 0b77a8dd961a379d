// Every reason for refusing a problem: the argument, its value, what is accepted.
#include "problem/check.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>

#define FUSEDATTN_CHECK(expression) \
  if (Status status = (expression); !status.ok()) return status

namespace fusedattn {
namespace {

constexpr std::int64_t kMostFeatures = 768, kMostKeyFeatures = 2 * kMostFeatures;  // a key may carry a rotary part beside its own
constexpr std::int64_t kMostRows = std::numeric_limits<std::int32_t>::max();

std::string text(std::int64_t n) { return std::to_string(n); }

Status refuse(const std::string& name, std::int64_t value, const std::string& accepted) {
  return Status::invalid(name + " is " + text(value) + "; accepted: " + accepted);
}

Status check_sizes(const Problem& p) {
  struct Size {
    const char* name;
    std::int64_t value, least, most;
  };
  for (const Size& size : {Size{"batch", p.batch, 0, kMostRows}, Size{"q_heads", p.q_heads, 1, kMostRows},
                           Size{"kv_heads", p.kv_heads, 1, kMostRows}, Size{"q_len", p.q_len, 0, kMostRows},
                           Size{"kv_len", p.kv_len, 0, kMostRows}, Size{"dim", p.dim, 1, kMostKeyFeatures},
                           Size{"dim_v", p.dim_v, 1, kMostFeatures}})
    if (size.value < size.least || size.value > size.most)
      return refuse(size.name, size.value, text(size.least) + " to " + text(size.most));
  if (p.q_heads % p.kv_heads != 0)
    return refuse("q_heads", p.q_heads, "a multiple of kv_heads, which is " + text(p.kv_heads));
  return {};
}

Status check_ends(const char* name, const std::int64_t* ends, std::int64_t batch, const char* length_name, std::int64_t length) {
  std::int64_t before = 0;
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::string which = std::string(name) + "[" + text(b) + "]";
    if (ends[b] < before) return refuse(which, ends[b], "at least " + text(before) + ", where the sequence before it ends");
    if (ends[b] > length) return refuse(which, ends[b], "at most " + std::string(length_name) + ", which is " + text(length));
    before = ends[b];
  }
  return {};
}

Status check_sequences(const Problem& p) {
  if ((p.q_ends == nullptr) != (p.kv_ends == nullptr))
    return Status::invalid(std::string(p.q_ends ? "kv_ends" : "q_ends") + " is NULL and " + (p.q_ends ? "q_ends" : "kv_ends") +
                           " is not; accepted: both (packed sequences) or neither");
  if (!p.packed()) return {};
  if (Status status = check_ends("q_ends", p.q_ends, p.batch, "q_len", p.q_len); !status.ok()) return status;
  return check_ends("kv_ends", p.kv_ends, p.batch, "kv_len", p.kv_len);
}

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

Status check_aligned(const char* name, const void* address, std::size_t unit) {
  if (reinterpret_cast<std::uintptr_t>(address) % unit == 0) return {};
  return Status::invalid(std::string(name) + " is not a multiple of " + text(static_cast<std::int64_t>(unit)) + " bytes; accepted: an address aligned to its dtype");
}

struct NamedView {
  const char* name;
  const View& view;
  std::int64_t heads, rows, width;
};

// Element offsets must fit 64 bits even in bytes.
Status check_reach(const Problem& p, const NamedView& tensor) {
  const auto reach = [](std::int64_t stride, std::int64_t count) {
    return std::fabs(static_cast<double>(stride)) * static_cast<double>(count > 0 ? count - 1 : 0);
  };
  const double elements = reach(tensor.view.batch_stride, p.packed() ? 1 : p.batch) + reach(tensor.view.head_stride, tensor.heads) +
                          reach(tensor.view.row_stride, tensor.rows) + static_cast<double>(tensor.width);
  if (elements * static_cast<double>(size_of(p.dtype)) < 9.0e18) return {};
  return Status::invalid(std::string(tensor.name) + " has strides (" + text(tensor.view.batch_stride) + ", " +
                         text(tensor.view.head_stride) + ", " + text(tensor.view.row_stride) +
                         ") that reach past the address space; accepted: strides of an existing tensor");
}

bool is_empty(const Problem& p, const NamedView& tensor) { return p.batch == 0 || tensor.rows == 0; }

Status check_present(const Problem& p, const NamedView& tensor) {
  if (is_empty(p, tensor)) return {};
  if (tensor.view.data == nullptr) return Status::invalid(std::string(tensor.name) + ".data is NULL; accepted: the address of its first element");
  if (reinterpret_cast<std::uintptr_t>(tensor.view.data) % size_of(p.dtype) != 0)
    return Status::invalid(std::string(tensor.name) + ".data is not a multiple of " + text(static_cast<std::int64_t>(size_of(p.dtype))) +
                           " bytes; accepted: an address aligned to its dtype, " + name_of(p.dtype));
  return check_reach(p, tensor);
}

// Elements of what is written must not lie on one another: sorted by size, each stride steps over all that the smaller ones reach.
Status check_steps(const std::string& name, std::array<std::int64_t, 3> strides, std::array<std::int64_t, 3> counts, std::int64_t width) {
  constexpr const char* kNames[] = {"batch_stride", "head_stride", "row_stride"};
  std::array<std::size_t, 3> order = {0, 1, 2};
  const auto size = [&](std::size_t i) { return std::fabs(static_cast<double>(strides[i])); };
  std::sort(order.begin(), order.end(), [&](std::size_t i, std::size_t j) { return size(i) < size(j); });
  double reach = static_cast<double>(width);
  for (const std::size_t i : order) {
    if (counts[i] <= 1) continue;
    if (size(i) < reach)
      return refuse(name + "." + kNames[i], strides[i],
                    "at least " + text(static_cast<std::int64_t>(reach)) + " beside the other strides, for it is written and must not overlap itself");
    reach += size(i) * static_cast<double>(counts[i] - 1);
  }
  return {};
}

Status check_writable(const Problem& p, const NamedView& tensor) {
  if (is_empty(p, tensor)) return {};
  const View& view = tensor.view;
  return check_steps(tensor.name, {view.batch_stride, view.head_stride, view.row_stride},
                     {p.packed() ? 1 : p.batch, tensor.heads, tensor.rows}, tensor.width);
}

Status check_distinct(const Problem& p, const NamedView& output, std::initializer_list<NamedView> others) {
  if (is_empty(p, output)) return {};
  for (const NamedView& other : others)
    if (output.view.data == other.view.data && !is_empty(p, other) && output.view.data != nullptr)
      return Status::invalid(std::string(output.name) + ".data is the address of " + other.name +
                             "; accepted: memory of its own, for it is written while " + other.name + " is in use");
  return {};
}

// Written by the forward, if wanted; read by the backward.
Status check_stats(const Problem& p, Direction direction) {
  if (p.batch == 0 || p.q_len == 0) return {};
  const bool both = p.stats.max != nullptr && p.stats.sum != nullptr;
  if (direction == Direction::backward && !both)
    return Status::invalid(std::string(p.stats.max == nullptr ? "stats.max" : "stats.sum") +
                           " is NULL; accepted: the statistics that the forward wrote");
  if (p.stats.lanes < 1 || p.stats.lanes > 64) return refuse("stats.lanes", p.stats.lanes, "1 to 64 copies");
  for (const float* data : {p.stats.max, p.stats.sum})
    if (reinterpret_cast<std::uintptr_t>(data) % alignof(float) != 0)
      return Status::invalid(std::string(data == p.stats.max ? "stats.max" : "stats.sum") +
                             " is not a multiple of 4 bytes; accepted: an address aligned to float32");
  if (direction == Direction::backward || (p.stats.max == nullptr && p.stats.sum == nullptr)) return {};
  if (both && p.stats.max == p.stats.sum) return Status::invalid("stats.sum is the address of stats.max; accepted: memory of its own, for both are written");
  if (p.stats.blocks) return {};
  return check_steps("stats", {p.stats.batch_stride, p.stats.head_stride, p.stats.row_stride}, {p.packed() ? 1 : p.batch, p.q_heads, p.q_len}, p.stats.lanes);
}

// Written: one gradient for each element of the bias.
Status check_bias_gradient(const Problem& p) {
  if (p.d_sink != nullptr && p.sink == nullptr) return Status::invalid("sink is NULL and d_sink is not; accepted: the sink that the forward took");
  FUSEDATTN_CHECK(check_aligned("d_sink", p.d_sink, alignof(float)));
  if (p.d_bias.data == nullptr) return {};
  if (p.bias.data == nullptr) return Status::invalid("bias.data is NULL and d_bias.data is not; accepted: the bias that the forward took");
  if (p.bias.blocks || p.bias.row_stride < 0)
    return Status::invalid("d_bias.data is not NULL with a bias in blocks or of negative row_stride; accepted: NULL, for its gradient is not computed");
  FUSEDATTN_CHECK(check_aligned("d_bias.data", p.d_bias.data, size_of(p.bias.dtype)));
  const auto count = [](std::int64_t stride, std::int64_t size) { return stride == 0 ? 1 : size; };
  std::int64_t rows = 0, cols = 0;
  for (std::int64_t b = 0; b < p.batch; ++b)
    rows = std::max(rows, sequence(p, b).q_len), cols = std::max(cols, sequence(p, b).kv_len);
  return check_steps("d_bias", {p.d_bias.batch_stride, p.d_bias.head_stride, p.d_bias.row_stride},
                     {count(p.bias.batch_stride, p.batch), count(p.bias.head_stride, p.q_heads), count(p.bias.row_stride, rows)}, cols);
}

NamedView query_side(const Problem& p, const char* name, const View& view, std::int64_t width) {
  return {name, view, p.q_heads, p.q_len, width};
}
NamedView key_side(const Problem& p, const char* name, const View& view, std::int64_t width) {
  return {name, view, p.kv_heads, p.kv_len, width};
}

Status check_inputs(const Problem& p) {
  FUSEDATTN_CHECK(check_sizes(p));
  FUSEDATTN_CHECK(check_sequences(p));
  FUSEDATTN_CHECK(check_prefix(p));
  FUSEDATTN_CHECK(check_blocks(p));
  FUSEDATTN_CHECK(check_aligned("bias.data", p.bias.data, size_of(p.bias.dtype)));
  FUSEDATTN_CHECK(check_aligned("alibi.slopes", p.alibi.slopes, alignof(float)));
  FUSEDATTN_CHECK(check_aligned("sink", p.sink, alignof(float)));
  FUSEDATTN_CHECK(check_present(p, query_side(p, "q", p.q, p.dim)));
  FUSEDATTN_CHECK(check_present(p, key_side(p, "k", p.k, p.dim)));
  FUSEDATTN_CHECK(check_present(p, key_side(p, "v", p.v, p.dim_v)));
  return check_present(p, query_side(p, "out", p.out, p.dim_v));
}

}  // namespace

Status check_forward(const Problem& p) {
  FUSEDATTN_CHECK(check_inputs(p));
  const NamedView out = query_side(p, "out", p.out, p.dim_v);
  FUSEDATTN_CHECK(check_writable(p, out));
  FUSEDATTN_CHECK(check_distinct(p, out, {query_side(p, "q", p.q, p.dim), key_side(p, "k", p.k, p.dim), key_side(p, "v", p.v, p.dim_v)}));
  return check_stats(p, Direction::forward);
}

Status check_backward(const Problem& p) {
  FUSEDATTN_CHECK(check_inputs(p));
  const NamedView q = query_side(p, "q", p.q, p.dim), k = key_side(p, "k", p.k, p.dim), v = key_side(p, "v", p.v, p.dim_v);
  const NamedView out = query_side(p, "out", p.out, p.dim_v), d_out = query_side(p, "d_out", p.d_out, p.dim_v);
  const NamedView dq = query_side(p, "dq", p.dq, p.dim), dk = key_side(p, "dk", p.dk, p.dim), dv = key_side(p, "dv", p.dv, p.dim_v);
  FUSEDATTN_CHECK(check_present(p, d_out));
  FUSEDATTN_CHECK(check_stats(p, Direction::backward));
  for (const NamedView* gradient : {&dq, &dk, &dv}) {
    if (gradient->view.data == nullptr) continue;
    FUSEDATTN_CHECK(check_present(p, *gradient));
    FUSEDATTN_CHECK(check_writable(p, *gradient));
    FUSEDATTN_CHECK(check_distinct(p, *gradient, {q, k, v, out, d_out}));
  }
  FUSEDATTN_CHECK(check_distinct(p, dq, {dk, dv}));
  FUSEDATTN_CHECK(check_distinct(p, dk, {dv}));
  return check_bias_gradient(p);
}

}  // namespace fusedattn
