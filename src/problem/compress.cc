// Every reason for refusing a compression: the argument, its value, what is accepted.
#include "problem/compress.h"

#include <cmath>
#include <initializer_list>
#include <limits>
#include <string>

namespace fusedattn {
namespace {

constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();

std::string text(std::int64_t n) { return std::to_string(n); }

Status refuse(const std::string& name, std::int64_t value, const std::string& accepted) {
  return Status::invalid(name + " is " + text(value) + "; accepted: " + accepted);
}

struct Size {
  const char* name;
  std::int64_t value, least, most;
};

Status check_sizes(std::initializer_list<Size> sizes) {
  for (const Size& size : sizes)
    if (size.value < size.least || size.value > size.most)
      return refuse(size.name, size.value, text(size.least) + " to " + text(size.most));
  return {};
}

struct Tensor {
  const char* name;
  const View& view;
  std::int64_t heads, rows, width;
  bool empty() const { return heads == 0 || rows == 0; }
};

Status check_reach(const Compress& p, const Tensor& tensor) {
  const auto reach = [](std::int64_t stride, std::int64_t count) {
    return std::fabs(static_cast<double>(stride)) * static_cast<double>(count - 1);
  };
  const double elements = reach(tensor.view.head_stride, tensor.heads) + reach(tensor.view.row_stride, tensor.rows) +
                          static_cast<double>(tensor.width);
  if (elements * static_cast<double>(size_of(p.dtype)) < 9.0e18) return {};
  return Status::invalid(std::string(tensor.name) + " has strides (" + text(tensor.view.head_stride) + ", " +
                         text(tensor.view.row_stride) +
                         ") that reach past the address space; accepted: strides of an existing tensor");
}

Status check_present(const Compress& p, const Tensor& tensor) {
  if (tensor.empty()) return {};
  if (tensor.view.data == nullptr)
    return Status::invalid(std::string(tensor.name) + ".data is NULL; accepted: the address of its first element");
  if (reinterpret_cast<std::uintptr_t>(tensor.view.data) % size_of(p.dtype) != 0)
    return Status::invalid(std::string(tensor.name) + ".data is not a multiple of " +
                           text(static_cast<std::int64_t>(size_of(p.dtype))) +
                           " bytes; accepted: an address aligned to its dtype, " + name_of(p.dtype));
  return check_reach(p, tensor);
}

// Elements of what is written must not lie on one another: the larger stride steps over all that the smaller one reaches.
Status check_steps(const Tensor& tensor) {
  struct Step {
    const char* name;
    std::int64_t stride, count;
    double size() const { return std::fabs(static_cast<double>(stride)); }
  };
  Step small{".head_stride", tensor.view.head_stride, tensor.heads}, large{".row_stride", tensor.view.row_stride, tensor.rows};
  if (small.size() > large.size()) std::swap(small, large);
  double reach = static_cast<double>(tensor.width);
  for (const Step& step : {small, large}) {
    if (step.count <= 1) continue;
    if (step.size() < reach)
      return refuse(tensor.name + std::string(step.name), step.stride,
                    "at least " + text(static_cast<std::int64_t>(reach)) +
                        " beside the other stride, for it is written and must not overlap itself");
    reach += step.size() * static_cast<double>(step.count - 1);
  }
  return {};
}

// What is written: present, without overlap, and not where something else lies.
Status check_written(const Compress& p, const Tensor& tensor, std::initializer_list<Tensor> others) {
  if (tensor.empty()) return {};
  if (Status status = check_present(p, tensor); !status.ok()) return status;
  if (Status status = check_steps(tensor); !status.ok()) return status;
  for (const Tensor& other : others)
    if (!other.empty() && other.view.data == tensor.view.data)
      return Status::invalid(std::string(tensor.name) + ".data is the address of " + other.name +
                             "; accepted: memory of its own, for it is written while " + other.name + " is in use");
  return {};
}

}  // namespace

Status check_windows(const std::int64_t* ends, std::int64_t sequences, std::int64_t block, std::int64_t stride) {
  if (Status status = check_sizes({{"sequences", sequences, 0, kMost}, {"block", block, 1, kMost}, {"stride", stride, 1, kMost}});
      !status.ok())
    return status;
  if (stride > block) return refuse("stride", stride, "1 to block, which is " + text(block));
  if (ends == nullptr && sequences > 0)
    return Status::invalid("ends is NULL; accepted: the address of " + text(sequences) + " cumulative ends");
  for (std::int64_t b = 0, before = 0; b < sequences; before = ends[b++])
    if (ends[b] < before)
      return refuse("ends[" + text(b) + "]", ends[b], "at least " + text(before) + ", where the sequence before it ends");
  return {};
}

Status check_compress(const Compress& p, Direction direction) {
  const bool one = p.ends == nullptr && p.sequences == 1;
  if (Status status = check_windows(p.ends, one ? 0 : p.sequences, p.block, p.stride); !status.ok()) return status;
  if (Status status = check_sizes({{"tokens", p.tokens, 0, kMost}, {"heads", p.heads, 1, kMost}, {"dim", p.dim, 1, kMost}});
      !status.ok())
    return status;
  if (p.ends != nullptr && p.sequences > 0 && p.ends[p.sequences - 1] > p.tokens)
    return refuse("ends[" + text(p.sequences - 1) + "]", p.ends[p.sequences - 1], "at most tokens, which is " + text(p.tokens));
  const std::int64_t windows = compressed_length(p);
  const Tensor input{"input", p.input, p.heads, p.tokens, p.dim}, weight{"weight", p.weight, p.heads, p.block, 1};
  if (direction == Direction::forward) {
    const Tensor output{"output", p.output, p.heads, windows, p.dim};
    if (output.empty()) return {};
    for (const Tensor& read : {input, weight})
      if (Status status = check_present(p, read); !status.ok()) return status;
    return check_written(p, output, {input, weight});
  }
  const Tensor d_output{"d_output", p.d_output, p.heads, windows, p.dim};
  const Tensor d_input{"d_input", p.d_input, p.heads, p.tokens, p.dim}, d_weight{"d_weight", p.d_weight, p.heads, p.block, 1};
  const bool wants_input = p.d_input.data != nullptr, wants_weight = p.d_weight.data != nullptr;
  if (Status status = check_present(p, d_output); !status.ok()) return status;
  if (wants_weight && windows > 0)
    if (Status status = check_present(p, input); !status.ok()) return status;
  if (wants_input && windows > 0)
    if (Status status = check_present(p, weight); !status.ok()) return status;
  if (wants_input)
    if (Status status = check_written(p, d_input, {input, weight, d_output, d_weight}); !status.ok()) return status;
  return wants_weight ? check_written(p, d_weight, {input, weight, d_output}) : Status{};
}

std::int64_t compressed_length(const Compress& p) {
  std::int64_t windows = 0;
  for (std::int64_t b = 0; b < p.sequences; ++b) {
    const Range tokens = tokens_of(p, b);
    windows += windows_of(tokens.end - tokens.begin, p.block, p.stride);
  }
  return windows;
}

}  // namespace fusedattn
