// Executors: kept between the phases, handed to a stream in the second.
#include "meta/executor.h"

#include <mutex>

#include "meta/executors.h"
#include "runtime/device.h"
#include "runtime/memory.h"
#include "runtime/stream.h"

namespace fusedattn::cann {
namespace {

std::vector<std::vector<void*>> addresses_of(const std::vector<Operand>& operands) {
  std::vector<std::vector<void*>> addresses;
  for (const Operand& operand : operands) {
    auto& members = addresses.emplace_back();
    for (const Tensor& tensor : operand.tensors) members.push_back(tensor.data);
  }
  return addresses;
}

std::string name_of(const Operand& operand, std::size_t member) {
  return operand.list ? std::string(operand.name) + "[" + std::to_string(member) + "]" : operand.name;
}

// Every tensor that is not empty has an address, and where its block is known, lies within it.
Outcome check_tensor(const std::string& start, const Operand& operand, std::size_t member, const void* address) {
  const Tensor& tensor = operand.tensors[member];
  if (tensor.empty()) return {};
  const std::string name = start + name_of(operand, member);
  if (address == nullptr) {
    return {ACLNN_ERR_PARAM_NULLPTR, name + " has no address, but " + std::to_string(tensor.elements()) + " elements"};
  }
  const auto extent = tensor.extent_bytes();
  if (!extent) {
    return {ACLNN_ERR_PARAM_INVALID, name + " with shape " + text(tensor.shape) + ", strides " + text(tensor.strides) + " and offset " +
                                         std::to_string(tensor.offset) + " begins before its memory or ends beyond any"};
  }
  const auto room = room_behind(address);
  if (!room) {
    if (!strict()) return {};
    return {ACLNN_ERR_PARAM_INVALID, name + " does not lie in memory of aclrtMalloc (FUSEDATTN_ACL_STRICT=1)"};
  }
  if (static_cast<std::uint64_t>(*extent) <= *room) return {};
  return {ACLNN_ERR_PARAM_INVALID, name + " with shape " + text(tensor.shape) + " of " + text(tensor.dtype) + " takes " +
                                       std::to_string(*extent) + " bytes, but its memory has " + std::to_string(*room)};
}

Outcome check_tensors(const std::string& start, const std::vector<Operand>& operands, const std::vector<std::vector<void*>>& addresses) {
  for (std::size_t i = 0; i < operands.size(); ++i) {
    for (std::size_t member = 0; member < operands[i].tensors.size(); ++member) {
      Outcome outcome = check_tensor(start, operands[i], member, addresses[i][member]);
      if (!outcome.ok()) return outcome;
    }
  }
  return {};
}

Outcome check_workspace(const std::string& start, std::uint64_t needed, const void* workspace, std::uint64_t size) {
  if (needed == 0) return {};
  if (workspace == nullptr) {
    return {ACLNN_ERR_PARAM_NULLPTR, start + "workspace is null; " + std::to_string(needed) + " bytes are needed"};
  }
  if (size < needed) {
    return {ACLNN_ERR_PARAM_INVALID,
            start + "workspaceSize is " + std::to_string(size) + "; the first phase asked for " + std::to_string(needed)};
  }
  const auto room = room_behind(workspace);
  if (!room || *room >= needed) return {};
  return {ACLNN_ERR_PARAM_INVALID, start + "workspace has " + std::to_string(*room) + " bytes; the first phase asked for " +
                                       std::to_string(needed)};
}

int no_executor(const std::string& function, const aclOpExecutor* handle) {
  const std::string sentence = function + ": executor " + why_not(handle, Kind::executor);
  return refuse(handle == nullptr ? ACLNN_ERR_PARAM_NULLPTR : ACLNN_ERR_INNER_NULLPTR,
                handle == nullptr ? sentence : sentence + "; an executor is used up by its second phase unless it is repeatable");
}

// An operator's failure in the codes of operators.
Outcome in_operator_codes(const std::string& start, Outcome outcome) {
  if (!outcome.ok()) outcome.sentence = start + outcome.sentence;
  return outcome;
}

}  // namespace

Handles<Executor>& executors() {
  static Handles<Executor>& all = *new Handles<Executor>(Kind::executor);
  return all;
}

aclnnStatus finish_phase_one(const char* name, std::unique_ptr<Call> call, Operands operands, std::uint64_t* workspace_size,
                             aclOpExecutor** executor) {
  if (workspace_size == nullptr || executor == nullptr) {
    return refuse(ACLNN_ERR_PARAM_NULLPTR, std::string(name) + ": " + (workspace_size == nullptr ? "workspaceSize" : "executor") +
                                               " is null; an address is required");
  }
  auto made = std::make_shared<Executor>();
  made->run = std::make_shared<Run>(name, std::move(call));
  made->at = {addresses_of(operands.inputs), addresses_of(operands.outputs)};
  made->operands = std::move(operands);
  const std::uint64_t bytes = made->run->call->workspace_bytes();
  *executor = static_cast<aclOpExecutor*>(executors().add(std::move(made)));
  *workspace_size = bytes;
  return OK;
}

aclnnStatus phase_two(const char* name, void* workspace, std::uint64_t workspace_size, aclOpExecutor* handle, aclrtStream stream) {
  return guarded(name, [&]() -> int {
    auto executor = executors().find(handle);
    if (executor == nullptr) return no_executor(name, handle);
    if (!executor->repeatable) executor = executors().take(handle);  // used up, whatever happens
    if (executor == nullptr) return no_executor(name, handle);
    const std::string start = std::string(name) + ": ";
    if (executor->run->name != name && start != executor->run->name + ": ") {
      return refuse(ACLNN_ERR_PARAM_INVALID, start + "executor was made for " + executor->run->name);
    }
    int code;
    const auto target = stream_of(name, stream, code);
    if (target == nullptr) return code == ACL_ERROR_RT_CONTEXT_NULL ? ACLNN_ERR_RUNTIME_ERROR : code;
    Outcome outcome = check_workspace(start, executor->run->call->workspace_bytes(), workspace, workspace_size);
    if (outcome.ok()) outcome = check_tensors(start, executor->operands.inputs, executor->at.inputs);
    if (outcome.ok()) outcome = check_tensors(start, executor->operands.outputs, executor->at.outputs);
    if (!outcome.ok()) return report(outcome);
    outcome = target->submit([run = executor->run, at = executor->at, workspace]() -> Outcome {
      const std::lock_guard one_at_a_time(run->mutex);
      return in_operator_codes(run->name + ": ", run->call->run(workspace, at));
    });
    if (!outcome.ok()) outcome = in_operator_codes(start, {ACLNN_ERR_RUNTIME_ERROR, outcome.sentence});
    return report(outcome);
  });
}

}  // namespace fusedattn::cann
