// Scalars, arrays and lists.
#include <cstring>

#include "message.h"
#include "meta/objects.h"

namespace fusedattn::cann {
namespace {

constexpr uint64_t kLongest = uint64_t{1} << 28;  // beyond this a size is a mistake

int check_size(const char* function, uint64_t size) {
  if (size <= kLongest) return OK;
  return refuse(ACLNN_ERR_PARAM_INVALID, std::string(function) + ": size is " + std::to_string(size) + "; at most " +
                                             std::to_string(kLongest) + " is accepted");
}

// The three kinds of arrays are one template; what they hold is copied.
template <class Value>
void* create_array(const char* function, Handles<std::vector<Value>>& table, const Value* values, uint64_t size) {
  void* handle = nullptr;
  guarded(function, [&]() -> int {
    auto array = std::make_shared<std::vector<Value>>();
    if (const int code = check_size(function, size)) return code;
    if (values != nullptr) array->assign(values, values + size);
    handle = table.add(std::move(array));
    return OK;
  });
  return handle;
}

// A list of the handles of live objects; null after keeping a sentence.
template <class Object>
void* create_list(const char* function, Handles<List>& table, const Handles<Object>& members, Kind kind, const void* const* values,
                  uint64_t size) {
  void* handle = nullptr;
  guarded(function, [&]() -> int {
    if (const int code = check_size(function, size)) return code;
    auto list = std::make_shared<List>();
    for (uint64_t i = 0; values != nullptr && i < size; ++i) {
      if (members.find(values[i]) == nullptr) {
        return refuse(ACLNN_ERR_PARAM_INVALID,
                      std::string(function) + ": value[" + std::to_string(i) + "] " + why_not(values[i], kind));
      }
      list->members.push_back(const_cast<void*>(values[i]));
    }
    handle = table.add(std::move(list));
    return OK;
  });
  return handle;
}

template <class Object>
std::shared_ptr<Object> take(const char* function, const char* argument, Handles<Object>& table, Kind kind, const void* handle,
                             int& code) {
  code = OK;
  if (handle == nullptr) return nullptr;
  auto object = table.take(handle);
  if (object == nullptr) code = refuse(ACLNN_ERR_PARAM_INVALID, std::string(function) + ": " + argument + " " + why_not(handle, kind));
  return object;
}

template <class Object>
int destroy(const char* function, const char* argument, Handles<Object>& table, Kind kind, const void* handle) {
  int code;
  take(function, argument, table, kind, handle, code);
  return code;
}

// The list and its members; members that were destroyed on their own are the program's habit, and no harm.
template <class Object>
int destroy_list(const char* function, const char* argument, Handles<List>& table, Kind kind, Handles<Object>& members,
                 const void* handle) {
  int code;
  const auto list = take(function, argument, table, kind, handle, code);
  if (list == nullptr) return code;
  for (void* member : list->members) members.take(member);
  return OK;
}

template <class Object, class Size>
int tell_size(const char* function, const char* argument, const Handles<Object>& table, Kind kind, const void* handle, uint64_t* size,
              Size size_of) {
  const auto object = table.find(handle);
  if (object == nullptr) {
    return refuse(handle == nullptr ? ACLNN_ERR_PARAM_NULLPTR : ACLNN_ERR_PARAM_INVALID,
                  std::string(function) + ": " + argument + " " + why_not(handle, kind));
  }
  if (size == nullptr) return refuse(ACLNN_ERR_PARAM_NULLPTR, std::string(function) + ": size is null; an address is required");
  *size = size_of(*object);
  return OK;
}

constexpr auto kSizeOfArray = [](const auto& array) { return array.size(); };
constexpr auto kSizeOfList = [](const List& list) { return list.members.size(); };

}  // namespace

Handles<Scalar>& scalars() {
  static Handles<Scalar>& all = *new Handles<Scalar>(Kind::scalar);
  return all;
}

Handles<std::vector<std::int64_t>>& int_arrays() {
  static auto& all = *new Handles<std::vector<std::int64_t>>(Kind::int_array);
  return all;
}

Handles<std::vector<float>>& float_arrays() {
  static auto& all = *new Handles<std::vector<float>>(Kind::float_array);
  return all;
}

Handles<std::vector<bool>>& bool_arrays() {
  static auto& all = *new Handles<std::vector<bool>>(Kind::bool_array);
  return all;
}

Handles<List>& tensor_lists() {
  static auto& all = *new Handles<List>(Kind::tensor_list);
  return all;
}

Handles<List>& scalar_lists() {
  static auto& all = *new Handles<List>(Kind::scalar_list);
  return all;
}

}  // namespace fusedattn::cann

using namespace fusedattn::cann;

aclScalar* aclCreateScalar(void* value, aclDataType dataType) {
  const int dtype = dataType;
  void* handle = nullptr;
  guarded(__func__, [&]() -> int {
    const std::size_t size = aclDataTypeSize(static_cast<aclDataType>(dtype));
    if (value == nullptr) return refuse(ACLNN_ERR_PARAM_NULLPTR, "aclCreateScalar: value is null; an address is required");
    if (size == 0) {
      return refuse(ACLNN_ERR_PARAM_INVALID, "aclCreateScalar: dataType is " + std::to_string(dtype) + ", which has no size");
    }
    auto scalar = std::make_shared<Scalar>();
    scalar->value.resize(size);
    std::memcpy(scalar->value.data(), value, size);
    scalar->dtype = static_cast<aclDataType>(dtype);
    handle = scalars().add(std::move(scalar));
    return OK;
  });
  return static_cast<aclScalar*>(handle);
}

aclnnStatus aclDestroyScalar(const aclScalar* scalar) { return destroy(__func__, "scalar", scalars(), Kind::scalar, scalar); }

aclIntArray* aclCreateIntArray(const int64_t* value, uint64_t size) {
  return static_cast<aclIntArray*>(create_array(__func__, int_arrays(), value, size));
}

aclnnStatus aclDestroyIntArray(const aclIntArray* array) { return destroy(__func__, "array", int_arrays(), Kind::int_array, array); }

aclFloatArray* aclCreateFloatArray(const float* value, uint64_t size) {
  return static_cast<aclFloatArray*>(create_array(__func__, float_arrays(), value, size));
}

aclnnStatus aclDestroyFloatArray(const aclFloatArray* array) {
  return destroy(__func__, "array", float_arrays(), Kind::float_array, array);
}

aclBoolArray* aclCreateBoolArray(const bool* value, uint64_t size) {
  return static_cast<aclBoolArray*>(create_array(__func__, bool_arrays(), value, size));
}

aclnnStatus aclDestroyBoolArray(const aclBoolArray* array) { return destroy(__func__, "array", bool_arrays(), Kind::bool_array, array); }

aclTensorList* aclCreateTensorList(const aclTensor* const* value, uint64_t size) {
  return static_cast<aclTensorList*>(create_list(__func__, tensor_lists(), tensors(), Kind::tensor,
                                                 reinterpret_cast<const void* const*>(value), size));
}

aclnnStatus aclDestroyTensorList(const aclTensorList* array) {
  return destroy_list(__func__, "array", tensor_lists(), Kind::tensor_list, tensors(), array);
}

aclScalarList* aclCreateScalarList(const aclScalar* const* value, uint64_t size) {
  return static_cast<aclScalarList*>(create_list(__func__, scalar_lists(), scalars(), Kind::scalar,
                                                 reinterpret_cast<const void* const*>(value), size));
}

aclnnStatus aclDestroyScalarList(const aclScalarList* array) {
  return destroy_list(__func__, "array", scalar_lists(), Kind::scalar_list, scalars(), array);
}

aclnnStatus aclGetIntArraySize(const aclIntArray* array, uint64_t* size) {
  return tell_size(__func__, "array", int_arrays(), Kind::int_array, array, size, kSizeOfArray);
}

aclnnStatus aclGetFloatArraySize(const aclFloatArray* array, uint64_t* size) {
  return tell_size(__func__, "array", float_arrays(), Kind::float_array, array, size, kSizeOfArray);
}

aclnnStatus aclGetBoolArraySize(const aclBoolArray* array, uint64_t* size) {
  return tell_size(__func__, "array", bool_arrays(), Kind::bool_array, array, size, kSizeOfArray);
}

aclnnStatus aclGetTensorListSize(const aclTensorList* tensorList, uint64_t* size) {
  return tell_size(__func__, "tensorList", tensor_lists(), Kind::tensor_list, tensorList, size, kSizeOfList);
}

aclnnStatus aclGetScalarListSize(const aclScalarList* scalarList, uint64_t* size) {
  return tell_size(__func__, "scalarList", scalar_lists(), Kind::scalar_list, scalarList, size, kSizeOfList);
}
