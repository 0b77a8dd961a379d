#include "operators/strided.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>

namespace fusedattn::cann {
namespace {

// How far a stride goes; the least number has no opposite.
std::uint64_t size_of(std::int64_t stride) {
  return stride < 0 ? 0 - static_cast<std::uint64_t>(stride) : static_cast<std::uint64_t>(stride);
}

// row(from, to, count) for every run of the last dimension; offsets are in elements.
template <class Row>
void each_row(const Dims& shape, const Dims& from, const Dims& to, const Row& row) {
  if (shape.empty()) return row(0, 0);
  const std::size_t outer = shape.size() - 1;
  Dims at(outer, 0);
  for (std::int64_t here = 0, there = 0;;) {
    row(here, there);
    std::size_t axis = outer;
    while (axis > 0) {
      --axis;
      here += from[axis], there += to[axis];
      if (++at[axis] < shape[axis]) break;
      here -= at[axis] * from[axis], there -= at[axis] * to[axis];
      at[axis] = 0;
      if (axis == 0) return;
    }
    if (outer == 0) return;
  }
}

bool is_empty(const Dims& shape) { return std::find(shape.begin(), shape.end(), 0) != shape.end(); }

template <class Element>
void copy_row(const std::byte* from, std::int64_t step, std::byte* to, std::int64_t to_step, std::int64_t count) {
  const auto* source = reinterpret_cast<const Element*>(from);
  auto* target = reinterpret_cast<Element*>(to);
  for (std::int64_t i = 0; i < count; ++i) std::memcpy(&target[i * to_step], &source[i * step], sizeof(Element));
}

}  // namespace

std::int64_t bytes_of(aclDataType dtype) {
  switch (dtype) {
    case ACL_FLOAT: return 4;
    case ACL_FLOAT16:
    case ACL_BF16: return 2;
    case ACL_UINT8:
    case ACL_BOOL: return 1;
    case ACL_INT64: return 8;
    default: return 0;
  }
}

Dims contiguous_strides(const Dims& shape) {
  Dims strides(shape.size());
  std::int64_t step = 1;
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    strides[axis] = step;
    step *= std::max<std::int64_t>(shape[axis], 1);
  }
  return strides;
}

bool is_contiguous(const Tensor& tensor) {
  if (tensor.empty()) return true;
  std::int64_t step = 1;
  for (std::size_t axis = tensor.shape.size(); axis-- > 0;) {
    if (tensor.shape[axis] > 1 && tensor.strides[axis] != step) return false;
    step *= tensor.shape[axis];
  }
  return true;
}

bool rows_are_contiguous(const Tensor& tensor) {
  return tensor.shape.empty() || tensor.shape.back() <= 1 || tensor.strides.back() == 1;
}

bool overlaps_itself(const Tensor& tensor) {
  if (tensor.empty()) return false;
  std::vector<std::size_t> order(tensor.shape.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](auto a, auto b) { return size_of(tensor.strides[a]) < size_of(tensor.strides[b]); });
  double reach = 1;
  for (const std::size_t axis : order) {
    if (tensor.shape[axis] <= 1) continue;
    const double step = std::abs(static_cast<double>(tensor.strides[axis]));
    if (step < reach) return true;
    reach += step * static_cast<double>(tensor.shape[axis] - 1);
  }
  return false;
}

void copy_elements(const Dims& shape, std::int64_t width, const Place& from, const Place& to) {
  if (is_empty(shape)) return;
  const std::int64_t count = shape.empty() ? 1 : shape.back();
  const std::int64_t step = shape.empty() ? 1 : from.strides->back(), to_step = shape.empty() ? 1 : to.strides->back();
  each_row(shape, *from.strides, *to.strides, [&](std::int64_t here, std::int64_t there) {
    const std::byte* source = from.data + here * width;
    std::byte* target = to.data + there * width;
    if (step == 1 && to_step == 1)
      std::memcpy(target, source, static_cast<std::size_t>(count * width));
    else if (width == 1)
      copy_row<std::uint8_t>(source, step, target, to_step, count);
    else if (width == 2)
      copy_row<std::uint16_t>(source, step, target, to_step, count);
    else if (width == 4)
      copy_row<std::uint32_t>(source, step, target, to_step, count);
    else
      copy_row<std::uint64_t>(source, step, target, to_step, count);
  });
}

void clear_elements(const Dims& shape, std::int64_t width, const Place& to) {
  if (is_empty(shape)) return;
  const std::int64_t count = shape.empty() ? 1 : shape.back(), step = shape.empty() ? 1 : to.strides->back();
  each_row(shape, *to.strides, *to.strides, [&](std::int64_t here, std::int64_t) {
    std::byte* target = to.data + here * width;
    if (step == 1) {
      std::memset(target, 0, static_cast<std::size_t>(count * width));
      return;
    }
    for (std::int64_t i = 0; i < count; ++i) std::memset(target + i * step * width, 0, static_cast<std::size_t>(width));
  });
}

}  // namespace fusedattn::cann
