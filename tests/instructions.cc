// instructions.cc: runs small cells on one lane, each once in counted(), for callgrind to count its instructions, planning included.
#include <cstdio>

#include "calls.h"
#include "tensors.h"

using namespace fusedattn::tests;

namespace {

enum class Direction { forward, backward };

struct Cell {
  Case c;
  int32_t dtype;
  Direction direction;
};

Case square(const char* name, int64_t heads, int64_t length, int64_t dim) {
  return {.name = name, .q_heads = heads, .kv_heads = heads, .q_len = length, .kv_len = length, .dim = dim, .dim_v = dim};
}

Case causal(Case c) {
  c.bottom_right = kCausal;
  return c;
}

Case with_bytes(Case c) {
  c.bytes = {.present = true, .per_sequence = false, .per_head = false};
  return c;
}

Case with_dropout(Case c) {
  c.terms.dropout.keep_prob = 0.9;
  return c;
}

std::vector<Cell> cells() {
  constexpr auto fp32 = FUSEDATTN_FLOAT32, bf16 = FUSEDATTN_BFLOAT16, fp16 = FUSEDATTN_FLOAT16;
  constexpr auto forward = Direction::forward, backward = Direction::backward;
  const Case d64 = square("128x128x64", 1, 128, 64), d128 = square("128x128x128", 1, 128, 128);
  const Case small = square("8 heads 32x32x64", 8, 32, 64), odd = square("97x97x40", 1, 97, 40);
  Case grouped = causal(square("4 heads on 1, causal 64x96x64", 4, 64, 64)), decode = grouped;
  grouped.kv_heads = 1, grouped.kv_len = 96;
  decode.name = "8 heads on 1, 1x1024x64", decode.q_heads = 8, decode.kv_heads = 1, decode.q_len = 1, decode.kv_len = 1024;
  return {{d64, fp32, forward},
          {d64, fp32, backward},
          {d128, bf16, forward},
          {d128, bf16, backward},
          {d128, fp16, forward},
          {causal(square("causal 256x256x64", 1, 256, 64)), fp32, forward},
          {causal(square("causal 256x256x64", 1, 256, 64)), bf16, backward},
          {small, fp32, forward},
          {small, fp32, backward},
          {odd, fp32, forward},
          {grouped, bf16, forward},
          {grouped, bf16, backward},
          {decode, bf16, forward},
          {decode, bf16, backward},
          {with_bytes(square("mask bytes 128x128x64", 1, 128, 64)), fp32, forward},
          {with_dropout(square("dropout 128x128x64", 1, 128, 64)), fp32, forward},
          {with_dropout(square("dropout 128x128x64", 1, 128, 64)), fp32, backward}};
}

}  // namespace

// What is counted. Its name is how callgrind knows.
extern "C" __attribute__((noinline)) bool counted(const fusedattn_problem& problem, const fusedattn_options& options, bool backward) {
  return succeeds(backward ? fusedattn_backward(&problem, &options) : fusedattn_forward(&problem, &options));
}

int main(int argc, char** argv) {
  if (argc != 2) return std::fprintf(stderr, "instructions LANE\n"), 2;
  const fusedattn_options options = options_for(argv[1]);
  for (int32_t index = 0; index < fusedattn_lane_count(); ++index)
    if (fusedattn_lane_name(index) == std::string(argv[1]) && *fusedattn_lane_refusal(index) != 0)
      return std::printf("%s\n", fusedattn_lane_refusal(index)), 77;
  std::printf("%s\n", __VERSION__);
  for (const Cell& cell : cells()) {
    const Tensors t(cell.c, cell.dtype);
    const fusedattn_problem problem = t.problem();
    const bool backward = cell.direction == Direction::backward;
    if (backward && !succeeds(fusedattn_forward(&problem, &options))) return 1;
    if (!counted(problem, options, backward)) return 1;
    std::printf("%s, %s, %s\n", cell.c.name.c_str(), format_of(cell.dtype).name, backward ? "backward" : "forward");
  }
  return 0;
}
