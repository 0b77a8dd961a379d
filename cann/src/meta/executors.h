// What an aclOpExecutor stands for.
#pragma once
#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include "meta/executor.h"
#include "runtime/handles.h"

namespace fusedattn::cann {

// What work in flight shares with the executor, and may outlive it.
struct Run {
  Run(std::string name, std::unique_ptr<Call> call) : name(std::move(name)), call(std::move(call)) {}
  const std::string name;
  const std::unique_ptr<Call> call;
  std::mutex mutex;  // runs of a repeatable executor in two streams follow one another
};

struct Executor {
  std::shared_ptr<Run> run;
  Operands operands;
  Addresses at;
  std::atomic<bool> repeatable = false;
};

Handles<Executor>& executors();

}  // namespace fusedattn::cann
