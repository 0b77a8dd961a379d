// Half precision, sizes of types, data buffers.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "runtime/arguments.h"
#include "runtime/handles.h"

namespace fusedattn::cann {
namespace {

struct DataBuffer {
  void* data = nullptr;
  std::size_t size = 0;
};

Handles<DataBuffer>& buffers() {
  static Handles<DataBuffer>& all = *new Handles<DataBuffer>(Kind::data_buffer);
  return all;
}

std::shared_ptr<DataBuffer> buffer_of(const char* function, const aclDataBuffer* handle) {
  if (handle == nullptr) return null_result(function, "dataBuffer"), nullptr;
  auto buffer = buffers().find(handle);
  if (buffer == nullptr) {
    refuse(ACL_ERROR_INVALID_PARAM, std::string(function) + ": dataBuffer " + why_not(handle, Kind::data_buffer));
  }
  return buffer;
}

constexpr float kLargestHalf = 65504.0f;

}  // namespace
}  // namespace fusedattn::cann

using namespace fusedattn::cann;

aclFloat16 aclFloatToFloat16(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000);
  const float size = std::bit_cast<float>(bits & 0x7FFF'FFFF);
  if (!(size <= kLargestHalf)) return static_cast<aclFloat16>(sign | 0x7BFF);  // larger, infinite, or not a number
  // In steps of the half's last place, to nearest even: an ulp of a half is 2^-24 below 2^-14, and 2^-10 of the power of two above.
  const int exponent = std::max(std::ilogb(size == 0 ? 0x1p-24f : size), -14);
  const auto steps = static_cast<std::uint32_t>(std::nearbyint(std::ldexp(size, 10 - exponent)));
  const std::uint32_t half = static_cast<std::uint32_t>(exponent + 14) * 0x400 + steps;  // a carry goes into the exponent
  return static_cast<aclFloat16>(sign | std::min(half, 0x7BFFu));
}

float aclFloat16ToFloat(aclFloat16 value) {
  const int exponent = value >> 10 & 0x1F;
  const int fraction = value & 0x3FF;
  const float size = exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                   : std::ldexp(static_cast<float>(0x400 + fraction), exponent - 25);
  return (value & 0x8000) != 0 ? -size : size;
}

size_t aclDataTypeSize(aclDataType dataType) {
  switch (static_cast<int>(dataType)) {
    case ACL_INT8: case ACL_UINT8: case ACL_BOOL: case ACL_INT4: case ACL_UINT1:
    case ACL_HIFLOAT8: case ACL_FLOAT8_E5M2: case ACL_FLOAT8_E4M3FN: case ACL_FLOAT8_E8M0: return 1;
    case ACL_FLOAT16: case ACL_BF16: case ACL_INT16: case ACL_UINT16: return 2;
    case ACL_FLOAT: case ACL_INT32: case ACL_UINT32: case ACL_COMPLEX32: return 4;
    case ACL_INT64: case ACL_UINT64: case ACL_DOUBLE: case ACL_COMPLEX64: return 8;
    case ACL_FLOAT6_E3M2: case ACL_FLOAT6_E2M3: case ACL_FLOAT4_E2M1: case ACL_FLOAT4_E1M2: return 8;  // as devices say
    case ACL_COMPLEX128: return 16;
    default: return 0;
  }
}

aclDataBuffer* aclCreateDataBuffer(void* data, size_t size) {
  void* handle = nullptr;
  runtime_call(__func__, [&] {
    handle = buffers().add(std::make_shared<DataBuffer>(DataBuffer{data, size}));
    return ACL_SUCCESS;
  });
  return static_cast<aclDataBuffer*>(handle);
}

aclError aclDestroyDataBuffer(const aclDataBuffer* dataBuffer) {
  if (buffer_of(__func__, dataBuffer) == nullptr) return ACL_ERROR_INVALID_PARAM;
  buffers().take(dataBuffer);
  return ACL_SUCCESS;
}

aclError aclUpdateDataBuffer(aclDataBuffer* dataBuffer, void* data, size_t size) {
  const auto buffer = buffer_of(__func__, dataBuffer);
  if (buffer == nullptr) return ACL_ERROR_INVALID_PARAM;
  *buffer = {data, size};
  return ACL_SUCCESS;
}

void* aclGetDataBufferAddr(const aclDataBuffer* dataBuffer) {
  const auto buffer = buffer_of(__func__, dataBuffer);
  return buffer == nullptr ? nullptr : buffer->data;
}

uint32_t aclGetDataBufferSize(const aclDataBuffer* dataBuffer) { return static_cast<uint32_t>(aclGetDataBufferSizeV2(dataBuffer)); }

size_t aclGetDataBufferSizeV2(const aclDataBuffer* dataBuffer) {
  const auto buffer = buffer_of(__func__, dataBuffer);
  return buffer == nullptr ? 0 : buffer->size;
}
