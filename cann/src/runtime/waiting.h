// Waiting for streams, and ending them, on whatever thread that happens.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>

#include "runtime/stream.h"

namespace fusedattn::cann {

// 107000 for a timeout below -1.
int check_timeout(const char* function, std::int32_t timeout);
// 107000 on the stream's own worker, which would wait for itself.
int refuse_on_worker(const char* function, const std::shared_ptr<Stream>& stream);
// Calls `wait` until it is true or the deadline comes; false then. A thread that is subscribed to streams runs their callbacks meanwhile.
bool serve_while_waiting(const std::function<bool(Deadline)>& wait, Deadline deadline);
// Waits, and reports the first failure of what ran.
int synchronize_stream(const char* function, const std::shared_ptr<Stream>& stream, Deadline deadline);
// Ends a stream whose handle is dead already. Callbacks that their subscriber has not taken by then are dropped.
void destroy_stream(const std::shared_ptr<Stream>& stream, bool drop);

}  // namespace fusedattn::cann
