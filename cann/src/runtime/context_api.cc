// aclrtCreateContext and its relatives, and the options of the process and of contexts.
#include <optional>

#include "message.h"
#include "runtime/arguments.h"
#include "runtime/device.h"
#include "runtime/stream.h"

namespace fusedattn::cann {
namespace {

std::array<Option, kOptions> process_options;

// The live context behind a handle; null after keeping a sentence and setting `code`.
std::shared_ptr<Context> context_of(const char* function, aclrtContext handle, int& code) {
  code = ACL_SUCCESS;
  if (handle == nullptr) {
    code = null_result(function, "context");
    return nullptr;
  }
  auto context = contexts().find(handle);
  if (context == nullptr) {
    code = refuse(ACL_ERROR_RT_PARAM_INVALID, std::string(function) + ": context " + why_not(handle, Kind::context));
  }
  return context;
}

int check_option(const char* function, int option, int count) {
  if (option >= 0 && option < count) return ACL_SUCCESS;
  return refuse(ACL_ERROR_INVALID_PARAM, std::string(function) + ": opt is " + std::to_string(option) + "; 0 to " +
                                             std::to_string(count - 1) + " are accepted");
}

int check_value(const char* function, int option, std::int64_t value) {
  const std::int64_t most = option == ACL_OPT_DETERMINISTIC ? 3 : 1;
  if (value >= 0 && value <= most) return ACL_SUCCESS;
  return refuse(ACL_ERROR_RT_PARAM_INVALID, std::string(function) + ": value is " + std::to_string(value) + "; 0 to " +
                                                std::to_string(most) + " are accepted for option " + std::to_string(option));
}

void set(Option& option, std::int64_t value) {
  option.value = value;
  option.set = true;
}

}  // namespace
}  // namespace fusedattn::cann

using namespace fusedattn::cann;

aclError aclrtCreateContext(aclrtContext* context, int32_t deviceId) {
  return runtime_call(__func__, [&]() -> int {
    if (context == nullptr) return null_result("aclrtCreateContext", "context");
    if (const int code = check_device("aclrtCreateContext", "deviceId", deviceId)) return code;
    *context = make_context(deviceId, false);
    set_current_context(*context);
    return ACL_SUCCESS;
  });
}

aclError aclrtDestroyContext(aclrtContext context) {
  return runtime_call(__func__, [&]() -> int {
    int code;
    const auto live = context_of("aclrtDestroyContext", context, code);
    if (live == nullptr) return code;
    if (live->of_device) {
      return refuse(ACL_ERROR_RT_PARAM_INVALID,
                    "aclrtDestroyContext: context is the default one of device " + std::to_string(live->device) +
                        ", which aclrtResetDevice ends; one of aclrtCreateContext is accepted");
    }
    if (strict()) {
      for (const auto& [handle, stream] : streams().all()) {
        if (stream->context() == context && handle != live->default_stream) {
          return refuse(ACL_ERROR_RT_PARAM_INVALID, "aclrtDestroyContext: stream " + std::to_string(stream->id()) +
                                                        " of the context is alive; its streams go first");
        }
      }
    }
    return end_context("aclrtDestroyContext", context, false);
  });
}

aclError aclrtSetCurrentContext(aclrtContext context) {
  int code;
  if (context_of(__func__, context, code) == nullptr) return code;
  set_current_context(context);
  return ACL_SUCCESS;
}

aclError aclrtGetCurrentContext(aclrtContext* context) {
  if (context == nullptr) return null_result(__func__, "context");
  void* current = current_context_handle();
  if (current == nullptr) return no_context(__func__);
  *context = current;
  return ACL_SUCCESS;
}

aclError aclrtCtxGetCurrentDefaultStream(aclrtStream* stream) {
  if (stream == nullptr) return null_result(__func__, "stream");
  const auto context = current_context();
  if (context == nullptr) return no_context(__func__);
  *stream = context->default_stream;
  return ACL_SUCCESS;
}

aclError aclrtSetSysParamOpt(aclSysParamOpt opt, int64_t value) {
  if (const int code = check_option(__func__, opt, kOptions)) return code;
  if (const int code = check_value(__func__, opt, value)) return code;
  set(process_options[opt], value);
  return ACL_SUCCESS;
}

aclError aclrtGetSysParamOpt(aclSysParamOpt opt, int64_t* value) {
  if (value == nullptr) return null_result(__func__, "value");
  if (const int code = check_option(__func__, opt, kOptions)) return code;
  *value = process_options[opt].value;
  return ACL_SUCCESS;
}

aclError aclrtCtxSetSysParamOpt(aclSysParamOpt opt, int64_t value) {
  if (const int code = check_option(__func__, opt, kContextOptions)) return code;
  if (const int code = check_value(__func__, opt, value)) return code;
  const auto context = current_context();
  if (context == nullptr) return no_context(__func__);
  set(context->options[opt], value);
  return ACL_SUCCESS;
}

aclError aclrtCtxGetSysParamOpt(aclSysParamOpt opt, int64_t* value) {
  if (value == nullptr) return null_result(__func__, "value");
  if (const int code = check_option(__func__, opt, kContextOptions)) return code;
  const auto context = current_context();
  if (context == nullptr) return no_context(__func__);
  if (!context->options[opt].set) {
    return refuse(ACL_ERROR_RT_SYSPARAMOPT_NOT_SET, "aclrtCtxGetSysParamOpt: option " + std::to_string(opt) +
                                                        " was never set in this context; aclrtCtxSetSysParamOpt sets it");
  }
  *value = context->options[opt].value;
  return ACL_SUCCESS;
}
