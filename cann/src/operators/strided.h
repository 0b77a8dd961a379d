// Arrays that lie in memory by strides: what the library takes only contiguous is gathered before a run and scattered after it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "meta/tensor.h"

namespace fusedattn::cann {

using Dims = std::vector<std::int64_t>;

// Bytes of an element; 0 for the types that no operator here takes.
std::int64_t bytes_of(aclDataType dtype);

// Strides, in elements, of a fresh array of this shape.
Dims contiguous_strides(const Dims& shape);
bool is_contiguous(const Tensor& tensor);
// Whether the elements of the last dimension lie side by side.
bool rows_are_contiguous(const Tensor& tensor);
// Whether two elements may share an address: sorted by size, a stride does not step over all that the smaller ones reach.
bool overlaps_itself(const Tensor& tensor);

// An array in memory: its shape is given beside it, strides are in elements.
struct Place {
  std::byte* data = nullptr;
  const Dims* strides = nullptr;
};
void copy_elements(const Dims& shape, std::int64_t width, const Place& from, const Place& to);
void clear_elements(const Dims& shape, std::int64_t width, const Place& to);

}  // namespace fusedattn::cann
