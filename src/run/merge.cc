// Runs a merge: workers take blocks of rows from a queue. A block is weighed first, then its rows are added; both in the order in which
// the numbers lie in memory, which need not be the same.
#include "run/merge.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "run/arithmetic.h"

namespace fusedattn {
namespace {

// Lines of a block. At most: 64 KB of weights for two parts, half of the smallest second-level cache, and with 32 heads 8 KB of
// statistics in a row. At least: some 10 µs, what it costs to wake a thread.
constexpr std::int64_t kMostLines = 8192, kLeastLines = 256;

// A result of this size has left every cache when it is read again. Measured where the last cache has 32 MB: around the caches a result
// of 64 MB takes 25 % less time.
constexpr double kBytesOfMemory = 64.0 * 1024 * 1024;

struct Size {
  const char* name;
  std::int64_t value, least;
};

Status check_address(const std::string& name, const void* address, std::size_t unit, bool optional) {
  if (address == nullptr && !optional) return Status::invalid(name + " is NULL; accepted: the address of its first element");
  if (reinterpret_cast<std::uintptr_t>(address) % unit == 0) return {};
  return Status::invalid(name + " is not a multiple of " + std::to_string(unit) + " bytes; accepted: an address aligned to its dtype");
}

Status check_partial(const Merge& m, const Partial& part, const std::string& name, bool written) {
  const Stats& stats = part.stats;
  if (stats.lanes < 1 || stats.lanes > 64)
    return Status::invalid(name + ".stats.lanes is " + std::to_string(stats.lanes) + "; accepted: 1 to 64 copies");
  if (stats.blocks && m.q_ends == nullptr)
    return Status::invalid(name + ".stats.blocks is 1 and q_ends is NULL; accepted: 1 with packed sequences alone");
  if (m.heads == 0 || m.rows == 0 || (m.batch == 0 && m.q_ends == nullptr)) return {};
  if (Status status = check_address(name + ".out.data", part.out.data, size_of(m.dtype), false); !status.ok()) return status;
  if (Status status = check_address(name + ".stats.max", stats.max, alignof(float), written && m.log_sum_exp); !status.ok()) return status;
  if (m.log_sum_exp) return {};
  if (written && stats.max == stats.sum) return Status::invalid(name + ".stats.sum is the address of " + name + ".stats.max; accepted: memory of its own, for both are written");
  return check_address(name + ".stats.sum", stats.sum, alignof(float), false);
}

Status check_ends(const Merge& m) {
  std::int64_t before = 0;
  for (std::int64_t b = 0; m.q_ends != nullptr && b < m.batch; ++b) {
    if (m.q_ends[b] < before || m.q_ends[b] > m.rows)
      return Status::invalid("q_ends[" + std::to_string(b) + "] is " + std::to_string(m.q_ends[b]) + "; accepted: " + std::to_string(before) +
                             ", where the sequence before it ends, to " + std::to_string(m.rows) + ", the rows");
    before = m.q_ends[b];
  }
  return {};
}

// How many rows and heads a block has at most: whole rows of heads where those lie side by side, else long rows of one head.
struct Cut {
  std::int64_t rows, heads;
  Cut(const Merge& m, bool heads_inside, std::int64_t lines)
      : rows(std::max<std::int64_t>(1, heads_inside ? lines / m.heads : std::min(lines, m.rows))),
        heads(heads_inside ? m.heads : std::max<std::int64_t>(1, std::min(m.heads, lines / rows))) {}
};

std::vector<MergeBlock> blocks_of(const Merge& m, const Cut& at_once) {
  std::vector<MergeBlock> blocks;
  const auto cut = [&](std::int64_t b, std::int64_t begin, std::int64_t q_len) {
    for (std::int64_t head = 0; head < m.heads; head += at_once.heads)
      for (std::int64_t row = 0; row < q_len; row += at_once.rows)
        blocks.push_back({b, begin, q_len, {head, std::min(head + at_once.heads, m.heads)}, {row, std::min(row + at_once.rows, q_len)}});
  };
  std::int64_t begin = 0;
  for (std::int64_t b = 0; b < m.batch; ++b) {
    if (m.q_ends == nullptr) {
      cut(b, 0, m.rows);
    } else {
      cut(0, begin, m.q_ends[b] - begin);
      begin = m.q_ends[b];
    }
  }
  if (m.q_ends != nullptr) cut(0, begin, m.rows - begin);
  return blocks;
}

struct Work {
  const Merge& m;
  const Kernels& kernels;
  std::vector<MergeBlock> blocks;
  bool heads_inside = false, from_memory = false, around_caches = false;
  std::atomic<std::size_t> next = 0;

  std::vector<MergeDesk> desks = {};

  std::int64_t bytes(std::int64_t elements) const { return elements * static_cast<std::int64_t>(size_of(m.dtype)); }
  std::int64_t place(const View& view, const MergeBlock& block, std::int64_t head, std::int64_t row) const {
    return bytes(block.b * view.batch_stride + head * view.head_stride + (block.begin + row) * view.row_stride);
  }

  void add_rows(const MergeBlock& block, MergeDesk& desk) const {
    const std::int64_t lines = (heads_inside ? block.rows : block.heads).size(), rows = (heads_inside ? block.heads : block.rows).size();
    const auto step = [&](const View& view) { return bytes(heads_inside ? view.head_stride : view.row_stride); };
    for (std::size_t t = 0; t < m.parts.size(); ++t) desk.steps[t] = step(m.parts[t].out);
    for (std::int64_t line = 0; line < lines; ++line) {
      const std::int64_t head = block.heads.begin + (heads_inside ? 0 : line), row = block.rows.begin + (heads_inside ? line : 0);
      for (std::size_t t = 0; t < m.parts.size(); ++t) desk.outs[t] = m.parts[t].out.data + place(m.parts[t].out, block, head, row);
      const auto count = static_cast<std::int64_t>(m.parts.size());
      const float* const weights = desk.weights.data() + line * (heads_inside ? desk.row_step : desk.head_step);
      kernels.merge(m.dtype, {desk.outs.data(), desk.steps.data(), weights, heads_inside ? desk.head_step : desk.row_step, count, rows, m.dim_v,
                              m.result.out.data + place(m.result.out, block, head, row), step(m.result.out), !m.formula, from_memory, around_caches});
    }
  }

  static void run(void* argument, std::int32_t worker) {
    const Arithmetic arithmetic(Subnormals::kept);
    Work& work = *static_cast<Work*>(argument);
    MergeDesk& desk = work.desks[static_cast<std::size_t>(worker)];
    for (std::size_t i; (i = work.next++) < work.blocks.size();) {
      weigh(work.m, work.blocks[i], work.kernels, desk);
      work.add_rows(work.blocks[i], desk);
    }
  }
};

}  // namespace

Status check_merge(const Merge& m) {
  const auto parts = static_cast<std::int64_t>(m.parts.size());
  for (const Size& size : {Size{"batch", m.batch, 0}, Size{"heads", m.heads, 0}, Size{"rows", m.rows, 0}, Size{"dim_v", m.dim_v, 1}, Size{"count", parts, 1}})
    if (size.value < size.least)
      return Status::invalid(std::string(size.name) + " is " + std::to_string(size.value) + "; accepted: at least " + std::to_string(size.least));
  if (Status status = check_ends(m); !status.ok()) return status;
  for (std::size_t t = 0; t < m.parts.size(); ++t)
    if (Status status = check_partial(m, m.parts[t], "parts[" + std::to_string(t) + "]", false); !status.ok()) return status;
  return check_partial(m, m.result, "result", true);
}

void run_merge(const Merge& m, const Kernels& kernels, const Team& team) {
  if (m.heads == 0 || m.rows == 0) return;
  const View& out = m.result.out;
  const std::int64_t all = m.heads * m.rows * (m.q_ends ? 1 : m.batch);
  const std::int64_t lines = std::clamp(all / (4 * team.threads), kLeastLines, kMostLines);
  const bool heads_inside = m.heads > 1 && std::abs(out.head_stride) < std::abs(out.row_stride);
  const Cut cut(m, heads_inside, lines);
  Work work{m, kernels, blocks_of(m, cut), heads_inside};
  const double written = static_cast<double>(all) * static_cast<double>(m.dim_v) * static_cast<double>(size_of(m.dtype));
  const bool in_place = std::any_of(m.parts.begin(), m.parts.end(), [&](const Partial& part) { return part.out.data == out.data; });
  work.from_memory = written >= kBytesOfMemory;
  work.around_caches = work.from_memory && !in_place;
  const std::int64_t worth = std::min<std::int64_t>(team.threads, (all + kLeastLines - 1) / kLeastLines);
  const auto workers = std::min(static_cast<std::size_t>(worth), work.blocks.size());
  work.desks.assign(workers, MergeDesk(m, {0, 0, 0, {0, cut.heads}, {0, cut.rows}}));
  team.run(static_cast<std::int32_t>(workers), &Work::run, &work);
}

}  // namespace fusedattn
