// Tensors: sizes, reach, and how they are written in sentences.
#include "meta/tensor.h"

#include <cstring>
#include <limits>

#include "meta/objects.h"

namespace fusedattn::cann {
namespace {

constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

struct Name {
  aclDataType dtype;
  const char* name;
};
constexpr Name kNames[] = {
    {ACL_DT_UNDEFINED, "ACL_DT_UNDEFINED"}, {ACL_FLOAT, "ACL_FLOAT"},         {ACL_FLOAT16, "ACL_FLOAT16"},
    {ACL_INT8, "ACL_INT8"},                 {ACL_INT32, "ACL_INT32"},         {ACL_UINT8, "ACL_UINT8"},
    {ACL_INT16, "ACL_INT16"},               {ACL_UINT16, "ACL_UINT16"},       {ACL_UINT32, "ACL_UINT32"},
    {ACL_INT64, "ACL_INT64"},               {ACL_UINT64, "ACL_UINT64"},       {ACL_DOUBLE, "ACL_DOUBLE"},
    {ACL_BOOL, "ACL_BOOL"},                 {ACL_STRING, "ACL_STRING"},       {ACL_COMPLEX64, "ACL_COMPLEX64"},
    {ACL_COMPLEX128, "ACL_COMPLEX128"},     {ACL_BF16, "ACL_BF16"},           {ACL_INT4, "ACL_INT4"},
    {ACL_UINT1, "ACL_UINT1"},               {ACL_COMPLEX32, "ACL_COMPLEX32"}, {ACL_HIFLOAT8, "ACL_HIFLOAT8"},
    {ACL_FLOAT8_E5M2, "ACL_FLOAT8_E5M2"},   {ACL_FLOAT8_E4M3FN, "ACL_FLOAT8_E4M3FN"},
    {ACL_FLOAT8_E8M0, "ACL_FLOAT8_E8M0"},   {ACL_FLOAT6_E3M2, "ACL_FLOAT6_E3M2"},
    {ACL_FLOAT6_E2M3, "ACL_FLOAT6_E2M3"},   {ACL_FLOAT4_E2M1, "ACL_FLOAT4_E2M1"},
    {ACL_FLOAT4_E1M2, "ACL_FLOAT4_E1M2"}};

// Bits of an element as it lies in memory.
std::int64_t bits_of(aclDataType dtype) {
  if (dtype == ACL_UINT1) return 1;
  if (dtype == ACL_INT4) return 4;
  return 8 * static_cast<std::int64_t>(aclDataTypeSize(dtype));
}

}  // namespace

std::int64_t Tensor::elements() const {
  std::int64_t product = 1;
  bool over = false;
  for (const std::int64_t size : shape) {
    if (size == 0) return 0;
    over |= __builtin_mul_overflow(product, size, &product);
  }
  return over ? kMost : product;
}

std::optional<std::int64_t> Tensor::extent_bytes() const {
  if (empty()) return 0;
  std::int64_t lowest = offset, highest = offset;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    std::int64_t reach;
    if (__builtin_mul_overflow(shape[d] - 1, strides[d], &reach)) return std::nullopt;
    std::int64_t& end = reach < 0 ? lowest : highest;
    if (__builtin_add_overflow(end, reach, &end)) return std::nullopt;
  }
  std::int64_t bits;
  if (lowest < 0 || __builtin_mul_overflow(highest, bits_of(dtype), &bits) || bits > kMost - 7 - bits_of(dtype)) return std::nullopt;
  const std::int64_t bytes = (bits + bits_of(dtype) + 7) / 8;
  return bytes <= kFarthest ? std::optional(bytes) : std::nullopt;
}

void* first_element(const Tensor& tensor, void* block) {
  if (block == nullptr || tensor.empty()) return block;  // an empty view may have any offset
  // Wild offsets wrap: whoever looks behind the address has asked extent_bytes() before.
  const std::int64_t bits = bits_of(tensor.dtype);
  const auto bytes = bits % 8 == 0 ? static_cast<std::uint64_t>(tensor.offset) * static_cast<std::uint64_t>(bits / 8)
                                   : static_cast<std::uint64_t>(tensor.offset / (8 / bits));
  return reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(block) + bytes);
}

std::string text(const std::vector<std::int64_t>& shape) {
  std::string sizes;
  for (const std::int64_t size : shape) sizes += (sizes.empty() ? "" : ", ") + std::to_string(size);
  return "[" + sizes + "]";
}

std::string text(aclDataType dtype) {
  const int number = dtype;
  for (const Name& each : kNames) {
    if (each.dtype == number) return each.name;
  }
  return "aclDataType " + std::to_string(number);
}

std::shared_ptr<const Tensor> tensor_of(const aclTensor* handle) { return tensors().find(handle); }

std::optional<std::vector<std::shared_ptr<const Tensor>>> tensors_of(const aclTensorList* handle) {
  const auto list = tensor_lists().find(handle);
  if (list == nullptr) return std::nullopt;
  std::vector<std::shared_ptr<const Tensor>> members;
  for (void* member : list->members) {
    members.push_back(tensors().find(member));
    if (members.back() == nullptr) return std::nullopt;
  }
  return members;
}

std::optional<std::vector<std::int64_t>> ints_of(const aclIntArray* handle) {
  const auto array = int_arrays().find(handle);
  return array == nullptr ? std::nullopt : std::optional(*array);
}

std::optional<std::vector<float>> floats_of(const aclFloatArray* handle) {
  const auto array = float_arrays().find(handle);
  return array == nullptr ? std::nullopt : std::optional(*array);
}

std::optional<std::vector<bool>> bools_of(const aclBoolArray* handle) {
  const auto array = bool_arrays().find(handle);
  return array == nullptr ? std::nullopt : std::optional(*array);
}

std::optional<std::string> attribute_text(const char* text) {
  constexpr std::size_t kLongest = 64;
  const std::size_t length = strnlen(text, kLongest);
  if (length == kLongest) return std::nullopt;
  return std::string(text, length);
}

}  // namespace fusedattn::cann
