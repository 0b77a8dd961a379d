// max = max_p max_p      sum = sum_p sum_p exp(max_p - max)      out = sum_p out_p sum_p exp(max_p - max) / sum
//
// A part whose row saw nothing (max is the lowest float) weighs 0; if all do, so does the result.
#include "run/merge.h"

#include <cfloat>
#include <cmath>

namespace fusedattn {
namespace {

Status missing(const std::string& name) { return Status::invalid(name + " is NULL; accepted: the address of its first element"); }

Status check_partial(const Merge& m, const Partial& part, const std::string& name) {
  if (m.batch == 0 || m.heads == 0 || m.rows == 0) return {};
  if (part.out.data == nullptr) return missing(name + ".out.data");
  if (part.stats.max == nullptr) return missing(name + ".stats.max");
  if (part.stats.sum == nullptr) return missing(name + ".stats.sum");
  return {};
}

std::byte* row_of_partial(const Merge& m, const View& view, std::int64_t b, std::int64_t head, std::int64_t row) {
  return view.data + (b * view.batch_stride + head * view.head_stride + row * view.row_stride) * static_cast<std::int64_t>(size_of(m.dtype));
}

std::int64_t offset_of(const Stats& stats, std::int64_t b, std::int64_t head, std::int64_t row) {
  return b * stats.batch_stride + head * stats.head_stride + row * stats.row_stride;
}

// A part whose row saw nothing, or belongs to no sequence.
bool saw_nothing(float row_max, float row_sum) { return row_max <= -FLT_MAX || row_sum == 0.0f; }

// The weights of the parts in one row, and the row's statistics.
struct RowWeights {
  float row_max = -FLT_MAX, row_sum = 0.0f;
  void weigh(const Merge& m, std::int64_t b, std::int64_t head, std::int64_t row, std::vector<float>& weights) {
    for (const Partial& part : m.parts) {
      const std::int64_t at = offset_of(part.stats, b, head, row);
      const float part_max = part.stats.max[at];
      if (saw_nothing(part_max, part.stats.sum[at])) continue;
      row_max = part_max > row_max || std::isnan(part_max) ? part_max : row_max;
    }
    for (std::size_t t = 0; t < m.parts.size(); ++t) {
      const std::int64_t at = offset_of(m.parts[t].stats, b, head, row);
      const float part_max = m.parts[t].stats.max[at], part_sum = m.parts[t].stats.sum[at];
      weights[t] = saw_nothing(part_max, part_sum) ? 0.0f : part_sum * std::exp(part_max - row_max);
      row_sum += weights[t];
    }
    if (row_sum == 0.0f) {
      row_max = -FLT_MAX, row_sum = FLT_MAX;
      return;
    }
    for (float& weight : weights) weight /= row_sum;
  }
};

}  // namespace

Status check_merge(const Merge& m) {
  struct Size {
    const char* name;
    std::int64_t value, least;
  };
  for (const Size& size : {Size{"batch", m.batch, 0}, Size{"heads", m.heads, 0}, Size{"rows", m.rows, 0}, Size{"dim_v", m.dim_v, 1},
                           Size{"count", static_cast<std::int64_t>(m.parts.size()), 1}})
    if (size.value < size.least)
      return Status::invalid(std::string(size.name) + " is " + std::to_string(size.value) + "; accepted: at least " + std::to_string(size.least));
  for (std::size_t t = 0; t < m.parts.size(); ++t)
    if (Status status = check_partial(m, m.parts[t], "parts[" + std::to_string(t) + "]"); !status.ok()) return status;
  return check_partial(m, m.result, "result");
}

void run_merge(const Merge& m, const Kernels& kernels) {
  std::vector<float> weights(m.parts.size());
  std::vector<const std::byte*> outs(m.parts.size());
  for (std::int64_t b = 0; b < m.batch; ++b)
    for (std::int64_t head = 0; head < m.heads; ++head)
      for (std::int64_t row = 0; row < m.rows; ++row) {
        RowWeights merged;
        merged.weigh(m, b, head, row, weights);
        for (std::size_t t = 0; t < outs.size(); ++t) outs[t] = row_of_partial(m, m.parts[t].out, b, head, row);
        kernels.merge_row(m.dtype, {outs.data(), weights.data(), static_cast<std::int64_t>(outs.size()), m.dim_v,
                                    row_of_partial(m, m.result.out, b, head, row)});
        const std::int64_t at = offset_of(m.result.stats, b, head, row);
        m.result.stats.max[at] = merged.row_max;
        m.result.stats.sum[at] = merged.row_sum;
      }
}

}  // namespace fusedattn
