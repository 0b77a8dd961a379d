// aclCreateTensor and what else is done with one tensor.
#include <algorithm>

#include "message.h"
#include "meta/objects.h"

namespace fusedattn::cann {
namespace {

constexpr std::uint64_t kMostDimensions = 64;  // programs use up to 8; beyond this a count is a mistake

struct Wanted {
  const int64_t* dims;
  std::uint64_t rank;
  int dtype;
  const int64_t* strides;
  int64_t offset;
  int format;
  const int64_t* storage_dims;
  std::uint64_t storage_rank;
  void* data;
};

bool too_far(std::int64_t elements) { return elements > kFarthest || elements < -kFarthest; }
std::string far(std::int64_t elements) { return std::to_string(elements) + "; at most 2^56 either way is accepted"; }

int check(const char* function, const Wanted& wanted) {
  if (wanted.rank > kMostDimensions) {
    return invalid(function, "viewDimsNum is " + std::to_string(wanted.rank) + "; at most " + std::to_string(kMostDimensions) +
                                 " are accepted");
  }
  if (wanted.rank > 0 && wanted.dims == nullptr) {
    return refuse(ACLNN_ERR_PARAM_NULLPTR,
                  std::string(function) + ": viewDims is null, but viewDimsNum is " + std::to_string(wanted.rank));
  }
  for (std::uint64_t d = 0; d < wanted.rank; ++d) {
    if (wanted.dims[d] < 0) {
      return invalid(function, "viewDims[" + std::to_string(d) + "] is " + std::to_string(wanted.dims[d]) + "; 0 and more are accepted");
    }
  }
  for (std::uint64_t d = 0; wanted.strides != nullptr && d < wanted.rank; ++d) {
    if (too_far(wanted.strides[d])) return invalid(function, "stride[" + std::to_string(d) + "] is " + far(wanted.strides[d]));
  }
  if (too_far(wanted.offset)) return invalid(function, "offset is " + far(wanted.offset));
  if (wanted.storage_rank > kMostDimensions) {
    return invalid(function, "storageDimsNum is " + std::to_string(wanted.storage_rank) + "; at most " +
                                 std::to_string(kMostDimensions) + " are accepted");
  }
  const std::string dtype = text(static_cast<aclDataType>(wanted.dtype));
  if (dtype.starts_with("aclDataType ")) {
    return invalid(function, "dataType is " + std::to_string(wanted.dtype) + ", which is no data type");
  }
  return ACL_SUCCESS;
}

std::vector<std::int64_t> contiguous(const std::vector<std::int64_t>& shape) {
  std::vector<std::int64_t> strides(shape.size(), 1);
  for (std::size_t d = shape.size(); d-- > 1;) {
    // What overflows has more elements than memory has bytes; extent_bytes() says so again.
    if (__builtin_mul_overflow(strides[d], std::max<std::int64_t>(shape[d], 1), &strides[d - 1])) strides[d - 1] = kFarthest;
    strides[d - 1] = std::min(strides[d - 1], kFarthest);
  }
  return strides;
}

Tensor read(const Wanted& wanted) {
  Tensor tensor;
  tensor.dtype = static_cast<aclDataType>(wanted.dtype);
  tensor.format = static_cast<aclFormat>(wanted.format);
  if (wanted.rank > 0) tensor.shape.assign(wanted.dims, wanted.dims + wanted.rank);
  if (wanted.strides == nullptr) {
    tensor.strides = contiguous(tensor.shape);
  } else if (wanted.rank > 0) {
    tensor.strides.assign(wanted.strides, wanted.strides + wanted.rank);
  }
  if (wanted.storage_dims != nullptr) tensor.storage_shape.assign(wanted.storage_dims, wanted.storage_dims + wanted.storage_rank);
  tensor.offset = wanted.offset;
  tensor.data = wanted.data;
  return tensor;
}

// The live tensor behind a handle; null after keeping a sentence and setting `code`.
std::shared_ptr<Tensor> live(const char* function, const aclTensor* handle, int& code) {
  auto tensor = tensors().find(handle);
  if (tensor == nullptr) {
    code = refuse(handle == nullptr ? ACLNN_ERR_PARAM_NULLPTR : ACLNN_ERR_PARAM_INVALID,
                  std::string(function) + ": tensor " + why_not(handle, Kind::tensor));
  }
  return tensor;
}

int null_argument(const char* function, const char* argument) {
  return refuse(ACLNN_ERR_PARAM_NULLPTR, std::string(function) + ": " + argument + " is null; an address is required");
}

// Gives a copy in memory of new[], as the interface promises.
int tell_sizes(const char* function, const char* argument, const aclTensor* handle, std::vector<std::int64_t> Tensor::*sizes,
               int64_t** values, uint64_t* count) {
  return guarded(function, [&]() -> int {
    int code;
    const auto tensor = live(function, handle, code);
    if (tensor == nullptr) return code;
    if (values == nullptr || count == nullptr) return null_argument(function, argument);
    const auto& wanted = (*tensor).*sizes;
    *values = wanted.empty() ? nullptr : new int64_t[wanted.size()];
    std::copy(wanted.begin(), wanted.end(), *values);
    *count = wanted.size();
    return OK;
  });
}

template <class Value>
int tell(const char* function, const char* argument, const aclTensor* handle, Value Tensor::*member, Value* value) {
  int code;
  const auto tensor = live(function, handle, code);
  if (tensor == nullptr) return code;
  if (value == nullptr) return null_argument(function, argument);
  *value = (*tensor).*member;
  return OK;
}

}  // namespace

Handles<Tensor>& tensors() {
  static Handles<Tensor>& all = *new Handles<Tensor>(Kind::tensor);
  return all;
}

}  // namespace fusedattn::cann

using namespace fusedattn::cann;

aclTensor* aclCreateTensor(const int64_t* viewDims, uint64_t viewDimsNum, aclDataType dataType, const int64_t* stride, int64_t offset,
                           aclFormat format, const int64_t* storageDims, uint64_t storageDimsNum, void* tensorData) {
  const Wanted wanted{viewDims, viewDimsNum, dataType, stride, offset, format, storageDims, storageDimsNum, tensorData};
  void* handle = nullptr;
  guarded(__func__, [&]() -> int {
    if (const int code = check("aclCreateTensor", wanted)) return code;
    handle = tensors().add(std::make_shared<Tensor>(read(wanted)));
    return OK;
  });
  return static_cast<aclTensor*>(handle);
}

aclnnStatus aclInitTensor(aclTensor* tensor, const int64_t* viewDims, uint64_t viewDimsNum, aclDataType dataType, const int64_t* stride,
                          int64_t offset, aclFormat format, const int64_t* storageDims, uint64_t storageDimsNum, void* tensorData) {
  const Wanted wanted{viewDims, viewDimsNum, dataType, stride, offset, format, storageDims, storageDimsNum, tensorData};
  return guarded(__func__, [&]() -> int {
    int code;
    const auto old = live("aclInitTensor", tensor, code);
    if (old == nullptr) return code;
    if (const int refused = check("aclInitTensor", wanted)) return refused;
    *old = read(wanted);
    return OK;
  });
}

aclnnStatus aclDestroyTensor(const aclTensor* tensor) {
  int code = OK;
  if (tensor == nullptr || live(__func__, tensor, code) == nullptr) return code;
  tensors().take(tensor);
  return OK;
}

aclnnStatus aclGetViewShape(const aclTensor* tensor, int64_t** viewDims, uint64_t* viewDimsNum) {
  return tell_sizes(__func__, "viewDims or viewDimsNum", tensor, &Tensor::shape, viewDims, viewDimsNum);
}

aclnnStatus aclGetStorageShape(const aclTensor* tensor, int64_t** storageDims, uint64_t* storageDimsNum) {
  return tell_sizes(__func__, "storageDims or storageDimsNum", tensor, &Tensor::storage_shape, storageDims, storageDimsNum);
}

aclnnStatus aclGetViewStrides(const aclTensor* tensor, int64_t** stridesValue, uint64_t* stridesNum) {
  return tell_sizes(__func__, "stridesValue or stridesNum", tensor, &Tensor::strides, stridesValue, stridesNum);
}

aclnnStatus aclGetViewOffset(const aclTensor* tensor, int64_t* offset) {
  return tell(__func__, "offset", tensor, &Tensor::offset, offset);
}

aclnnStatus aclGetFormat(const aclTensor* tensor, aclFormat* format) {
  return tell(__func__, "format", tensor, &Tensor::format, format);
}

aclnnStatus aclGetDataType(const aclTensor* tensor, aclDataType* dataType) {
  return tell(__func__, "dataType", tensor, &Tensor::dtype, dataType);
}

aclnnStatus aclGetRawTensorAddr(const aclTensor* tensor, void** addr) { return tell(__func__, "addr", tensor, &Tensor::data, addr); }

aclnnStatus aclSetRawTensorAddr(aclTensor* tensor, void* addr) {
  int code;
  const auto target = live(__func__, tensor, code);
  if (target == nullptr) return code;
  target->data = addr;
  return OK;
}

aclnnStatus aclDumpOpTensors(const char*, const char*, aclTensor**, size_t, size_t, aclrtStream) {
  return refuse(ACL_ERROR_RT_FEATURE_NOT_SUPPORT, "aclDumpOpTensors is not supported: a debugger reads the tensors' memory as it is");
}
