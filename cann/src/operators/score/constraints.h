// What a call must satisfy: one table, in the order in which the device finds fault.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "message.h"
#include "operators/score/facts.h"

namespace fusedattn::cann::score {

// What passes, in words: fixed, or a function of the call.
struct Words {
  const char* text = nullptr;
  std::string (*say)(const Facts&) = nullptr;
  Words(const char* text) : text(text) {}
  Words(std::string (*say)(const Facts&)) : say(say) {}
  std::string of(const Facts& f) const { return say ? say(f) : text; }
};

// id: area and name. forward, backward: the code of the failure, 0 where the direction does not check it. violated: the sentence
// about what is there instead. A row may rely on all rows before it.
struct Row {
  const char* id;
  int forward, backward;
  Words accepted;
  Sentence (*violated)(const Facts&);
};

inline constexpr int kNull = ACLNN_ERR_PARAM_NULLPTR, kValue = ACLNN_ERR_PARAM_INVALID, kTiling = ACLNN_ERR_INNER_TILING_ERROR,
                     kKernel = ACLNN_ERR_INNER_FIND_KERNEL_ERROR;

// The table: in parts, one after another.
std::span<const Row> presence_rows();   // then calls whose outputs are all empty succeed
std::span<const Row> argument_rows();
std::span<const Row> rope_rows();
std::span<const Row> shape_rows();
std::span<const Row> mask_rows();
std::span<const Row> pse_rows();
std::span<const Row> dropout_rows();
std::span<const Row> gradient_rows();
std::span<const Row> output_rows();
std::span<const Row> strict_rows();     // with FUSEDATTN_ACL_STRICT=1 alone
std::vector<Row> whole_table();

// Whether there is nothing to do: every output is empty. Known once presence_rows() passed.
bool all_empty(const Facts& f);

// The first row that a call violates as a code and a sentence; fine if it violates none, or if all_empty().
Outcome check(const Facts& f);

}  // namespace fusedattn::cann::score
