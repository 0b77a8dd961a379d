// Start and end, errors, devices, contexts, options, attributes.
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <thread>

#include "acl_check.h"
#include "aclnn/aclnn_base.h"

namespace {

std::string file_with(const std::string& text) {
  const std::string path = "/tmp/fusedattn_cann_" + std::to_string(getpid()) + ".json";
  std::ofstream(path) << text;
  return path;
}

struct Device {
  Device() { FINE(aclrtSetDevice(0)); }
  ~Device() { FINE(aclrtResetDevice(0)); }
};

}  // namespace

TEST(init_counts_and_finalize_ends) {
  REFUSED(aclFinalize(), 100037);
  FINE(aclInit(nullptr));
  REFUSED(aclInit(nullptr), 100002);
  uint64_t left = 77;
  FINE(aclFinalizeReference(&left));
  CHECK_EQ(left, 1u);
  FINE(aclFinalizeReference(nullptr));
  REFUSED(aclFinalizeReference(nullptr), 100037);
  FINE(aclInit(""));
  FINE(aclFinalize());
  REFUSED(aclFinalize(), 100037);
  FINE(aclnnInit(nullptr));
  FINE(aclnnInit(nullptr));
  FINE(aclnnFinalize());
  FINE(aclnnFinalize());
}

TEST(configurations_are_json_objects) {
  for (const char* good : {"{}", " {\"a\": [1, -2.5e+3, true, null, {\"b\\\"\": \"\\u00e9\"}]}\n"}) {
    const std::string path = file_with(good);
    FINE(aclInit(path.c_str()));
    FINE(aclFinalize());
  }
  for (const char* bad : {"", "{", "[]", "{} x", "{\"a\"}", "{\"a\": 1,}", "{\"a\": .5}", "{\"a\": \"", "{a: 1}"}) {
    const std::string path = file_with(bad);
    REFUSED(aclInit(path.c_str()), 100006);
    REFUSED(aclnnInit(path.c_str()), 100006);
  }
  const std::string deep = file_with("{\"a\":" + std::string(100000, '['));
  REFUSED(aclInit(deep.c_str()), 100006);
  std::remove(deep.c_str());
  REFUSED(aclInit(deep.c_str()), 100003);
}

TEST(messages_are_the_threads_own_newest_first_and_told_once) {
  message();
  CHECK(aclGetRecentErrMsg() == nullptr);
  aclrtFree(nullptr);
  aclrtSetDevice(-3);
  const std::string said = message();
  CHECK(said.find("aclrtSetDevice: deviceId is -3; 0 to 0 are accepted") == 0);
  CHECK(said.find("\naclrtFree") != std::string::npos);
  CHECK(aclGetRecentErrMsg() == nullptr);
  aclrtFree(nullptr);
  std::thread([] { CHECK(aclGetRecentErrMsg() == nullptr); }).join();
  CHECK(aclGetRecentErrMsg() != nullptr);
}

TEST(last_error_is_kept_until_it_is_taken) {
  aclrtGetLastError(ACL_RT_THREAD_LEVEL);
  aclrtSetDevice(-1);
  CHECK_EQ(aclrtPeekAtLastError(ACL_RT_THREAD_LEVEL), 107001);
  CHECK_EQ(aclrtGetLastError(ACL_RT_THREAD_LEVEL), 107001);
  CHECK_EQ(aclrtGetLastError(ACL_RT_THREAD_LEVEL), 0);
  REFUSED(aclrtPeekAtLastError(static_cast<aclrtLastErrLevel>(1)), 100000);
  REFUSED(aclrtGetLastError(static_cast<aclrtLastErrLevel>(-1)), 100000);
}

TEST(versions) {
  int32_t major, minor, patch;
  FINE(aclrtGetVersion(&major, &minor, &patch));
  CHECK(major == 1 && minor == 16 && patch == 0);
  REFUSED(aclrtGetVersion(&major, nullptr, &patch), 100000);
  aclCANNPackageVersion version;
  FINE(aclsysGetCANNVersion(ACL_PKG_NAME_CANN, &version));
  CHECK(std::string(version.version).find("fusedattn") == 0 && std::strlen(version.majorVersion) > 0);
  REFUSED(aclsysGetCANNVersion(ACL_PKG_NAME_DRIVER, &version), 100000);
  REFUSED(aclsysGetCANNVersion(ACL_PKG_NAME_CANN, nullptr), 100000);
  char name[] = "CANN", other[] = "driver", text[128];
  FINE(aclsysGetVersionStr(name, text));
  REFUSED(aclsysGetVersionStr(other, text), 100000);
  REFUSED(aclsysGetVersionStr(nullptr, text), 100000);
}

TEST(devices_are_counted) {
  uint32_t count = 0;
  FINE(aclrtGetDeviceCount(&count));
  CHECK_EQ(count, 1u);
  REFUSED(aclrtGetDeviceCount(nullptr), 100000);
  REFUSED(aclrtSetDevice(1), 107001);
  REFUSED(aclrtResetDevice(0), 107000);
  FINE(aclrtSetDevice(0));
  FINE(aclrtSetDevice(0));
  FINE(aclrtResetDevice(0));
  int32_t device = 7;
  FINE(aclrtGetDevice(&device));
  CHECK_EQ(device, 0);
  FINE(aclrtResetDeviceForce(0));
  REFUSED(aclrtResetDeviceForce(0), 107000);
  REFUSED(aclrtGetDevice(&device), 107002);
  aclrtRunMode mode;
  FINE(aclrtGetRunMode(&mode));
  CHECK_EQ(mode, ACL_HOST);
}

TEST(contexts_belong_to_threads) {
  const Device device;
  aclrtContext first, second, current;
  FINE(aclrtGetCurrentContext(&first));
  FINE(aclrtCreateContext(&second, 0));
  FINE(aclrtGetCurrentContext(&current));
  CHECK(current == second);
  std::thread([&] {
    aclrtContext none = nullptr;
    REFUSED(aclrtGetCurrentContext(&none), 107002);
    aclrtStream stream;
    REFUSED(aclrtCreateStream(&stream), 107002);
    FINE(aclrtSetCurrentContext(second));
    FINE(aclrtCreateStream(&stream));
  }).join();
  aclrtStream stream, of_first, of_second;
  FINE(aclrtCtxGetCurrentDefaultStream(&of_second));
  FINE(aclrtCreateStream(&stream));
  FINE(aclrtSetCurrentContext(first));
  FINE(aclrtCtxGetCurrentDefaultStream(&of_first));
  CHECK(of_first != of_second);
  REFUSED(aclrtDestroyStream(of_first), 107000);
  FINE(aclrtDestroyContext(second));
  REFUSED(aclrtDestroyContext(second), 107000);
  REFUSED(aclrtDestroyStream(stream), 107017);  // went with its context
  REFUSED(aclrtSetCurrentContext(second), 107000);
  REFUSED(aclrtDestroyContext(first), 107000);
  REFUSED(aclrtDestroyContext(nullptr), 100000);
  REFUSED(aclrtDestroyContext(wild()), 107000);
  REFUSED(aclrtCreateContext(&second, 5), 107001);
  REFUSED(aclrtCreateContext(nullptr, 0), 100000);
}

TEST(a_destroyed_context_is_nobodys) {
  const Device device;
  aclrtContext context;
  FINE(aclrtCreateContext(&context, 0));
  FINE(aclrtDestroyContext(context));
  void* memory;
  REFUSED(aclrtMalloc(&memory, 16, ACL_MEM_MALLOC_HUGE_FIRST), 107002);
  REFUSED(aclrtSynchronizeStream(nullptr), 107002);
}

TEST(options_round_trip) {
  const Device device;
  int64_t value = 9;
  FINE(aclrtGetSysParamOpt(ACL_OPT_DETERMINISTIC, &value));
  CHECK_EQ(value, 0);
  FINE(aclrtSetSysParamOpt(ACL_OPT_DETERMINISTIC, 3));
  FINE(aclrtGetSysParamOpt(ACL_OPT_DETERMINISTIC, &value));
  CHECK_EQ(value, 3);
  FINE(aclrtSetSysParamOpt(ACL_OPT_DETERMINISTIC, 0));
  REFUSED(aclrtSetSysParamOpt(ACL_OPT_STRONG_CONSISTENCY, 2), 107000);
  REFUSED(aclrtSetSysParamOpt(static_cast<aclSysParamOpt>(4), 0), 100000);
  REFUSED(aclrtGetSysParamOpt(static_cast<aclSysParamOpt>(-1), &value), 100000);
  REFUSED(aclrtCtxGetSysParamOpt(ACL_OPT_DETERMINISTIC, &value), 107021);
  FINE(aclrtCtxSetSysParamOpt(ACL_OPT_DETERMINISTIC, 1));
  FINE(aclrtCtxGetSysParamOpt(ACL_OPT_DETERMINISTIC, &value));
  CHECK_EQ(value, 1);
  REFUSED(aclrtCtxSetSysParamOpt(ACL_OPT_ENABLE_KERNEL_EARLY_START, 1), 100000);
  std::thread([&] { REFUSED(aclrtCtxSetSysParamOpt(ACL_OPT_DETERMINISTIC, 1), 107002); }).join();
}

TEST(the_device_says_that_it_is_a_processor) {
  CHECK(std::string(aclrtGetSocName()).find("cpu") != std::string::npos);
  int64_t value = 0;
  for (const aclrtDevAttr attr : {ACL_DEV_ATTR_AICPU_CORE_NUM, ACL_DEV_ATTR_CUBE_CORE_NUM, ACL_DEV_ATTR_VECTOR_CORE_NUM,
                                  ACL_DEV_ATTR_TOTAL_GLOBAL_MEM_SIZE}) {
    FINE(aclrtGetDeviceInfo(0, attr, &value));
    CHECK(value > 0);
  }
  FINE(aclrtGetDeviceInfo(0, ACL_DEV_ATTR_IS_VIRTUAL, &value));
  CHECK_EQ(value, 0);
  REFUSED(aclrtGetDeviceInfo(0, ACL_DEV_ATTR_PHY_CHIP_ID, &value), 107000);
  REFUSED(aclrtGetDeviceInfo(1, ACL_DEV_ATTR_CUBE_CORE_NUM, &value), 107001);
  FINE(aclGetDeviceCapability(0, ACL_DEVICE_INFO_AI_CORE_NUM, &value));
  REFUSED(aclGetDeviceCapability(0, ACL_DEVICE_INFO_UNDEFINED, &value), 100000);
  const aclCannAttr* list = nullptr;
  size_t count = 0;
  FINE(aclGetCannAttributeList(&list, &count));
  CHECK_EQ(count, 3u);
  int32_t has = 7;
  FINE(aclGetCannAttribute(list[1], &has));
  CHECK_EQ(has, 1);
  REFUSED(aclGetCannAttribute(ACL_CANN_ATTR_UNDEFINED, &has), 100000);
  aclrtDeviceStatus status;
  FINE(aclrtQueryDeviceStatus(0, &status));
  REFUSED(aclrtQueryDeviceStatus(9, &status), 107001);
  REFUSED(aclrtGetDeviceUtilizationRate(0, nullptr), 207000);
  int32_t access;
  REFUSED(aclrtDeviceCanAccessPeer(&access, 0, 0), 107000);
  uint32_t cores = 0;
  FINE(aclrtGetResInCurrentThread(ACL_RT_DEV_RES_CUBE_CORE, &cores));
  CHECK(cores > 0);
  REFUSED(aclrtGetResInCurrentThread(static_cast<aclrtDevResLimitType>(7), &cores), 107000);
}

TEST(the_runtimes_halves_saturate) {
  CHECK_EQ(aclFloatToFloat16(1.0f), 0x3C00);
  CHECK_EQ(aclFloatToFloat16(65519.0f), 0x7BFF);
  CHECK_EQ(aclFloatToFloat16(1e9f), 0x7BFF);
  CHECK_EQ(aclFloatToFloat16(-INFINITY), 0xFBFF);
  CHECK_EQ(aclFloatToFloat16(std::nanf("")) & 0x7FFF, 0x7BFF);
  CHECK_EQ(aclFloatToFloat16(0x1p-25f), 0);  // half of the smallest: to even
  CHECK_EQ(aclFloatToFloat16(0x1.8p-25f), 1);
  CHECK_EQ(aclFloatToFloat16(0x1.002p0f), 0x3C00);  // half of the last place: to even
  CHECK_EQ(aclFloatToFloat16(0x1.006p0f), 0x3C02);
  CHECK_EQ(aclFloatToFloat16(-0.0f), 0x8000);
  CHECK_EQ(aclFloat16ToFloat(0x7C00), 65536.0f);
  CHECK_EQ(aclFloat16ToFloat(0x7E00), 98304.0f);
  int wrong = 0;
  for (int bits = 0; bits < 0x10000; ++bits) {
    if ((bits & 0x7C00) == 0x7C00) continue;
    wrong += aclFloatToFloat16(aclFloat16ToFloat(static_cast<aclFloat16>(bits))) != bits;
  }
  CHECK_EQ(wrong, 0);
}

TEST(sizes_of_types) {
  CHECK_EQ(aclDataTypeSize(ACL_FLOAT), 4u);
  CHECK_EQ(aclDataTypeSize(ACL_BF16), 2u);
  CHECK_EQ(aclDataTypeSize(ACL_INT4), 1u);
  CHECK_EQ(aclDataTypeSize(ACL_COMPLEX128), 16u);
  CHECK_EQ(aclDataTypeSize(ACL_FLOAT4_E2M1), 8u);
  CHECK_EQ(aclDataTypeSize(ACL_DT_UNDEFINED), 0u);
  CHECK_EQ(aclDataTypeSize(static_cast<aclDataType>(5)), 0u);
}

TEST(data_buffers_borrow) {
  int data = 0;
  aclDataBuffer* buffer = aclCreateDataBuffer(&data, sizeof data);
  CHECK(aclGetDataBufferAddr(buffer) == &data);
  CHECK_EQ(aclGetDataBufferSizeV2(buffer), sizeof data);
  FINE(aclUpdateDataBuffer(buffer, nullptr, 9));
  CHECK_EQ(aclGetDataBufferSize(buffer), 9u);
  FINE(aclDestroyDataBuffer(buffer));
  REFUSED(aclDestroyDataBuffer(buffer), 100000);
  REFUSED(aclDestroyDataBuffer(nullptr), 100000);
  CHECK(aclGetDataBufferAddr(nullptr) == nullptr);
  CHECK(aclGetDataBufferAddr(static_cast<aclDataBuffer*>(wild())) == nullptr);
}

TEST(the_log_takes_anything) {
  aclAppLog(ACL_ERROR, nullptr, nullptr, 1, nullptr);
  ACL_APP_LOG(static_cast<aclLogLevel>(99), "%d", 1);
  ACL_APP_LOG(ACL_INFO, "a text");
}

TEST_MAIN()
