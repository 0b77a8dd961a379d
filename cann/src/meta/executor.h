// The seam between the runtime and the operators: phase 1 ends in a Call, phase 2 runs it in the order of a stream.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "aclnn/acl_meta.h"
#include "message.h"
#include "meta/tensor.h"

namespace fusedattn::cann {

// One tensor parameter of an operator: absent, one tensor, or the tensors of a list. Everything is a copy.
struct Operand {
  const char* name = "";        // as in the operator's header; static
  std::vector<Tensor> tensors;  // empty: the parameter was null
  bool list = false;            // a tensor list: aclSetDynamic*TensorAddr reaches its members

  Operand(const char* name, const Tensor* tensor) : name(name) {
    if (tensor != nullptr) tensors.push_back(*tensor);
  }
  Operand(const char* name, const std::shared_ptr<const Tensor>& tensor) : Operand(name, tensor.get()) {}
  Operand(const char* name, const std::vector<std::shared_ptr<const Tensor>>& members) : name(name), list(true) {
    for (const auto& tensor : members) tensors.push_back(*tensor);
  }
};

// All tensor parameters in the order of phase 1, absent ones included.
struct Operands {
  std::vector<Operand> inputs, outputs;
};

// Where the tensors' blocks start, at the moment of phase 2; by parameter and, for lists, by member. Null for absent and empty ones.
struct Addresses {
  std::vector<std::vector<void*>> inputs, outputs;
  void* input(std::size_t parameter, std::size_t member = 0) const { return find(inputs, parameter, member); }
  void* output(std::size_t parameter, std::size_t member = 0) const { return find(outputs, parameter, member); }

 private:
  static void* find(const std::vector<std::vector<void*>>& all, std::size_t parameter, std::size_t member) {
    return parameter < all.size() && member < all[parameter].size() ? all[parameter][member] : nullptr;
  }
};

// What an operator decided in its first phase. Everything is copied in; only what lies behind addresses is read later.
class Call {
 public:
  virtual ~Call() = default;
  virtual std::uint64_t workspace_bytes() const = 0;
  // Runs on the stream's worker, in stream order; runs of one Call never overlap. `workspace` is 64-byte aligned if aclrtMalloc
  // made it, and may be null if workspace_bytes() is 0. Addresses of tensors that are not empty are never null.
  virtual Outcome run(void* workspace, const Addresses& at) = 0;
};

// Ends a successful phase 1: writes both outputs. Refuses null outputs with 161001, and writes nothing then.
aclnnStatus finish_phase_one(const char* name, std::unique_ptr<Call> call, Operands operands, std::uint64_t* workspace_size,
                             aclOpExecutor** executor);

// Phase 2 of the operator `name`: checks, hands the call to the stream, and frees the executor unless it is repeatable.
aclnnStatus phase_two(const char* name, void* workspace, std::uint64_t workspace_size, aclOpExecutor* executor, aclrtStream stream);

}  // namespace fusedattn::cann
