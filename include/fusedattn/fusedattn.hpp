// fusedattn.hpp: the C API for C++20: aggregates with defaults, spans, plans that free themselves, exceptions.
//
//   std::vector<float> q(2 * 8 * 512 * 64), k(q), v(q), out(q.size());   // [batch, head, row, feature], filled by you
//   fusedattn::forward({.batch = 2, .q_heads = 8, .q_len = 512, .kv_len = 512, .dim = 64,
//                       .mask = fusedattn::causal(),
//                       .q = fusedattn::bnsd(std::span{q}, 8, 512, 64),
//                       .k = fusedattn::bnsd(std::span{k}, 8, 512, 64),
//                       .v = fusedattn::bnsd(std::span{v}, 8, 512, 64),
//                       .out = fusedattn::bnsd(std::span{out}, 8, 512, 64)});
//
// The fields and the formulas are explained in fusedattn.h. What the C API refuses is thrown as fusedattn::error.
// Header only: link with fusedattn::attn.
#ifndef FUSEDATTN_FUSEDATTN_HPP
#define FUSEDATTN_FUSEDATTN_HPP
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "fusedattn/fusedattn.h"

static_assert(__cplusplus >= 202002L, "fusedattn.hpp is a C++20 header: compile with -std=c++20 or newer");
namespace fusedattn {
// Inline, so that these names never share a symbol with the library's own when it is linked statically.
inline namespace cpp {

// A refusal: its status, and in what() the sentence of fusedattn_last_error().
class error : public std::runtime_error {
 public:
  error(fusedattn_status status, const std::string& sentence) : std::runtime_error(sentence), status_(status) {}
  fusedattn_status status() const noexcept { return status_; }

 private:
  fusedattn_status status_;
};

enum class dtype : std::int32_t {
  float32 = FUSEDATTN_FLOAT32,
  bfloat16 = FUSEDATTN_BFLOAT16,
  float16 = FUSEDATTN_FLOAT16
};
enum class direction : std::int32_t { forward = FUSEDATTN_FORWARD, backward = FUSEDATTN_BACKWARD };
enum class nonzero : std::int32_t { hides = FUSEDATTN_NONZERO_HIDES, shows = FUSEDATTN_NONZERO_SHOWS };

inline constexpr std::int64_t unbounded = FUSEDATTN_UNBOUNDED;

using view = fusedattn_view;        // data and strides of a tensor, seen as [sequence, head, row, feature]
using stats = fusedattn_stats;      // max and sum of every row, float32
using bias = fusedattn_bias;        // added to the scores, a tensor seen as [sequence, head, row, column]
using alibi = fusedattn_alibi;      // added to the scores, a slope times the distance of row and column
using partial = fusedattn_partial;  // attention over some of the columns: what merge() joins

struct band {
  std::int64_t left = unbounded;
  std::int64_t right = unbounded;
};

struct mask {
  band top_left{};
  band bottom_right{};
  std::span<const fusedattn_band> bands{};  // one more for each sequence, from the top left
  std::span<const std::int64_t> prefix{};   // for each sequence, the columns that every row sees
  const std::uint8_t* bytes = nullptr;
  std::int64_t batch_stride = 0;
  std::int64_t head_stride = 0;
  std::int64_t row_stride = 0;
  nonzero meaning = nonzero::hides;
  bool whole = false;  // packed: the bytes lie over the packed tensors
};

struct dropout {
  double keep_prob = 1.0;
  const std::uint8_t* bits = nullptr;  // not given: the stream of seed and offset
  std::uint64_t seed = 0;
  std::uint64_t offset = 0;
};

struct problem {
  fusedattn::dtype dtype = fusedattn::dtype::float32;
  std::int64_t batch = 1;
  std::int64_t q_heads = 1;
  std::optional<std::int64_t> kv_heads{};  // not given: q_heads
  std::int64_t q_len = 0;
  std::int64_t kv_len = 0;
  std::int64_t dim = 0;
  std::optional<std::int64_t> dim_v{};     // not given: dim
  std::span<const std::int64_t> q_ends{};  // packed: batch cumulative ends, in both
  std::span<const std::int64_t> kv_ends{};
  std::optional<double> scale{};  // not given: 1/sqrt(dim)
  double softcap = 0.0;           // 0: none
  fusedattn::mask mask{};
  fusedattn::bias bias{};
  fusedattn::alibi alibi{};
  fusedattn::dropout dropout{};
  const float* sink = nullptr;  // one for each query head
  view q{};
  view k{};
  view v{};
  view out{};
  fusedattn::stats stats{};
  bool foreign_stats = false;  // backward: they need not be those of these scores
  view d_out{};
  view dq{};
  view dk{};
  view dv{};
  view d_bias{};
  float* d_sink = nullptr;
};

struct options {
  const char* lane = nullptr;  // not given: the best this machine runs
  std::int32_t threads = 0;    // 0: as many as the library finds
  fusedattn_parallel parallel = nullptr;
  void* parallel_context = nullptr;
};

struct merge_problem {
  fusedattn::dtype dtype = fusedattn::dtype::float32;
  std::int64_t batch = 1;
  std::int64_t heads = 1;
  std::int64_t rows = 0;
  std::int64_t dim_v = 0;
  std::span<const partial> parts{};
  partial result{};                        // may be one of the parts
  std::span<const std::int64_t> q_ends{};  // packed: where each sequence ends; rows past the last are one more
  bool formula = false;                    // rows without meaning: the bare formula, instead of what fusedattn.h says of safe
  bool log_sum_exp = false;                // the statistics are max alone, and hold max + log(sum)
};

// Row i sees the columns up to the diagonal that ends at the last row and column.
inline mask causal() { return {.bottom_right = {.right = 0}}; }

// Row i sees left columns before that diagonal and right columns after it.
inline mask window(std::int64_t left, std::int64_t right) { return {.bottom_right = {.left = left, .right = right}}; }

namespace detail {

inline void require(fusedattn_status status) {
  if (status != FUSEDATTN_OK) throw error(status, fusedattn_last_error());
}

[[noreturn]] inline void refuse(const std::string& sentence) { throw error(FUSEDATTN_INVALID_ARGUMENT, sentence); }

inline void require_whole(std::size_t size, std::int64_t heads, std::int64_t rows, std::int64_t features) {
  const std::string shape = std::to_string(heads) + " heads of " + std::to_string(rows) + " rows of " +
                            std::to_string(features) + " features";
  if (heads < 1 || rows < 1 || features < 1) refuse(shape + " make no tensor; all three must be at least 1");
  if (size % static_cast<std::size_t>(heads * rows * features) != 0) {
    refuse("a span of " + std::to_string(size) + " elements is not a whole number of sequences of " + shape);
  }
}

template <class T>
void* address(std::span<T> elements) {
  static_assert(std::is_trivially_copyable_v<T> && (sizeof(T) == 2 || sizeof(T) == 4), "16 or 32 bits each");
  return const_cast<std::remove_const_t<T>*>(elements.data());  // the library never writes an input
}

// The address of an array that has an entry for each sequence, or null.
template <class T>
const T* one_each(const char* name, std::span<const T> entries, std::int64_t batch) {
  if (entries.data() != nullptr && static_cast<std::int64_t>(entries.size()) != batch) {
    refuse(std::string(name) + " has " + std::to_string(entries.size()) + " entries, but batch is " +
           std::to_string(batch) + "; one per sequence is expected");
  }
  return entries.data();
}

inline fusedattn_mask to_c(const mask& m, std::int64_t batch) {
  const fusedattn_band top_left{m.top_left.left, m.top_left.right};
  const fusedattn_band bottom_right{m.bottom_right.left, m.bottom_right.right};
  return {top_left, bottom_right, one_each("mask.bands", m.bands, batch), one_each("mask.prefix", m.prefix, batch),
          m.bytes, m.batch_stride, m.head_stride, m.row_stride, std::int32_t(m.meaning), m.whole};
}

inline fusedattn_problem to_c(const problem& p) {
  fusedattn_problem c;
  fusedattn_problem_init(&c);
  c.dtype = static_cast<std::int32_t>(p.dtype);
  c.batch = p.batch;
  c.q_heads = p.q_heads;
  c.kv_heads = p.kv_heads.value_or(p.q_heads);
  c.q_len = p.q_len;
  c.kv_len = p.kv_len;
  c.dim = p.dim;
  c.dim_v = p.dim_v.value_or(p.dim);
  c.q_ends = one_each("q_ends", p.q_ends, p.batch);
  c.kv_ends = one_each("kv_ends", p.kv_ends, p.batch);
  c.scale = p.scale ? *p.scale : p.dim > 0 ? 1.0 / std::sqrt(static_cast<double>(p.dim)) : 1.0;
  c.softcap = p.softcap;
  c.mask = to_c(p.mask, p.batch);
  c.bias = p.bias;
  c.alibi = p.alibi;
  c.dropout = {p.dropout.keep_prob, p.dropout.bits, p.dropout.seed, p.dropout.offset};
  c.sink = p.sink;
  c.q = p.q;
  c.k = p.k;
  c.v = p.v;
  c.out = p.out;
  c.stats = p.stats;
  c.foreign_stats = p.foreign_stats;
  c.d_out = p.d_out;
  c.dq = p.dq;
  c.dk = p.dk;
  c.dv = p.dv;
  c.d_bias = p.d_bias;
  c.d_sink = p.d_sink;
  return c;
}

inline fusedattn_options to_c(const options& o) {
  return {sizeof(fusedattn_options), o.lane, o.threads, 0, o.parallel, o.parallel_context};
}

}  // namespace detail

// A contiguous [batch, heads, rows, features] tensor. Throws when the span does not hold whole sequences.
template <class T>
view bnsd(std::span<T> elements, std::int64_t heads, std::int64_t rows, std::int64_t features) {
  detail::require_whole(elements.size(), heads, rows, features);
  return {detail::address(elements), heads * rows * features, rows * features, features};
}

// A contiguous [batch, rows, heads, features] tensor; with packed sequences, [rows of all sequences, heads, features].
template <class T>
view bsnd(std::span<T> elements, std::int64_t heads, std::int64_t rows, std::int64_t features) {
  detail::require_whole(elements.size(), heads, rows, features);
  return {detail::address(elements), heads * rows * features, features, heads * features};
}

// Statistics stored as two contiguous [batch, heads, rows] tensors. Throws when the spans differ or are not whole.
inline stats row_stats(std::span<float> max, std::span<float> sum, std::int64_t heads, std::int64_t rows) {
  if (max.size() != sum.size()) {
    detail::refuse("max has " + std::to_string(max.size()) + " elements and sum has " + std::to_string(sum.size()) +
                   "; they must have the same number");
  }
  detail::require_whole(max.size(), heads, rows, 1);
  return {max.data(), sum.data(), heads * rows, rows, 1, 1, 0};
}

// Plan and run in one call, with scratch memory that the library keeps.
inline void forward(const problem& p, const options& o = {}) {
  const auto c = detail::to_c(p);
  const auto with = detail::to_c(o);
  detail::require(fusedattn_forward(&c, &with));
}

inline void backward(const problem& p, const options& o = {}) {
  const auto c = detail::to_c(p);
  const auto with = detail::to_c(o);
  detail::require(fusedattn_backward(&c, &with));
}

// Joins attention over disjoint sets of columns, in the order of the parts.
inline void merge(const merge_problem& m, const options& o = {}) {
  if (m.parts.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max())) {
    detail::refuse("parts has " + std::to_string(m.parts.size()) + " entries; at most 2^31 - 1 are accepted");
  }
  const fusedattn_merge_problem c{.struct_size = sizeof(fusedattn_merge_problem),
                                  .dtype = static_cast<std::int32_t>(m.dtype),
                                  .count = static_cast<std::int32_t>(m.parts.size()),
                                  .batch = m.batch,
                                  .heads = m.heads,
                                  .rows = m.rows,
                                  .dim_v = m.dim_v,
                                  .parts = m.parts.data(),
                                  .result = m.result,
                                  .q_ends = detail::one_each("q_ends", m.q_ends, m.batch),
                                  .special = m.formula ? FUSEDATTN_MERGE_FORMULA : FUSEDATTN_MERGE_SAFE,
                                  .log_sum_exp = m.log_sum_exp};
  const auto with = detail::to_c(o);
  detail::require(fusedattn_merge(&c, &with));
}

// Everything decided but the numbers: made once, run as often as you like.
class plan {
 public:
  plan(const problem& p, direction d, const options& o = {}) {
    const auto c = detail::to_c(p);
    const auto with = detail::to_c(o);
    fusedattn_plan* made = nullptr;
    detail::require(fusedattn_plan_create(&c, static_cast<std::int32_t>(d), &with, &made));
    plan_.reset(made);
  }

  std::size_t workspace_bytes() const { return fusedattn_plan_workspace(plan_.get()); }

  // On the addresses planned with. workspace: empty, or at least workspace_bytes(), 64-byte aligned.
  void run(std::span<std::byte> workspace = {}) const {
    detail::require(fusedattn_plan_run(plan_.get(), nullptr, workspace.data(), workspace.size()));
  }

  // The same problem at other addresses.
  void run(const problem& elsewhere, std::span<std::byte> workspace = {}) const {
    const auto c = detail::to_c(elsewhere);
    detail::require(fusedattn_plan_run(plan_.get(), &c, workspace.data(), workspace.size()));
  }

  // Lane, shapes, tiles, tasks and workspace in one line.
  std::string describe() const {
    std::string text(fusedattn_describe(plan_.get(), nullptr, 0), '\0');
    fusedattn_describe(plan_.get(), text.data(), text.size() + 1);
    return text;
  }

 private:
  struct destroy {
    void operator()(fusedattn_plan* plan) const { fusedattn_plan_destroy(plan); }
  };
  std::unique_ptr<fusedattn_plan, destroy> plan_;
};

struct lane {
  std::string name;
  std::string refusal;  // empty: this machine runs it
};

// The lanes built into the library, best first.
inline std::vector<lane> lanes() {
  std::vector<lane> all;
  for (std::int32_t i = 0; i < fusedattn_lane_count(); ++i) {
    all.push_back({fusedattn_lane_name(i), fusedattn_lane_refusal(i)});
  }
  return all;
}

inline std::string version() { return fusedattn_version(); }

}  // namespace cpp
}  // namespace fusedattn
#endif
