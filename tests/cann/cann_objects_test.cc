// Tensors, scalars, arrays and lists; handles that are dead, unknown or of another kind.
#include <thread>
#include <vector>

#include "acl_check.h"

namespace {

const int64_t kDims[] = {2, 3, 4};

aclTensor* tensor(const int64_t* dims = kDims, uint64_t rank = 3, aclDataType dtype = ACL_FLOAT16) {
  return aclCreateTensor(dims, rank, dtype, nullptr, 0, ACL_FORMAT_ND, dims, rank, nullptr);
}

template <class Handle>
Handle* as(void* address) {
  return static_cast<Handle*>(address);
}

}  // namespace

TEST(a_tensor_tells_what_it_was_told) {
  int64_t dims[] = {2, 3, 4}, storage[] = {100};
  aclTensor* made = aclCreateTensor(dims, 3, ACL_BF16, nullptr, 5, ACL_FORMAT_NCHW, storage, 1, wild());
  dims[0] = 77;  // copied
  int64_t *sizes = nullptr, offset = 0;
  uint64_t count = 0;
  FINE(aclGetViewShape(made, &sizes, &count));
  CHECK(count == 3 && sizes[0] == 2 && sizes[2] == 4);
  delete[] sizes;
  FINE(aclGetViewStrides(made, &sizes, &count));
  CHECK(count == 3 && sizes[0] == 12 && sizes[1] == 4 && sizes[2] == 1);
  delete[] sizes;
  FINE(aclGetStorageShape(made, &sizes, &count));
  CHECK(count == 1 && sizes[0] == 100);
  delete[] sizes;
  FINE(aclGetViewOffset(made, &offset));
  CHECK_EQ(offset, 5);
  aclFormat format;
  aclDataType dtype;
  void* address;
  FINE(aclGetFormat(made, &format));
  FINE(aclGetDataType(made, &dtype));
  FINE(aclGetRawTensorAddr(made, &address));
  CHECK(format == ACL_FORMAT_NCHW && dtype == ACL_BF16 && address == wild());
  FINE(aclSetRawTensorAddr(made, nullptr));
  FINE(aclGetRawTensorAddr(made, &address));
  CHECK(address == nullptr);
  const int64_t strides[] = {9};
  FINE(aclInitTensor(made, dims, 1, ACL_FLOAT, strides, 0, ACL_FORMAT_ND, nullptr, 0, nullptr));
  FINE(aclGetViewStrides(made, &sizes, &count));
  CHECK(count == 1 && sizes[0] == 9);
  delete[] sizes;
  FINE(aclDestroyTensor(made));
  REFUSED(aclDestroyTensor(made), 161002);
  REFUSED(aclGetViewOffset(made, &offset), 161002);
  REFUSED(aclInitTensor(made, dims, 1, ACL_FLOAT, strides, 0, ACL_FORMAT_ND, nullptr, 0, nullptr), 161002);
}

TEST(rank_zero_and_empty_tensors) {
  aclTensor* scalar = aclCreateTensor(nullptr, 0, ACL_FLOAT, nullptr, 0, ACL_FORMAT_ND, nullptr, 0, nullptr);
  int64_t* sizes = as<int64_t>(wild());
  uint64_t count = 9;
  FINE(aclGetViewShape(scalar, &sizes, &count));
  CHECK(sizes == nullptr && count == 0);
  FINE(aclDestroyTensor(scalar));
  const int64_t empty[] = {0, INT64_MAX, INT64_MAX};
  aclTensor* nothing = tensor(empty);
  CHECK(nothing != nullptr);
  FINE(aclDestroyTensor(nothing));
}

TEST(what_is_no_tensor_is_refused) {
  const int64_t negative[] = {2, -1};
  message();
  CHECK(tensor(nullptr, 2) == nullptr);
  CHECK(message().find("aclCreateTensor: viewDims is null") == 0);
  CHECK(tensor(negative, 2) == nullptr);
  CHECK(message().find("aclCreateTensor: viewDims[1] is -1") == 0);
  CHECK(tensor(kDims, uint64_t{1} << 60) == nullptr);
  CHECK(message().find("viewDimsNum is") != std::string::npos);
  CHECK(tensor(kDims, 3, static_cast<aclDataType>(77)) == nullptr);
  CHECK(message().find("dataType is 77") != std::string::npos);
  CHECK(aclCreateTensor(kDims, 3, ACL_FLOAT, nullptr, 0, ACL_FORMAT_ND, kDims, 1000, nullptr) == nullptr);
  const int64_t far[] = {12, INT64_MIN, 1};
  message();
  CHECK(aclCreateTensor(kDims, 3, ACL_FLOAT, far, 0, ACL_FORMAT_ND, nullptr, 0, nullptr) == nullptr);
  CHECK(message().find("aclCreateTensor: stride[1] is -9223372036854775808; at most 2^56") == 0);
  CHECK(aclCreateTensor(kDims, 3, ACL_FLOAT, nullptr, INT64_MAX, ACL_FORMAT_ND, nullptr, 0, nullptr) == nullptr);
  uint64_t count;
  REFUSED(aclGetViewShape(nullptr, nullptr, &count), 161001);
  aclTensor* made = tensor();
  REFUSED(aclGetViewShape(made, nullptr, &count), 161001);
  REFUSED(aclGetViewOffset(made, nullptr), 161001);
  REFUSED(aclGetViewOffset(as<aclTensor>(wild()), nullptr), 161002);
  REFUSED(aclSetRawTensorAddr(nullptr, nullptr), 161001);
  REFUSED(aclGetRawTensorAddr(nullptr, nullptr), 161001);
  REFUSED(aclDestroyTensor(as<aclTensor>(wild())), 161002);
  REFUSED(aclDumpOpTensors("", "", &made, 1, 0, nullptr), 207000);
  FINE(aclDestroyTensor(nullptr));
  FINE(aclDestroyTensor(made));
}

TEST(arrays_hold_copies) {
  int64_t ints[] = {1, 2, 3};
  float floats[] = {1, 2};
  bool bools[] = {true};
  aclIntArray* a = aclCreateIntArray(ints, 3);
  aclFloatArray* b = aclCreateFloatArray(floats, 2);
  aclBoolArray* c = aclCreateBoolArray(bools, 1);
  uint64_t size = 0;
  FINE(aclGetIntArraySize(a, &size));
  CHECK_EQ(size, 3u);
  FINE(aclGetFloatArraySize(b, &size));
  CHECK_EQ(size, 2u);
  FINE(aclGetBoolArraySize(c, &size));
  CHECK_EQ(size, 1u);
  REFUSED(aclGetIntArraySize(nullptr, &size), 161001);
  REFUSED(aclGetIntArraySize(a, nullptr), 161001);
  REFUSED(aclGetIntArraySize(reinterpret_cast<aclIntArray*>(b), &size), 161002);
  REFUSED(aclDestroyIntArray(reinterpret_cast<aclIntArray*>(c)), 161002);
  FINE(aclDestroyIntArray(a));
  REFUSED(aclDestroyIntArray(a), 161002);
  FINE(aclDestroyFloatArray(b));
  FINE(aclDestroyBoolArray(c));
  FINE(aclDestroyBoolArray(nullptr));
  aclIntArray* empty = aclCreateIntArray(nullptr, 5);
  FINE(aclGetIntArraySize(empty, &size));
  CHECK_EQ(size, 0u);
  FINE(aclDestroyIntArray(empty));
  message();
  CHECK(aclCreateIntArray(ints, UINT64_MAX) == nullptr);
  CHECK(message().find("aclCreateIntArray: size is") == 0);
}

TEST(scalars) {
  double value = 2;
  aclScalar* scalar = aclCreateScalar(&value, ACL_DOUBLE);
  CHECK(scalar != nullptr);
  CHECK(aclCreateScalar(nullptr, ACL_DOUBLE) == nullptr);
  CHECK(aclCreateScalar(&value, ACL_STRING) == nullptr);
  const aclScalar* members[] = {scalar};
  aclScalarList* list = aclCreateScalarList(members, 1);
  uint64_t size;
  FINE(aclGetScalarListSize(list, &size));
  CHECK_EQ(size, 1u);
  FINE(aclDestroyScalarList(list));
  REFUSED(aclDestroyScalar(scalar), 161002);
  FINE(aclDestroyScalar(nullptr));
  FINE(aclDestroyScalarList(nullptr));
}

TEST(lists_take_their_members_along) {
  const aclTensor* members[] = {tensor(), tensor()};
  aclTensorList* list = aclCreateTensorList(members, 2);
  uint64_t size;
  FINE(aclGetTensorListSize(list, &size));
  CHECK_EQ(size, 2u);
  FINE(aclDestroyTensor(members[1]));  // too early, as some programs do
  FINE(aclDestroyTensorList(list));
  REFUSED(aclDestroyTensor(members[0]), 161002);
  REFUSED(aclDestroyTensorList(list), 161002);
  message();
  CHECK(aclCreateTensorList(members, 2) == nullptr);
  CHECK(message().find("value[0] is an aclTensor that was destroyed") != std::string::npos);
  list = aclCreateTensorList(nullptr, 0);
  FINE(aclDestroyTensorList(list));
}

TEST(a_place_used_again_is_another_handle) {
  aclTensor* old = tensor();
  FINE(aclDestroyTensor(old));
  for (int i = 0; i < 10000; ++i) {
    aclTensor* next = tensor();
    CHECK(next != old);
    FINE(aclDestroyTensor(next));
  }
  REFUSED(aclDestroyTensor(old), 161002);
}

TEST(threads_make_objects_side_by_side) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([] {
      for (int i = 0; i < 200; ++i) {
        const aclTensor* members[] = {tensor(), tensor()};
        aclDestroyTensorList(aclCreateTensorList(members, 2));
        aclDestroyTensor(members[0]);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_MAIN()
