// Callbacks that wait for the thread that is subscribed to their stream.
#pragma once
#include <cstdint>

#include "acl/acl_rt.h"
#include "message.h"
#include "runtime/stream.h"

namespace fusedattn::cann {

// pthread_self(), as programs pass it to aclrtSubscribeReport.
std::uint64_t this_thread();

bool subscribed_here();

enum class Ran { one, none, not_subscribed };

// Runs one callback on the calling thread; waits for one until the deadline.
Ran run_callback(Deadline deadline);

// Hands a callback to the thread that is subscribed to the stream; on the stream's worker. If it blocks, waits until it ran.
Outcome deliver(Stream& stream, aclrtCallback function, void* argument, bool blocks);

// Makes `thread` the stream's subscriber; 0: nobody, and drops what the one before has not run.
void subscribe(Stream& stream, std::uint64_t thread);
void forget_callbacks(Stream& stream);

}  // namespace fusedattn::cann
