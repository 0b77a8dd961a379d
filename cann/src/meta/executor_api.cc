// Repeatable executors, and new addresses for their tensors.
#include "message.h"
#include "meta/executors.h"
#include "meta/objects.h"

namespace fusedattn::cann {
namespace {

enum class Side { both, inputs, outputs };

std::shared_ptr<Executor> executor_of(const char* function, const aclOpExecutor* handle) {
  auto executor = executors().find(handle);
  if (executor == nullptr) refuse(ACLNN_ERR_INNER_NULLPTR, std::string(function) + ": executor " + why_not(handle, Kind::executor));
  return executor;
}

// A parameter's description and addresses, found by its place.
struct Place {
  const Operand* operand = nullptr;
  std::vector<void*>* addresses = nullptr;
};

Place find(Executor& executor, Side side, std::size_t index) {
  const std::size_t inputs = executor.operands.inputs.size();
  const bool is_input = side == Side::inputs || (side == Side::both && index < inputs);
  if (side == Side::both && !is_input) index -= inputs;
  const auto& operands = is_input ? executor.operands.inputs : executor.operands.outputs;
  auto& addresses = is_input ? executor.at.inputs : executor.at.outputs;
  if (index >= operands.size()) return {};
  return {&operands[index], &addresses[index]};
}

std::size_t count(const Executor& executor, Side side) {
  return (side == Side::outputs ? 0 : executor.operands.inputs.size()) + (side == Side::inputs ? 0 : executor.operands.outputs.size());
}

// Sets the address of a tensor parameter, or of a member of a list parameter.
int set_address(const char* function, Side side, const aclOpExecutor* handle, std::size_t index, const std::size_t* member, void* address) {
  const auto executor = executor_of(function, handle);
  if (executor == nullptr) return ACLNN_ERR_INNER_NULLPTR;
  const char* argument = member == nullptr ? "index" : "irIndex";
  const Place place = find(*executor, side, index);
  if (place.operand == nullptr) {
    return invalid(function, std::string(argument) + " is " + std::to_string(index) + "; " + executor->run->name + " has " +
                                 std::to_string(count(*executor, side)) + " such tensor parameters, counted from 0");
  }
  const std::string which = std::string(argument) + " " + std::to_string(index) + " is " + place.operand->name;
  if (place.operand->list != (member != nullptr)) {
    return invalid(function, which + (place.operand->list ? ", a list; aclSetDynamicTensorAddr reaches its members"
                                                          : ", which is no list; aclSetTensorAddr sets its address"));
  }
  if (place.operand->tensors.empty()) return invalid(function, which + ", which was null in the first phase and cannot get an address");
  const std::size_t at = member == nullptr ? 0 : *member;
  if (at >= place.addresses->size()) {
    return invalid(function, "relativeIndex is " + std::to_string(at) + "; " + place.operand->name + " has " +
                                 std::to_string(place.addresses->size()) + " members");
  }
  (*place.addresses)[at] = address;
  return OK;
}

int set_tensor(const char* function, Side side, const aclOpExecutor* executor, std::size_t index, const aclTensor* tensor, void* address) {
  if (executor_of(function, executor) == nullptr) return ACLNN_ERR_INNER_NULLPTR;
  if (tensors().find(tensor) == nullptr) {
    return refuse(ACLNN_ERR_INNER_NULLPTR, std::string(function) + ": tensor " + why_not(tensor, Kind::tensor));
  }
  return set_address(function, side, executor, index, nullptr, address);
}

int set_member(const char* function, Side side, const aclOpExecutor* executor, std::size_t index, std::size_t member,
               const aclTensorList* list, void* address) {
  if (executor_of(function, executor) == nullptr) return ACLNN_ERR_INNER_NULLPTR;
  if (tensor_lists().find(list) == nullptr) {
    return refuse(ACLNN_ERR_INNER_NULLPTR, std::string(function) + ": tensors " + why_not(list, Kind::tensor_list));
  }
  return set_address(function, side, executor, index, &member, address);
}

}  // namespace
}  // namespace fusedattn::cann

using namespace fusedattn::cann;

aclnnStatus aclSetAclOpExecutorRepeatable(aclOpExecutor* executor) {
  return guarded(__func__, [&]() -> int {
    const auto live = executor_of("aclSetAclOpExecutorRepeatable", executor);
    if (live == nullptr) return ACLNN_ERR_INNER_NULLPTR;
    live->repeatable = true;
    return OK;
  });
}

aclnnStatus aclDestroyAclOpExecutor(aclOpExecutor* executor) {
  return guarded(__func__, [&]() -> int {
    if (executor_of("aclDestroyAclOpExecutor", executor) == nullptr) return ACLNN_ERR_INNER_NULLPTR;
    executors().take(executor);
    return OK;
  });
}

// The two names of each.
#define FUSEDATTN_SETTERS(Side_, Name)                                                                                        \
  aclnnStatus aclSet##Name##TensorAddr(aclOpExecutor* executor, const size_t index, aclTensor* tensor, void* addr) {          \
    return guarded(__func__, [&] { return set_tensor("aclSet" #Name "TensorAddr", Side_, executor, index, tensor, addr); });  \
  }                                                                                                                           \
  aclnnStatus AclSet##Name##TensorAddr(aclOpExecutor* executor, const size_t index, aclTensor* tensor, void* addr) {          \
    return aclSet##Name##TensorAddr(executor, index, tensor, addr);                                                           \
  }                                                                                                                           \
  aclnnStatus aclSetDynamic##Name##TensorAddr(aclOpExecutor* executor, size_t irIndex, const size_t relativeIndex,            \
                                              aclTensorList* tensors, void* addr) {                                           \
    return guarded(__func__, [&] {                                                                                            \
      return set_member("aclSetDynamic" #Name "TensorAddr", Side_, executor, irIndex, relativeIndex, tensors, addr);          \
    });                                                                                                                       \
  }                                                                                                                           \
  aclnnStatus AclSetDynamic##Name##TensorAddr(aclOpExecutor* executor, size_t irIndex, const size_t relativeIndex,            \
                                              aclTensorList* tensors, void* addr) {                                           \
    return aclSetDynamic##Name##TensorAddr(executor, irIndex, relativeIndex, tensors, addr);                                  \
  }

FUSEDATTN_SETTERS(Side::both, )
FUSEDATTN_SETTERS(Side::inputs, Input)
FUSEDATTN_SETTERS(Side::outputs, Output)
#undef FUSEDATTN_SETTERS
