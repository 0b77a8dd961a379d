// The tables of what aclnn/acl_meta.h creates.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "meta/tensor.h"
#include "runtime/handles.h"

namespace fusedattn::cann {

struct Scalar {
  std::vector<std::byte> value;
  aclDataType dtype = ACL_DT_UNDEFINED;
};

// A list of tensors or scalars, by their handles.
struct List {
  std::vector<void*> members;
};

Handles<Tensor>& tensors();
Handles<Scalar>& scalars();
Handles<std::vector<std::int64_t>>& int_arrays();
Handles<std::vector<float>>& float_arrays();
Handles<std::vector<bool>>& bool_arrays();
Handles<List>& tensor_lists();
Handles<List>& scalar_lists();

}  // namespace fusedattn::cann
