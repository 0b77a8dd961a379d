// Every function of the runtime, assigned to a pointer of the type that programs were compiled with. Operators have a test of their own.
#include <cstdio>
#include <vector>

#include "acl/acl.h"
#include "aclnn/aclnn_base.h"
#include "securec.h"

namespace {

std::vector<const void*> functions;

template <class Type>
bool keep(Type* function) {
  functions.push_back(reinterpret_cast<const void*>(function));
  return true;
}

#define FUNCTION(name, ...)            \
  using TypeOf_##name = __VA_ARGS__;   \
  TypeOf_##name* const of_##name = name; \
  [[maybe_unused]] const bool kept_##name = keep(of_##name)

FUNCTION(aclInit, aclError(const char*));
FUNCTION(aclFinalize, aclError());
FUNCTION(aclFinalizeReference, aclError(uint64_t*));
FUNCTION(aclGetRecentErrMsg, const char*());
FUNCTION(aclrtPeekAtLastError, aclError(aclrtLastErrLevel));
FUNCTION(aclrtGetLastError, aclError(aclrtLastErrLevel));
FUNCTION(aclrtGetVersion, aclError(int32_t*, int32_t*, int32_t*));
FUNCTION(aclsysGetCANNVersion, aclError(aclCANNPackageName, aclCANNPackageVersion*));
FUNCTION(aclsysGetVersionStr, aclError(char*, char*));
FUNCTION(aclAppLog, void(aclLogLevel, const char*, const char*, uint32_t, const char*, ...));
FUNCTION(aclrtSetDevice, aclError(int32_t));
FUNCTION(aclrtResetDevice, aclError(int32_t));
FUNCTION(aclrtResetDeviceForce, aclError(int32_t));
FUNCTION(aclrtGetDevice, aclError(int32_t*));
FUNCTION(aclrtGetDeviceCount, aclError(uint32_t*));
FUNCTION(aclrtGetRunMode, aclError(aclrtRunMode*));
FUNCTION(aclrtSynchronizeDevice, aclError());
FUNCTION(aclrtSynchronizeDeviceWithTimeout, aclError(int32_t));
FUNCTION(aclrtCreateContext, aclError(aclrtContext*, int32_t));
FUNCTION(aclrtDestroyContext, aclError(aclrtContext));
FUNCTION(aclrtSetCurrentContext, aclError(aclrtContext));
FUNCTION(aclrtGetCurrentContext, aclError(aclrtContext*));
FUNCTION(aclrtCtxGetCurrentDefaultStream, aclError(aclrtStream*));
FUNCTION(aclrtSetSysParamOpt, aclError(aclSysParamOpt, int64_t));
FUNCTION(aclrtGetSysParamOpt, aclError(aclSysParamOpt, int64_t*));
FUNCTION(aclrtCtxSetSysParamOpt, aclError(aclSysParamOpt, int64_t));
FUNCTION(aclrtCtxGetSysParamOpt, aclError(aclSysParamOpt, int64_t*));
FUNCTION(aclrtGetSocName, const char*());
FUNCTION(aclrtGetDeviceInfo, aclError(uint32_t, aclrtDevAttr, int64_t*));
FUNCTION(aclGetDeviceCapability, aclError(uint32_t, aclDeviceInfo, int64_t*));
FUNCTION(aclGetCannAttributeList, aclError(const aclCannAttr**, size_t*));
FUNCTION(aclGetCannAttribute, aclError(aclCannAttr, int32_t*));
FUNCTION(aclrtQueryDeviceStatus, aclError(int32_t, aclrtDeviceStatus*));
FUNCTION(aclrtGetDeviceUtilizationRate, aclError(int32_t, aclrtUtilizationInfo*));
FUNCTION(aclrtDeviceCanAccessPeer, aclError(int32_t*, int32_t, int32_t));
FUNCTION(aclrtDeviceEnablePeerAccess, aclError(int32_t, uint32_t));
FUNCTION(aclrtDeviceDisablePeerAccess, aclError(int32_t));
FUNCTION(aclrtGetResInCurrentThread, aclError(aclrtDevResLimitType, uint32_t*));
FUNCTION(aclrtCreateStream, aclError(aclrtStream*));
FUNCTION(aclrtCreateStreamWithConfig, aclError(aclrtStream*, uint32_t, uint32_t));
FUNCTION(aclrtDestroyStream, aclError(aclrtStream));
FUNCTION(aclrtDestroyStreamForce, aclError(aclrtStream));
FUNCTION(aclrtSynchronizeStream, aclError(aclrtStream));
FUNCTION(aclrtSynchronizeStreamWithTimeout, aclError(aclrtStream, int32_t));
FUNCTION(aclrtStreamQuery, aclError(aclrtStream, aclrtStreamStatus*));
FUNCTION(aclrtStreamGetId, aclError(aclrtStream, int32_t*));
FUNCTION(aclrtStreamWaitEvent, aclError(aclrtStream, aclrtEvent));
FUNCTION(aclrtCreateEvent, aclError(aclrtEvent*));
FUNCTION(aclrtCreateEventWithFlag, aclError(aclrtEvent*, uint32_t));
FUNCTION(aclrtCreateEventExWithFlag, aclError(aclrtEvent*, uint32_t));
FUNCTION(aclrtDestroyEvent, aclError(aclrtEvent));
FUNCTION(aclrtRecordEvent, aclError(aclrtEvent, aclrtStream));
FUNCTION(aclrtResetEvent, aclError(aclrtEvent, aclrtStream));
FUNCTION(aclrtQueryEvent, aclError(aclrtEvent, aclrtEventStatus*));
FUNCTION(aclrtQueryEventStatus, aclError(aclrtEvent, aclrtEventRecordedStatus*));
FUNCTION(aclrtQueryEventWaitStatus, aclError(aclrtEvent, aclrtEventWaitStatus*));
FUNCTION(aclrtSynchronizeEvent, aclError(aclrtEvent));
FUNCTION(aclrtSynchronizeEventWithTimeout, aclError(aclrtEvent, int32_t));
FUNCTION(aclrtEventElapsedTime, aclError(float*, aclrtEvent, aclrtEvent));
FUNCTION(aclrtEventGetTimestamp, aclError(aclrtEvent, uint64_t*));
FUNCTION(aclrtLaunchHostFunc, aclError(aclrtStream, aclrtHostFunc, void*));
FUNCTION(aclrtLaunchCallback, aclError(aclrtCallback, void*, aclrtCallbackBlockType, aclrtStream));
FUNCTION(aclrtSubscribeReport, aclError(uint64_t, aclrtStream));
FUNCTION(aclrtUnSubscribeReport, aclError(uint64_t, aclrtStream));
FUNCTION(aclrtProcessReport, aclError(int32_t));
FUNCTION(aclrtMalloc, aclError(void**, size_t, aclrtMemMallocPolicy));
FUNCTION(aclrtMallocAlign32, aclError(void**, size_t, aclrtMemMallocPolicy));
FUNCTION(aclrtMallocCached, aclError(void**, size_t, aclrtMemMallocPolicy));
FUNCTION(aclrtMallocWithCfg, aclError(void**, size_t, aclrtMemMallocPolicy, aclrtMallocConfig*));
FUNCTION(aclrtFree, aclError(void*));
FUNCTION(aclrtFreeWithDevSync, aclError(void*));
FUNCTION(aclrtMallocHost, aclError(void**, size_t));
FUNCTION(aclrtFreeHost, aclError(void*));
FUNCTION(aclrtMemcpy, aclError(void*, size_t, const void*, size_t, aclrtMemcpyKind));
FUNCTION(aclrtMemcpyAsync, aclError(void*, size_t, const void*, size_t, aclrtMemcpyKind, aclrtStream));
FUNCTION(aclrtMemset, aclError(void*, size_t, int32_t, size_t));
FUNCTION(aclrtMemsetAsync, aclError(void*, size_t, int32_t, size_t, aclrtStream));
FUNCTION(aclrtMemcpy2d, aclError(void*, size_t, const void*, size_t, size_t, size_t, aclrtMemcpyKind));
FUNCTION(aclrtMemcpy2dAsync, aclError(void*, size_t, const void*, size_t, size_t, size_t, aclrtMemcpyKind, aclrtStream));
FUNCTION(aclrtGetMemInfo, aclError(aclrtMemAttr, size_t*, size_t*));
FUNCTION(aclrtPointerGetAttributes, aclError(const void*, aclrtPtrAttributes*));
FUNCTION(aclrtHostRegister, aclError(void*, uint64_t, aclrtHostRegisterType, void**));
FUNCTION(aclrtHostUnregister, aclError(void*));
FUNCTION(aclFloatToFloat16, aclFloat16(float));
FUNCTION(aclFloat16ToFloat, float(aclFloat16));
FUNCTION(aclDataTypeSize, size_t(aclDataType));
FUNCTION(aclCreateDataBuffer, aclDataBuffer*(void*, size_t));
FUNCTION(aclDestroyDataBuffer, aclError(const aclDataBuffer*));
FUNCTION(aclUpdateDataBuffer, aclError(aclDataBuffer*, void*, size_t));
FUNCTION(aclGetDataBufferAddr, void*(const aclDataBuffer*));
FUNCTION(aclGetDataBufferSize, uint32_t(const aclDataBuffer*));
FUNCTION(aclGetDataBufferSizeV2, size_t(const aclDataBuffer*));
FUNCTION(aclCreateTensor, aclTensor*(const int64_t*, uint64_t, aclDataType, const int64_t*, int64_t, aclFormat, const int64_t*,
         uint64_t, void*));
FUNCTION(aclDestroyTensor, aclnnStatus(const aclTensor*));
FUNCTION(aclInitTensor, aclnnStatus(aclTensor*, const int64_t*, uint64_t, aclDataType, const int64_t*, int64_t, aclFormat,
         const int64_t*, uint64_t, void*));
FUNCTION(aclCreateScalar, aclScalar*(void*, aclDataType));
FUNCTION(aclDestroyScalar, aclnnStatus(const aclScalar*));
FUNCTION(aclCreateIntArray, aclIntArray*(const int64_t*, uint64_t));
FUNCTION(aclDestroyIntArray, aclnnStatus(const aclIntArray*));
FUNCTION(aclCreateFloatArray, aclFloatArray*(const float*, uint64_t));
FUNCTION(aclDestroyFloatArray, aclnnStatus(const aclFloatArray*));
FUNCTION(aclCreateBoolArray, aclBoolArray*(const bool*, uint64_t));
FUNCTION(aclDestroyBoolArray, aclnnStatus(const aclBoolArray*));
FUNCTION(aclCreateTensorList, aclTensorList*(const aclTensor* const*, uint64_t));
FUNCTION(aclDestroyTensorList, aclnnStatus(const aclTensorList*));
FUNCTION(aclCreateScalarList, aclScalarList*(const aclScalar* const*, uint64_t));
FUNCTION(aclDestroyScalarList, aclnnStatus(const aclScalarList*));
FUNCTION(aclGetIntArraySize, aclnnStatus(const aclIntArray*, uint64_t*));
FUNCTION(aclGetFloatArraySize, aclnnStatus(const aclFloatArray*, uint64_t*));
FUNCTION(aclGetBoolArraySize, aclnnStatus(const aclBoolArray*, uint64_t*));
FUNCTION(aclGetTensorListSize, aclnnStatus(const aclTensorList*, uint64_t*));
FUNCTION(aclGetScalarListSize, aclnnStatus(const aclScalarList*, uint64_t*));
FUNCTION(aclGetViewShape, aclnnStatus(const aclTensor*, int64_t**, uint64_t*));
FUNCTION(aclGetStorageShape, aclnnStatus(const aclTensor*, int64_t**, uint64_t*));
FUNCTION(aclGetViewStrides, aclnnStatus(const aclTensor*, int64_t**, uint64_t*));
FUNCTION(aclGetViewOffset, aclnnStatus(const aclTensor*, int64_t*));
FUNCTION(aclGetFormat, aclnnStatus(const aclTensor*, aclFormat*));
FUNCTION(aclGetDataType, aclnnStatus(const aclTensor*, aclDataType*));
FUNCTION(aclSetRawTensorAddr, aclnnStatus(aclTensor*, void*));
FUNCTION(aclGetRawTensorAddr, aclnnStatus(const aclTensor*, void**));
FUNCTION(aclDumpOpTensors, aclnnStatus(const char*, const char*, aclTensor**, size_t, size_t, aclrtStream));
FUNCTION(aclSetAclOpExecutorRepeatable, aclnnStatus(aclOpExecutor*));
FUNCTION(aclDestroyAclOpExecutor, aclnnStatus(aclOpExecutor*));
FUNCTION(aclSetTensorAddr, aclnnStatus(aclOpExecutor*, size_t, aclTensor*, void*));
FUNCTION(AclSetTensorAddr, aclnnStatus(aclOpExecutor*, size_t, aclTensor*, void*));
FUNCTION(aclSetInputTensorAddr, aclnnStatus(aclOpExecutor*, size_t, aclTensor*, void*));
FUNCTION(AclSetInputTensorAddr, aclnnStatus(aclOpExecutor*, size_t, aclTensor*, void*));
FUNCTION(aclSetOutputTensorAddr, aclnnStatus(aclOpExecutor*, size_t, aclTensor*, void*));
FUNCTION(AclSetOutputTensorAddr, aclnnStatus(aclOpExecutor*, size_t, aclTensor*, void*));
FUNCTION(aclSetDynamicTensorAddr, aclnnStatus(aclOpExecutor*, size_t, size_t, aclTensorList*, void*));
FUNCTION(AclSetDynamicTensorAddr, aclnnStatus(aclOpExecutor*, size_t, size_t, aclTensorList*, void*));
FUNCTION(aclSetDynamicInputTensorAddr, aclnnStatus(aclOpExecutor*, size_t, size_t, aclTensorList*, void*));
FUNCTION(AclSetDynamicInputTensorAddr, aclnnStatus(aclOpExecutor*, size_t, size_t, aclTensorList*, void*));
FUNCTION(aclSetDynamicOutputTensorAddr, aclnnStatus(aclOpExecutor*, size_t, size_t, aclTensorList*, void*));
FUNCTION(AclSetDynamicOutputTensorAddr, aclnnStatus(aclOpExecutor*, size_t, size_t, aclTensorList*, void*));
FUNCTION(aclnnInit, aclnnStatus(const char*));
FUNCTION(aclnnFinalize, aclnnStatus());

FUNCTION(memcpy_s, errno_t(void*, size_t, const void*, size_t));
FUNCTION(memmove_s, errno_t(void*, size_t, const void*, size_t));
FUNCTION(memset_s, errno_t(void*, size_t, int, size_t));
FUNCTION(strcpy_s, errno_t(char*, size_t, const char*));
FUNCTION(strncpy_s, errno_t(char*, size_t, const char*, size_t));
FUNCTION(strcat_s, errno_t(char*, size_t, const char*));
FUNCTION(strncat_s, errno_t(char*, size_t, const char*, size_t));
FUNCTION(strtok_s, char*(char*, const char*, char**));
FUNCTION(sprintf_s, int(char*, size_t, const char*, ...));
FUNCTION(snprintf_s, int(char*, size_t, size_t, const char*, ...));
FUNCTION(vsprintf_s, int(char*, size_t, const char*, va_list));
FUNCTION(vsnprintf_s, int(char*, size_t, size_t, const char*, va_list));
FUNCTION(sscanf_s, int(const char*, const char*, ...));
FUNCTION(aclrtAllocatorRegister, aclError(aclrtStream, aclrtAllocatorDesc));
FUNCTION(aclrtAllocatorUnregister, aclError(aclrtStream));

}  // namespace

int main() {
  std::printf("%zu functions have the types they had\n", functions.size());
  return functions.size() == 152 ? 0 : 1;
}
