// What aclTensor and its relatives stand for. A handle is a number, never an address: unknown and dead ones are told from live ones
// without looking behind them (runtime/handles.h).
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "aclnn/acl_meta.h"

namespace fusedattn::cann {

// No memory has so many bytes: strides, offsets and extents beyond it are mistakes, and products of smaller ones with sizes of
// elements are numbers still.
constexpr std::int64_t kFarthest = std::int64_t{1} << 56;

// A view of a block of memory that the caller owns.
struct Tensor {
  aclDataType dtype = ACL_DT_UNDEFINED;
  aclFormat format = ACL_FORMAT_ND;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;        // of the view, in elements, one per dimension
  std::vector<std::int64_t> storage_shape;  // of the block; may be empty
  std::int64_t offset = 0;                  // of the view's first element from the start of the block, in elements
  void* data = nullptr;                     // the start of the block

  std::int64_t rank() const { return static_cast<std::int64_t>(shape.size()); }
  std::int64_t elements() const;  // product of the shape; 1 for rank 0; INT64_MAX if it is more
  bool empty() const { return elements() == 0; }
  // Bytes from the start of the block to the end of the last element that the view reaches; nullopt if that is before it or beyond kFarthest.
  std::optional<std::int64_t> extent_bytes() const;
};

// The address of the view's first element, when the block starts at `block`.
void* first_element(const Tensor& tensor, void* block);

// "[2, 8, 1024, 64]"
std::string text(const std::vector<std::int64_t>& shape);
// "ACL_FLOAT16", or "aclDataType 77"
std::string text(aclDataType dtype);

// What the handles of an operator's arguments mean; null or nullopt for null, unknown and dead handles. What is returned stays
// valid even if another thread destroys the handle.
std::shared_ptr<const Tensor> tensor_of(const aclTensor* handle);
std::optional<std::vector<std::shared_ptr<const Tensor>>> tensors_of(const aclTensorList* handle);
std::optional<std::vector<std::int64_t>> ints_of(const aclIntArray* handle);
std::optional<std::vector<float>> floats_of(const aclFloatArray* handle);
std::optional<std::vector<bool>> bools_of(const aclBoolArray* handle);

// An attribute text up to its terminator; nullopt if there is none within the first 64 characters. Never null.
std::optional<std::string> attribute_text(const char* text);

}  // namespace fusedattn::cann
