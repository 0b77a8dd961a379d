// Every reason for refusing a problem: the argument, its value, what is accepted.
#include "problem/check.h"

#include "problem/check_memory.h"
#include "problem/check_terms.h"

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <limits>

namespace fusedattn {
namespace {

constexpr std::int64_t kMostFeatures = 768, kMostKeyFeatures = 2 * kMostFeatures;  // a key may carry a rotary part beside its own
constexpr std::int64_t kMostRows = std::numeric_limits<std::int32_t>::max();

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

struct NamedView {
  const char* name;
  const View& view;
  std::int64_t heads, rows, width;
};

Strides strides_of(const View& view) { return {view.batch_stride, view.head_stride, view.row_stride}; }
Strides counts_of(const Problem& p, const NamedView& tensor) { return {p.packed() ? 1 : p.batch, tensor.heads, tensor.rows}; }

bool is_empty(const Problem& p, const NamedView& tensor) { return p.batch == 0 || tensor.rows == 0; }

Status check_present(const Problem& p, const NamedView& tensor) {
  if (is_empty(p, tensor)) return {};
  if (tensor.view.data == nullptr) return Status::invalid(std::string(tensor.name) + ".data is NULL; accepted: the address of its first element");
  if (reinterpret_cast<std::uintptr_t>(tensor.view.data) % size_of(p.dtype) != 0)
    return Status::invalid(std::string(tensor.name) + ".data is not a multiple of " + text(static_cast<std::int64_t>(size_of(p.dtype))) +
                           " bytes; accepted: an address aligned to its dtype, " + name_of(p.dtype));
  return check_reach(tensor.name, strides_of(tensor.view), counts_of(p, tensor), tensor.width, size_of(p.dtype));
}

Status check_writable(const Problem& p, const NamedView& tensor) {
  if (is_empty(p, tensor)) return {};
  return check_steps(tensor.name, strides_of(tensor.view), counts_of(p, tensor), tensor.width);
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
  const Strides strides = {p.stats.batch_stride, p.stats.head_stride, p.stats.row_stride}, counts = {p.packed() ? 1 : p.batch, p.q_heads, p.q_len};
  if (!p.stats.blocks) FUSEDATTN_CHECK(check_reach("stats", strides, counts, p.stats.lanes, sizeof(float)));
  for (const float* data : {p.stats.max, p.stats.sum})
    if (reinterpret_cast<std::uintptr_t>(data) % alignof(float) != 0)
      return Status::invalid(std::string(data == p.stats.max ? "stats.max" : "stats.sum") +
                             " is not a multiple of 4 bytes; accepted: an address aligned to float32");
  if (direction == Direction::backward || (p.stats.max == nullptr && p.stats.sum == nullptr)) return {};
  if (both && p.stats.max == p.stats.sum) return Status::invalid("stats.sum is the address of stats.max; accepted: memory of its own, for both are written");
  return p.stats.blocks ? Status{} : check_steps("stats", strides, counts, p.stats.lanes);
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
  FUSEDATTN_CHECK(check_terms(p));
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
  return check_term_gradients(p, {q.view.data, k.view.data, v.view.data, out.view.data, d_out.view.data, dq.view.data, dk.view.data, dv.view.data});
}

}  // namespace fusedattn
