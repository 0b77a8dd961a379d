/* acl_meta.h: tensors, scalars, arrays, lists and executors: what operators are called with. C99 and C++11.
 *
 * A tensor never owns its data. Shapes, strides, arrays and scalars are copied when created, and again by the first phase of an
 * operator: all of them may be destroyed right after the second phase returns. What lies behind a tensor's address may not, until the
 * stream is synchronised.
 * Creators return null after a refusal, destroyers 0 for null; unknown and dead handles give 161002, null pointers elsewhere 161001.
 * Every refusal leaves a sentence for aclGetRecentErrMsg of the same thread.
 */
#ifndef ACLNN_ACL_META_H_
#define ACLNN_ACL_META_H_

#ifdef __cplusplus
#include <cstdint>
#include <cstdlib>
#else
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#endif

#include "acl/acl_base.h"
#include "aclnn/opdev/op_errno.h"

#if defined(__GNUC__)
#define ACLNN_META __attribute__((visibility("default")))
#else
#define ACLNN_META
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct aclOpExecutor aclOpExecutor;
typedef struct aclTensor aclTensor;
typedef struct aclScalar aclScalar;
typedef struct aclIntArray aclIntArray;
typedef struct aclFloatArray aclFloatArray;
typedef struct aclBoolArray aclBoolArray;
typedef struct aclTensorList aclTensorList;
typedef struct aclScalarList aclScalarList;

typedef int32_t aclnnStatus;
#ifdef __cplusplus
constexpr aclnnStatus OK = 0;
#else
static const aclnnStatus OK = 0;
#endif

/* A view of a block of memory: element (i, j, ...) lies at tensorData + (offset + i * stride[0] + j * stride[1] + ...) elements. A null
 * stride means contiguous. Rank 0 and dimensions of 0 are legal; the address may be null and be given to the executor later. storageDims
 * describe the block and may be null. Null for a null viewDims with a count, negative dimensions, and unknown data types. */
ACLNN_META aclTensor* aclCreateTensor(const int64_t* viewDims, uint64_t viewDimsNum, aclDataType dataType, const int64_t* stride,
                                      int64_t offset, aclFormat format, const int64_t* storageDims, uint64_t storageDimsNum,
                                      void* tensorData);
ACLNN_META aclnnStatus aclDestroyTensor(const aclTensor* tensor);
/* Makes a live tensor a view of something else. */
ACLNN_META aclnnStatus aclInitTensor(aclTensor* tensor, const int64_t* viewDims, uint64_t viewDimsNum, aclDataType dataType,
                                     const int64_t* stride, int64_t offset, aclFormat format, const int64_t* storageDims,
                                     uint64_t storageDimsNum, void* tensorData);

/* aclDataTypeSize(dataType) bytes are copied. */
ACLNN_META aclScalar* aclCreateScalar(void* value, aclDataType dataType);
ACLNN_META aclnnStatus aclDestroyScalar(const aclScalar* scalar);

/* A null pointer or a size of 0 gives an empty array. */
ACLNN_META aclIntArray* aclCreateIntArray(const int64_t* value, uint64_t size);
ACLNN_META aclnnStatus aclDestroyIntArray(const aclIntArray* array);
ACLNN_META aclFloatArray* aclCreateFloatArray(const float* value, uint64_t size);
ACLNN_META aclnnStatus aclDestroyFloatArray(const aclFloatArray* array);
ACLNN_META aclBoolArray* aclCreateBoolArray(const bool* value, uint64_t size);
ACLNN_META aclnnStatus aclDestroyBoolArray(const aclBoolArray* array);

/* A list takes its members over: destroying it destroys them. */
ACLNN_META aclTensorList* aclCreateTensorList(const aclTensor* const* value, uint64_t size);
ACLNN_META aclnnStatus aclDestroyTensorList(const aclTensorList* array);
ACLNN_META aclScalarList* aclCreateScalarList(const aclScalar* const* value, uint64_t size);
ACLNN_META aclnnStatus aclDestroyScalarList(const aclScalarList* array);

ACLNN_META aclnnStatus aclGetIntArraySize(const aclIntArray* array, uint64_t* size);
ACLNN_META aclnnStatus aclGetFloatArraySize(const aclFloatArray* array, uint64_t* size);
ACLNN_META aclnnStatus aclGetBoolArraySize(const aclBoolArray* array, uint64_t* size);
ACLNN_META aclnnStatus aclGetTensorListSize(const aclTensorList* tensorList, uint64_t* size);
ACLNN_META aclnnStatus aclGetScalarListSize(const aclScalarList* scalarList, uint64_t* size);

/* Shapes and strides come in memory of new[], which the caller frees with delete[]. Rank 0: null and 0. */
ACLNN_META aclnnStatus aclGetViewShape(const aclTensor* tensor, int64_t** viewDims, uint64_t* viewDimsNum);
ACLNN_META aclnnStatus aclGetStorageShape(const aclTensor* tensor, int64_t** storageDims, uint64_t* storageDimsNum);
ACLNN_META aclnnStatus aclGetViewStrides(const aclTensor* tensor, int64_t** stridesValue, uint64_t* stridesNum);
ACLNN_META aclnnStatus aclGetViewOffset(const aclTensor* tensor, int64_t* offset);
ACLNN_META aclnnStatus aclGetFormat(const aclTensor* tensor, aclFormat* format);
ACLNN_META aclnnStatus aclGetDataType(const aclTensor* tensor, aclDataType* dataType);
ACLNN_META aclnnStatus aclSetRawTensorAddr(aclTensor* tensor, void* addr);
ACLNN_META aclnnStatus aclGetRawTensorAddr(const aclTensor* tensor, void** addr);

/* Not implemented: 207000. */
ACLNN_META aclnnStatus aclDumpOpTensors(const char* opType, const char* opName, aclTensor** tensors, size_t inputTensorNum,
                                        size_t outputTensorNum, aclrtStream stream);

/* Between the phases: the second phase may then run any number of times, and the caller destroys the executor. 561103 for executors
 * that are null, unknown, or used up. */
ACLNN_META aclnnStatus aclSetAclOpExecutorRepeatable(aclOpExecutor* executor);
ACLNN_META aclnnStatus aclDestroyAclOpExecutor(aclOpExecutor* executor);

/* A new address for a tensor parameter, for the runs from now on. Parameters are counted from 0 in the order of the first phase, those
 * that were null included: inputs and outputs together, inputs alone, outputs alone. irIndex counts likewise, and names a list;
 * relativeIndex is a member's place in it. 161002 for places that do not exist and parameters that were null. */
ACLNN_META aclnnStatus aclSetTensorAddr(aclOpExecutor* executor, const size_t index, aclTensor* tensor, void* addr);
ACLNN_META aclnnStatus aclSetInputTensorAddr(aclOpExecutor* executor, const size_t index, aclTensor* tensor, void* addr);
ACLNN_META aclnnStatus aclSetOutputTensorAddr(aclOpExecutor* executor, const size_t index, aclTensor* tensor, void* addr);
ACLNN_META aclnnStatus aclSetDynamicTensorAddr(aclOpExecutor* executor, size_t irIndex, const size_t relativeIndex,
                                               aclTensorList* tensors, void* addr);
ACLNN_META aclnnStatus aclSetDynamicInputTensorAddr(aclOpExecutor* executor, size_t irIndex, const size_t relativeIndex,
                                                    aclTensorList* tensors, void* addr);
ACLNN_META aclnnStatus aclSetDynamicOutputTensorAddr(aclOpExecutor* executor, size_t irIndex, const size_t relativeIndex,
                                                     aclTensorList* tensors, void* addr);

/* The same under the names of older releases. */
ACLNN_META aclnnStatus AclSetTensorAddr(aclOpExecutor* executor, const size_t index, aclTensor* tensor, void* addr);
ACLNN_META aclnnStatus AclSetInputTensorAddr(aclOpExecutor* executor, const size_t index, aclTensor* tensor, void* addr);
ACLNN_META aclnnStatus AclSetOutputTensorAddr(aclOpExecutor* executor, const size_t index, aclTensor* tensor, void* addr);
ACLNN_META aclnnStatus AclSetDynamicTensorAddr(aclOpExecutor* executor, size_t irIndex, const size_t relativeIndex,
                                               aclTensorList* tensors, void* addr);
ACLNN_META aclnnStatus AclSetDynamicInputTensorAddr(aclOpExecutor* executor, size_t irIndex, const size_t relativeIndex,
                                                    aclTensorList* tensors, void* addr);
ACLNN_META aclnnStatus AclSetDynamicOutputTensorAddr(aclOpExecutor* executor, size_t irIndex, const size_t relativeIndex,
                                                     aclTensorList* tensors, void* addr);

#ifdef __cplusplus
}
#endif

#endif
