// From C structs to Problem, Merge and Team. What only a C caller can get wrong is refused here.
#include "front/read.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <initializer_list>
#include <string>

#include "run/verbose.h"

namespace fusedattn {

Status check_struct(const void* address, const char* name, std::size_t size, std::size_t expected) {
  if (address == nullptr) return Status::invalid(std::string(name) + " is NULL; accepted: the address of a fusedattn_" + name);
  if (size != expected)
    return Status::invalid(std::string(name) + ".struct_size is " + std::to_string(size) + "; accepted: " + std::to_string(expected) +
                           ", the size of a fusedattn_" + name);
  return {};
}

Status read_dtype(const char* name, std::int32_t from, Dtype& to) {
  if (from < FUSEDATTN_FLOAT32 || from > FUSEDATTN_FLOAT16)
    return Status::invalid(std::string(name) + " is " + std::to_string(from) + "; accepted: 0 (float32), 1 (bfloat16), 2 (float16)");
  to = static_cast<Dtype>(from);
  return {};
}

View read_view(const fusedattn_view& view) {
  return {static_cast<std::byte*>(view.data), view.batch_stride, view.head_stride, view.row_stride};
}

namespace {

struct Flag {
  const char* name;
  std::int32_t value;
};

Status check_flags(const std::string& where, std::initializer_list<Flag> flags) {
  for (const Flag& flag : flags)
    if (flag.value != 0 && flag.value != 1)
      return Status::invalid(where + flag.name + " is " + std::to_string(flag.value) + "; accepted: 0 (no), 1 (yes)");
  return {};
}

Status check_flags(const fusedattn_problem& p) {
  return check_flags("", {{"mask.whole", p.mask.whole}, {"bias.before_scale", p.bias.before_scale}, {"bias.blocks", p.bias.blocks},
                          {"alibi.square_root", p.alibi.square_root}, {"alibi.bottom_right", p.alibi.bottom_right},
                          {"alibi.first_sequence", p.alibi.first_sequence}, {"stats.blocks", p.stats.blocks},
                          {"foreign_stats", p.foreign_stats}});
}

View read(const fusedattn_view& view) { return read_view(view); }

Stats read(const fusedattn_stats& stats) {
  return {stats.max, stats.sum, stats.batch_stride, stats.head_stride, stats.row_stride, stats.lanes ? stats.lanes : 1, stats.blocks != 0};
}

Alibi read(const fusedattn_alibi& alibi) {
  return {alibi.slopes, alibi.batch_stride, alibi.head_stride, alibi.q_start, alibi.kv_start,
          alibi.square_root != 0, alibi.bottom_right != 0, alibi.first_sequence != 0};
}

Band read(const fusedattn_band& band) {
  return {std::clamp(band.left, -kUnbounded, kUnbounded), std::clamp(band.right, -kUnbounded, kUnbounded)};
}

// Times log2(e) it still is a float32.
constexpr double kLargestScale = 2.3e38;
// A scale over a cap, times 2 log2(e), still is a normal float32.
constexpr double kLeastCap = 1e-18, kLargestCap = 1e18;

std::string number(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", x);
  return text;
}

Status read_scale(const fusedattn_problem& from, Problem& to) {
  to.scale = static_cast<float>(from.scale), to.softcap = static_cast<float>(from.softcap);
  if (!(std::fabs(from.scale) <= kLargestScale))
    return Status::invalid("scale is " + number(from.scale) + "; accepted: a finite number of at most 2.3e38");
  if (from.softcap == 0.0) return {};
  if (!(from.softcap >= kLeastCap && from.softcap <= kLargestCap))
    return Status::invalid("softcap is " + number(from.softcap) + "; accepted: 0 (none), or a number from 1e-18 to 1e18");
  if (std::fabs(from.scale) > kLargestCap)
    return Status::invalid("scale is " + number(from.scale) + " with a softcap; accepted: a number of at most 1e18");
  return {};
}

Status read_bias(const fusedattn_bias& from, Bias& to) {
  to = {static_cast<const std::byte*>(from.data), from.batch_stride, from.head_stride, from.row_stride,
        Dtype::f32, from.before_scale != 0, from.blocks != 0};
  return read_dtype("bias.dtype", from.dtype, to.dtype);
}

}  // namespace

Status read_dropout(const fusedattn_dropout& from, Dropout& to) {
  to = {static_cast<float>(from.keep_prob), from.bits, from.seed, from.offset};
  if (to.keep_prob > 0.0f && to.keep_prob <= 1.0f) return {};
  return Status::invalid("dropout.keep_prob is " + number(from.keep_prob) + "; accepted: a number above 0 up to 1");
}

Status read_problem(const fusedattn_problem* from, Problem& to) {
  if (Status status = check_struct(from, "problem", from ? from->struct_size : 0, sizeof *from); !status.ok()) return status;
  if (Status status = read_dtype("dtype", from->dtype, to.dtype); !status.ok()) return status;
  if (from->mask.meaning != FUSEDATTN_NONZERO_HIDES && from->mask.meaning != FUSEDATTN_NONZERO_SHOWS)
    return Status::invalid("mask.meaning is " + std::to_string(from->mask.meaning) + "; accepted: 0 (nonzero hides), 1 (nonzero shows)");
  if (Status status = check_flags(*from); !status.ok()) return status;
  to.batch = from->batch, to.q_heads = from->q_heads, to.kv_heads = from->kv_heads;
  to.q_len = from->q_len, to.kv_len = from->kv_len, to.dim = from->dim, to.dim_v = from->dim_v;
  to.q_ends = from->q_ends, to.kv_ends = from->kv_ends;
  if (Status status = read_scale(*from, to); !status.ok()) return status;
  to.mask.top_left = read(from->mask.top_left);
  to.mask.bottom_right = read(from->mask.bottom_right);
  static_assert(sizeof(Band) == sizeof(fusedattn_band));
  to.mask.bands = reinterpret_cast<const Band*>(from->mask.bands);
  to.mask.prefix = from->mask.prefix;
  to.mask.bytes = {from->mask.bytes, from->mask.batch_stride, from->mask.head_stride, from->mask.row_stride,
                   from->mask.meaning == FUSEDATTN_NONZERO_HIDES, from->mask.whole != 0, {}};
  if (Status status = read_bias(from->bias, to.bias); !status.ok()) return status;
  to.alibi = read(from->alibi);
  if (Status status = read_dropout(from->dropout, to.dropout); !status.ok()) return status;
  to.sink = from->sink;
  to.q = read(from->q), to.k = read(from->k), to.v = read(from->v), to.out = read(from->out);
  to.stats = read(from->stats), to.foreign_stats = from->foreign_stats != 0;
  to.d_out = read(from->d_out), to.dq = read(from->dq), to.dk = read(from->dk), to.dv = read(from->dv);
  to.d_bias = read(from->d_bias), to.d_sink = from->d_sink;
  return {};
}

Status read_merge(const fusedattn_merge_problem* from, Merge& to) {
  if (Status status = check_struct(from, "merge_problem", from ? from->struct_size : 0, sizeof *from); !status.ok()) return status;
  if (Status status = read_dtype("dtype", from->dtype, to.dtype); !status.ok()) return status;
  if (from->parts == nullptr) return Status::invalid("parts is NULL; accepted: the address of count partial results");
  if (from->count < 1) return Status::invalid("count is " + std::to_string(from->count) + "; accepted: at least 1");
  if (from->special != FUSEDATTN_MERGE_SAFE && from->special != FUSEDATTN_MERGE_FORMULA)
    return Status::invalid("special is " + std::to_string(from->special) + "; accepted: 0 (safe), 1 (formula)");
  if (from->log_sum_exp != 0 && from->log_sum_exp != 1)
    return Status::invalid("log_sum_exp is " + std::to_string(from->log_sum_exp) + "; accepted: 0 (max and sum), 1 (one number)");
  to.batch = from->batch, to.heads = from->heads, to.rows = from->rows, to.dim_v = from->dim_v;
  to.q_ends = from->q_ends, to.formula = from->special == FUSEDATTN_MERGE_FORMULA, to.log_sum_exp = from->log_sum_exp != 0;
  to.parts.clear();
  if (Status status = check_flags("result.", {{"stats.blocks", from->result.stats.blocks}}); !status.ok()) return status;
  for (std::int32_t t = 0; t < from->count; ++t) {
    const fusedattn_partial& part = from->parts[t];
    const std::string where = "parts[" + std::to_string(t) + "].";
    if (Status status = check_flags(where, {{"stats.blocks", part.stats.blocks}}); !status.ok()) return status;
    to.parts.push_back({read(part.out), read(part.stats)});
  }
  to.result = {read(from->result.out), read(from->result.stats)};
  return {};
}

Status read_options(const fusedattn_options* from, Choice& to) {
  if (Status status = check_verbosity(); !status.ok()) return status;
  if (from == nullptr) return resolve_threads(0, to.team.threads);
  if (Status status = check_struct(from, "options", from->struct_size, sizeof *from); !status.ok()) return status;
  if (from->threads < 0 || from->threads > 4096)
    return Status::invalid("options.threads is " + std::to_string(from->threads) + "; accepted: 0 (the default) to 4096");
  to.lane = from->lane;
  to.team.parallel = from->parallel;
  to.team.context = from->parallel_context;
  return resolve_threads(from->threads, to.team.threads);
}

}  // namespace fusedattn
