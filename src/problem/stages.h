// Where the time of a call goes, for those who ask.
#pragma once
#include <cstdint>

namespace fusedattn {

enum class Stage { pack, scores, softmax, products };  // products: with P and dX, forward and backward
constexpr int kStages = 4;
constexpr const char* kStageNames[kStages] = {"pack", "scores", "softmax", "products"};

// Summed over the threads.
struct StageTimes {
  std::int64_t nanoseconds[kStages] = {};
};

}  // namespace fusedattn
