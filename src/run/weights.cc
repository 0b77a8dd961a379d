// The weights of the parts of a merge, row by row, and the statistics of the result. Compiled without contracting a product and a sum
// into one operation, so that the order of two parts changes no bit.
//
//   max = max_t max_t     term_t = sum_t exp(max_t - max)     sum = min(sum_t term_t, FLT_MAX)     weight_t = term_t / sum
#include <algorithm>
#include <array>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <limits>

#include "run/merge.h"

namespace fusedattn {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::int64_t kMostLanes = 64;

using Line = MergeDesk::Line;

std::int64_t offset_of(const Merge& m, const Stats& stats, const MergeBlock& block, std::int64_t head, std::int64_t row) {
  if (stats.blocks) return (m.heads * block.begin + head * block.q_len + row) * stats.lanes;
  return block.b * stats.batch_stride + head * stats.head_stride + (block.begin + row) * stats.row_stride;
}

struct Joined {
  float max, sum;
};

// Rows along a line, at most kWeighedRows. Those whose numbers are all ordinary are weighed together by the lane's vectors, the others
// one by one; which way a row goes depends on its own numbers alone.
class Weigher {
 public:
  Weigher(const Merge& merge, const Kernels& kernels, MergeDesk& desk) : m_(merge), kernels_(kernels), desk_(desk), count_(merge.parts.size()) {}

  void place(const MergeBlock& block, std::int64_t head, std::int64_t row, bool along_heads) {
    for (std::size_t t = 0; t < count_; ++t) desk_.lines[t] = line_of(m_.parts[t].stats, block, head, row, along_heads);
    result_ = line_of(m_.result.stats, block, head, row, along_heads);
  }

  // The rows that are weighed next. They are asked for one by one while these are: lines are too short for the processor to foresee it.
  void look_ahead(const MergeBlock& block, std::int64_t head, std::int64_t row, bool along_heads) {
    for (std::size_t t = 0; t < count_; ++t) desk_.ahead[t] = line_of(m_.parts[t].stats, block, head, row, along_heads);
    result_ahead_ = line_of(m_.result.stats, block, head, row, along_heads);
  }

  // Writes weights[i, t] of rows [first, first + n).
  void weigh(std::int64_t first, std::int64_t n, float* weights) {
    gather(first, n);
    kernels_.weigh({desk_.max.data(), desk_.terms.data(), static_cast<std::int64_t>(count_), top_.data()});
    add_and_divide();
    scatter(first, n);
    for (std::int64_t i = 0; i < n; ++i) {
      float* const of_row = weights + i * static_cast<std::int64_t>(count_);
      if (!ordinary_[static_cast<std::size_t>(i)])
        weigh_one(first + i, of_row);
      else
        for (std::size_t t = 0; t < count_; ++t) of_row[t] = desk_.terms[at(t, i)];
    }
  }

 private:
  static std::size_t at(std::size_t t, std::int64_t i) { return t * static_cast<std::size_t>(kWeighedRows) + static_cast<std::size_t>(i); }

  Line line_of(const Stats& stats, const MergeBlock& block, std::int64_t head, std::int64_t row, bool along_heads) const {
    const std::int64_t here = offset_of(m_, stats, block, head, row);
    const std::int64_t next = along_heads ? offset_of(m_, stats, block, head + 1, row) : offset_of(m_, stats, block, head, row + 1);
    float* const sum = m_.log_sum_exp || stats.sum == nullptr ? nullptr : stats.sum + here;
    return {stats.max ? stats.max + here : nullptr, sum, next - here, stats.lanes};
  }

  // Fills max and terms, and marks the rows in which all lanes of all parts are copies of ordinary numbers.
  void gather(std::int64_t first, std::int64_t n) {
    ordinary_.fill(1);
    for (std::size_t t = 0; t < count_; ++t) {
      const Line& part = desk_.lines[t];
      const std::int64_t copies = part.lanes == result_.lanes ? part.lanes : 1;
      gather_one({part.max + first * part.step, desk_.ahead[t].max, part.step, n}, copies, &desk_.max[at(t, 0)], -FLT_MAX);
      if (part.sum != nullptr)
        gather_one({part.sum + first * part.step, desk_.ahead[t].sum, part.step, n}, copies, &desk_.terms[at(t, 0)], 0.0f);
      else
        std::fill_n(&desk_.terms[at(t, 0)], n, 1.0f);
    }
  }
  // Numbers at equal steps, and where those lie that come after them.
  struct Stream {
    const float* from;
    const float* ahead;
    std::int64_t step, n;
  };
  void gather_one(const Stream& stream, std::int64_t lanes, float* to, float above) {
    if (lanes == 1) return gather_with([](const float*) { return true; }, stream, to, above);
    if (lanes == 8) return gather_with(eight_are_equal, stream, to, above);
    const auto equal = [lanes](const float* x) { return std::memcmp(x, x + 1, static_cast<std::size_t>(lanes - 1) * sizeof *x) == 0; };
    gather_with(equal, stream, to, above);
  }
  template <class Equal>
  void gather_with(const Equal& equal, const Stream& stream, float* to, float above) {
    for (std::int64_t i = 0; i < stream.n; ++i) {
      const float* const from = stream.from + i * stream.step;
      __builtin_prefetch(stream.ahead + i * stream.step);
      const float x = from[0];
      to[i] = x;
      ordinary_[static_cast<std::size_t>(i)] &= static_cast<std::uint8_t>((x > above) & (x < FLT_MAX) & equal(from));
    }
  }
  static bool eight_are_equal(const float* x) {
    const auto pair = [x](int first) {
      std::uint64_t bits;
      std::memcpy(&bits, x + first, sizeof bits);
      return bits;
    };
    const std::uint64_t bits = pair(0);
    return ((bits ^ pair(2)) | (bits ^ pair(4)) | (bits ^ pair(6)) | (bits ^ std::rotl(bits, 32))) == 0;
  }

  // Ordinary rows alone: those that weigh_one() is to read may be in the same memory.
  void scatter(std::int64_t first, std::int64_t n) {
    if (m_.log_sum_exp)
      for (std::int64_t i = 0; i < n; ++i) top_[static_cast<std::size_t>(i)] += std::log(total_[static_cast<std::size_t>(i)]);
    scatter_one(top_.data(), result_.max, result_ahead_.max, first, n);
    scatter_one(total_.data(), result_.sum, result_ahead_.sum, first, n);
  }
  void scatter_one(const float* from, float* to, const float* ahead, std::int64_t first, std::int64_t n) const {
    if (to == nullptr) return;
    if (result_.lanes == 8) return scatter_lanes<8>(from, to + first * result_.step, ahead, n);
    return scatter_lanes<0>(from, to + first * result_.step, ahead, n);
  }
  template <int kLanes>
  void scatter_lanes(const float* from, float* to, const float* ahead, std::int64_t n) const {
    for (std::int64_t i = 0; i < n; ++i, to += result_.step, ahead += result_.step) {
      __builtin_prefetch(ahead, 1);
      if (!ordinary_[static_cast<std::size_t>(i)]) continue;
      if constexpr (kLanes == 0) {
        std::fill_n(to, result_.lanes, from[i]);
      } else {
        std::array<float, kLanes> copies;
        copies.fill(from[i]);
        std::memcpy(to, copies.data(), sizeof copies);
      }
    }
  }

  void add_and_divide() {
    for (std::size_t i = 0; i < kWeighedRows; ++i) total_[i] = desk_.terms[i];
    for (std::size_t t = 1; t < count_; ++t)
      for (std::size_t i = 0; i < kWeighedRows; ++i) total_[i] += desk_.terms[t * kWeighedRows + i];
    for (std::size_t i = 0; i < kWeighedRows; ++i) total_[i] = total_[i] > FLT_MAX ? FLT_MAX : total_[i];
    for (std::size_t t = 0; t < count_; ++t)
      for (std::size_t i = 0; i < kWeighedRows; ++i) desk_.terms[t * kWeighedRows + i] /= total_[i];
  }

  // --- One row, whatever its numbers ---

  bool saw_nothing(float part_max, float part_sum) const {
    if (m_.formula) return false;
    if (m_.log_sum_exp) return part_max == -kInfinity;
    return (part_max <= -FLT_MAX && !std::isnan(part_sum)) || (part_sum == 0.0f && !std::isnan(part_max));
  }
  // Of a part with other lanes than the result, the first counts.
  std::int64_t lane_of(const Line& part, std::int64_t lane) const { return part.lanes == result_.lanes ? lane : 0; }

  // A row in which no part saw anything.
  Joined nothing(std::int64_t i, std::int64_t lane) const {
    float top = -kInfinity, top_of_all = -kInfinity;
    bool any = false;
    for (const Line& part : desk_.lines) {
      const std::int64_t from = lane_of(part, lane);
      top_of_all = std::max(top_of_all, part.max_at(i, from));
      if (part.sum_at(i, from) == 0.0f) continue;
      any = true, top = std::max(top, part.max_at(i, from));
    }
    return any ? Joined{top, FLT_MAX} : Joined{top_of_all, 0.0f};
  }

  // terms[t] = sum_t exp(max_t - max); all 0 where no part saw anything.
  Joined join(std::int64_t i, std::int64_t lane, float* terms) const {
    float top = -kInfinity, total = 0.0f;
    for (const Line& part : desk_.lines) {
      const std::int64_t from = lane_of(part, lane);
      const float part_max = part.max_at(i, from);
      if (saw_nothing(part_max, part.sum_at(i, from))) continue;
      top = part_max > top || std::isnan(part_max) ? part_max : top;
    }
    for (std::size_t t = 0; t < count_; ++t) {
      const std::int64_t from = lane_of(desk_.lines[t], lane);
      const float part_max = desk_.lines[t].max_at(i, from), part_sum = desk_.lines[t].sum_at(i, from);
      terms[t] = saw_nothing(part_max, part_sum) ? 0.0f : part_sum * std::exp(part_max - top);
      total = t == 0 ? terms[t] : total + terms[t];
    }
    if (total == 0.0f && !m_.formula) {
      std::fill_n(terms, count_, 0.0f);
      return nothing(i, lane);
    }
    return {top, total > FLT_MAX ? FLT_MAX : total};
  }

  // Every part is read before anything is written: the result may be one of them.
  void weigh_one(std::int64_t i, float* weights) const {
    std::array<float, kMostLanes> maxima, sums;
    for (std::int64_t lane = result_.lanes - 1; lane >= 0; --lane) {  // lane 0 last: its terms become the weights
      const Joined joined = join(i, lane, weights);
      const auto n = static_cast<std::size_t>(lane);
      const bool empty = !m_.formula && joined.max == -kInfinity;
      maxima[n] = m_.log_sum_exp && !empty ? joined.max + std::log(joined.sum) : joined.max, sums[n] = joined.sum;
    }
    for (std::size_t t = 0; t < count_; ++t) weights[t] = sums[0] == 0.0f && !m_.formula ? 0.0f : weights[t] / sums[0];
    if (result_.max != nullptr) std::copy_n(maxima.data(), result_.lanes, result_.max + i * result_.step);
    if (result_.sum != nullptr) std::copy_n(sums.data(), result_.lanes, result_.sum + i * result_.step);
  }

  const Merge& m_;
  const Kernels& kernels_;
  MergeDesk& desk_;
  std::size_t count_;
  Line result_{}, result_ahead_{};
  std::array<float, kWeighedRows> top_, total_;
  std::array<std::uint8_t, kWeighedRows> ordinary_;
};

bool heads_lie_closer(const Stats& stats) { return !stats.blocks && std::abs(stats.head_stride) < std::abs(stats.row_stride); }

}  // namespace

// Lines of weights lie an odd number of cache lines apart, so that the same row of several heads does not share cache sets.
constexpr std::int64_t kGap = 16;
std::int64_t line_of_weights(std::int64_t length, std::int64_t count) { return (length * count + kGap - 1) / (2 * kGap) * (2 * kGap) + kGap; }

MergeDesk::MergeDesk(const Merge& m, const MergeBlock& largest)
    : along_heads(m.heads > 1 && heads_lie_closer(m.parts[0].stats)),
      max(m.parts.size() * kWeighedRows),
      terms(m.parts.size() * kWeighedRows),
      lines(m.parts.size()),
      ahead(m.parts.size()),
      outs(m.parts.size()),
      steps(m.parts.size()) {
  const std::int64_t heads = largest.heads.size(), rows = largest.rows.size(), count = static_cast<std::int64_t>(m.parts.size());
  weights.resize(static_cast<std::size_t>(along_heads ? rows * line_of_weights(heads, count) : heads * line_of_weights(rows, count)));
}

// In the order in which the statistics of the first part lie in memory.
void weigh(const Merge& m, const MergeBlock& block, const Kernels& kernels, MergeDesk& desk) {
  const bool along_heads = desk.along_heads;
  const std::int64_t length = (along_heads ? block.heads : block.rows).size(), lines = (along_heads ? block.rows : block.heads).size();
  const std::int64_t step = static_cast<std::int64_t>(m.parts.size()), line_step = line_of_weights(length, step);
  desk.head_step = along_heads ? step : line_step, desk.row_step = along_heads ? line_step : step;
  Weigher weigher(m, kernels, desk);
  const auto head_of = [&](std::int64_t line, std::int64_t i) { return block.heads.begin + (along_heads ? i : line); };
  const auto row_of = [&](std::int64_t line, std::int64_t i) { return block.rows.begin + (along_heads ? line : i); };
  for (std::int64_t line = 0; line < lines; ++line) {
    weigher.place(block, head_of(line, 0), row_of(line, 0), along_heads);
    for (std::int64_t first = 0; first < length; first += kWeighedRows) {
      const std::int64_t next = first + kWeighedRows;
      const bool same_line = next < length, more = same_line || line + 1 < lines;  // at the very end: these rows once more
      const std::int64_t line_ahead = line + (more && !same_line), i_ahead = same_line ? next : more ? 0 : first;
      weigher.look_ahead(block, head_of(line_ahead, i_ahead), row_of(line_ahead, i_ahead), along_heads);
      weigher.weigh(first, std::min(kWeighedRows, length - first), desk.weights.data() + line * line_step + first * step);
    }
  }
}

}  // namespace fusedattn
