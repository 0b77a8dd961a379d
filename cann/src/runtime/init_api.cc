// Start and end, versions, the log.
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

#include "aclnn/aclnn_base.h"
#include "runtime/arguments.h"
#include "runtime/fork.h"
#include "runtime/json.h"
#include "runtime/memory.h"

namespace fusedattn::cann {
namespace {

constexpr const char* kVersion = FUSEDATTN_PROJECT_VERSION;

struct Starts {
  ForkMutex mutex;
  std::uint64_t count = 0;
};

Starts& starts() {
  static Starts& the_starts = *new Starts;
  return the_starts;
}

int check_config(const char* function, const char* path) {
  if (path == nullptr || *path == '\0') return ACL_SUCCESS;
  std::ifstream file(path);
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file.is_open() || file.bad()) {
    return refuse(ACL_ERROR_INVALID_FILE,
                  std::string(function) + ": configPath is " + path + ", which cannot be read; null or a JSON file is accepted");
  }
  if (is_json_object(text)) return ACL_SUCCESS;
  return refuse(ACL_ERROR_PARSE_FILE, std::string(function) + ": configPath is " + path + ", which holds no JSON object");
}

// What a program that ends left behind; said in strict mode alone.
void tell_of_leaks() {
  const Held left = held();
  if (!strict() || left.blocks == 0) return;
  refuse(ACL_SUCCESS, "aclFinalize: " + std::to_string(left.blocks) + " blocks of memory (" + std::to_string(left.bytes) +
                          " bytes) were not freed");
}

void copy_text(char* to, std::size_t room, const std::string& text) { std::snprintf(to, room, "%s", text.c_str()); }

std::string part_of_version(int number) {
  std::string rest = kVersion;
  for (; number > 0; --number) rest = rest.substr(std::min(rest.find('.'), rest.size() - 1) + 1);
  return rest.substr(0, rest.find('.'));
}

int log_level() {
  const char* text = std::getenv("ASCEND_GLOBAL_LOG_LEVEL");
  return text == nullptr ? ACL_ERROR : std::atoi(text);
}

}  // namespace
}  // namespace fusedattn::cann

using namespace fusedattn::cann;

aclError aclInit(const char* configPath) {
  return runtime_call(__func__, [&]() -> int {
    if (const int code = check_config("aclInit", configPath)) return code;
    const std::lock_guard lock(starts().mutex);
    if (++starts().count == 1) return ACL_SUCCESS;
    return refuse(ACL_ERROR_REPEAT_INITIALIZE, "aclInit: called " + std::to_string(starts().count) +
                                                   " times without aclFinalize; once is enough, and nothing else is wrong");
  });
}

aclError aclFinalize() {
  return runtime_call(__func__, []() -> int {
    {
      const std::lock_guard lock(starts().mutex);
      if (starts().count == 0) {
        return refuse(ACL_ERROR_REPEAT_FINALIZE, "aclFinalize: there was no aclInit, or aclFinalize was called already");
      }
      starts().count = 0;
    }
    tell_of_leaks();
    return ACL_SUCCESS;
  });
}

aclError aclFinalizeReference(uint64_t* refCount) {
  return runtime_call(__func__, [&]() -> int {
    const std::lock_guard lock(starts().mutex);
    if (starts().count == 0) {
      return refuse(ACL_ERROR_REPEAT_FINALIZE, "aclFinalizeReference: there was no aclInit, or all were taken back already");
    }
    --starts().count;
    if (refCount != nullptr) *refCount = starts().count;
    return ACL_SUCCESS;
  });
}

aclnnStatus aclnnInit(const char* configPath) {
  return guarded(__func__, [&] { return check_config("aclnnInit", configPath); });
}

aclnnStatus aclnnFinalize() { return OK; }

aclError aclrtGetVersion(int32_t* majorVersion, int32_t* minorVersion, int32_t* patchVersion) {
  if (majorVersion == nullptr) return null_result(__func__, "majorVersion");
  if (minorVersion == nullptr) return null_result(__func__, "minorVersion");
  if (patchVersion == nullptr) return null_result(__func__, "patchVersion");
  *majorVersion = ACL_MAJOR_VERSION;
  *minorVersion = ACL_MINOR_VERSION;
  *patchVersion = ACL_PATCH_VERSION;
  return ACL_SUCCESS;
}

aclError aclsysGetCANNVersion(aclCANNPackageName name, aclCANNPackageVersion* version) {
  const int package = name;
  if (version == nullptr) return null_result(__func__, "version");
  if (package != ACL_PKG_NAME_CANN) {
    return refuse(ACL_ERROR_INVALID_PARAM, "aclsysGetCANNVersion: name is " + std::to_string(package) +
                                               ", a package that is not there; 0 (ACL_PKG_NAME_CANN) is accepted");
  }
  *version = {};
  copy_text(version->version, sizeof version->version, std::string("fusedattn ") + kVersion);
  copy_text(version->majorVersion, sizeof version->majorVersion, part_of_version(0));
  copy_text(version->minorVersion, sizeof version->minorVersion, part_of_version(1));
  copy_text(version->releaseVersion, sizeof version->releaseVersion, part_of_version(2));
  copy_text(version->patchVersion, sizeof version->patchVersion, part_of_version(2));
  return ACL_SUCCESS;
}

aclError aclsysGetVersionStr(char* pkgName, char* versionStr) {
  if (pkgName == nullptr) return null_result(__func__, "pkgName");
  if (versionStr == nullptr) return null_result(__func__, "versionStr");
  const std::string name(pkgName, strnlen(pkgName, ACL_PKG_VERSION_MAX_SIZE));
  if (strcasecmp(name.c_str(), "cann") != 0 && name != "fusedattn") {
    return refuse(ACL_ERROR_INVALID_PARAM,
                  "aclsysGetVersionStr: pkgName is \"" + name + "\", a package that is not there; \"cann\" and \"fusedattn\" are accepted");
  }
  copy_text(versionStr, ACL_PKG_VERSION_MAX_SIZE, std::string("fusedattn ") + kVersion);
  return ACL_SUCCESS;
}

void aclAppLog(aclLogLevel logLevel, const char* func, const char* file, uint32_t line, const char* fmt, ...) {
  static constexpr const char* kNames[] = {"DEBUG", "INFO", "WARNING", "ERROR"};
  const int level = logLevel;
  const char* wanted = std::getenv("ASCEND_SLOG_PRINT_TO_STDOUT");
  if (fmt == nullptr || wanted == nullptr || std::strcmp(wanted, "1") != 0) return;
  if (level < 0 || level > ACL_ERROR || level < log_level()) return;
  char text[1024];
  va_list arguments;
  va_start(arguments, fmt);
  std::vsnprintf(text, sizeof text, fmt, arguments);
  va_end(arguments);
  std::printf("[%s] %s:%u %s: %s\n", kNames[level], file == nullptr ? "" : file, line, func == nullptr ? "" : func, text);
}
