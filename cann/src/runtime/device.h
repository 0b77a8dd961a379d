// Devices, of which the processor is one or several, and contexts, which own streams.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "acl/acl_rt.h"
#include "runtime/handles.h"

namespace fusedattn::cann {

struct Option {
  std::atomic<bool> set = false;
  std::atomic<std::int64_t> value = 0;
};
constexpr int kOptions = 4;         // aclSysParamOpt
constexpr int kContextOptions = 3;  // those a context may have of its own

struct Context {
  std::int32_t device = 0;
  bool of_device = false;           // the one that aclrtSetDevice makes
  void* default_stream = nullptr;   // a handle
  std::array<Option, kContextOptions> options;
};

Handles<Context>& contexts();

// FUSEDATTN_ACL_DEVICES, at least 1; fewer if ASCEND_RT_VISIBLE_DEVICES says so.
std::int32_t device_count();

// Keeps 107001 for a number that no device has, else returns 0.
int check_device(const char* function, const char* argument, std::int64_t device);

// The context of this thread; null if there is none, or if it was destroyed.
std::shared_ptr<Context> current_context();
// Whether this thread ever had one.
bool had_context();
void set_current_context(void* handle);
void* current_context_handle();
// Keeps 107002.
int no_context(const char* function);

// A context with a default stream; returns its handle.
void* make_context(std::int32_t device, bool of_device);
// Ends the streams of a context, after their work or at once, and then the context. Refuses on a worker of one of them.
int end_context(const char* function, void* handle, bool drop);
// 107000 on a worker of one of a context's streams, where waiting for them would never end.
int refuse_on_workers(const char* function, const void* context);

}  // namespace fusedattn::cann
