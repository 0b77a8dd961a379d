// A call of FlashAttentionScore or of its gradient: every version of every interface says what it was given in these words.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "meta/executor.h"
#include "operators/slot.h"

namespace fusedattn::cann::score {

// What a tensor is to the operator. The forward writes attention_out, softmax_max and softmax_sum, the gradient reads them.
enum class Role : std::uint8_t {
  query, key, value, query_rope, key_rope, real_shift, drop_mask, atten_mask, sink, dequantisation, unused,
  attention_out, softmax_max, softmax_sum,
  dy, dq, dk, dv, dq_rope, dk_rope, dpse, dsink
};
inline constexpr std::size_t kRoles = static_cast<std::size_t>(Role::dsink) + 1;

// One tensor parameter of an interface.
struct Argument {
  const char* name;
  Role role;
  const aclTensor* given;
};

// A call as it comes in. Lists, attributes and strings that an interface lacks keep their defaults.
struct Arguments {
  const char* function = "";
  bool backward = false;
  bool packed_alone = false;  // VarLen, Unpadding: TND and nothing else
  bool unified = false;       // V4: rotary parts in any layout, dropout from seed and offset
  bool upper_bound = false;   // GetMaxWorkspaceSize: a workspace that does for any lengths
  std::vector<Argument> inputs, outputs;  // in the order of the interface
  const aclIntArray* prefix = nullptr;
  const aclIntArray* q_ends = nullptr;
  const aclIntArray* kv_ends = nullptr;
  const aclIntArray* q_start = nullptr;
  const aclIntArray* kv_start = nullptr;
  double scale_value = 1.0, keep_prob = 1.0;
  std::int64_t pre_tokens = 0, next_tokens = 0, head_num = 0;
  const char* input_layout = nullptr;
  std::int64_t inner_precise = 0, sparse_mode = 0;
  std::int64_t pse_type = 1;
  const char* softmax_layout = "";
  std::int64_t seed = 0, offset = 0, out_dtype = 0;
};

// The same with everything copied that a handle stands for.
struct Request {
  explicit Request(const Arguments& given);

  const Arguments& given;
  std::array<Slot, kRoles> slots;
  std::vector<Slot> unused;  // dequantisation, paddingMask and the like: looked at alone for being there
  std::optional<std::vector<std::int64_t>> prefix, q_ends, kv_ends, q_start, kv_start;
  const char* dead_list = nullptr;  // the name of a list whose handle stands for nothing that lives
  std::optional<std::string> layout, softmax_layout;  // nullopt: unterminated; layout also null, softmax_layout is then ""

  const Slot& operator[](Role role) const { return slots[static_cast<std::size_t>(role)]; }
  Operands operands() const;
};

// Phase 1 of every interface: reads, checks, plans.
aclnnStatus phase_one(const Arguments& given, std::uint64_t* workspace_size, aclOpExecutor** executor);

}  // namespace fusedattn::cann::score
