// Candidates, best first; FUSEDATTN_ISA overrides; remembers why others were refused.
#include "isa/lanes.h"

#include <cstdlib>
#include <cstring>
#include <utility>

#include "isa/cpu.h"

// The build says which there are beside the first: FUSEDATTN_LANE_<name>.
namespace fusedattn {
namespace baseline {
extern const Kernels kernels;
}
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}
namespace avx512_bf16 {
extern const Kernels kernels;
}

namespace {

Status refuse(const char* source, const char* name, const std::string& why) {
  std::string accepted;
  for (const Lane& lane : lanes())
    if (*lane.refusal == '\0') accepted += (accepted.empty() ? "" : ", ") + std::string(lane.kernels->name);
  return Status::invalid(std::string(source) + " is '" + name + "', " + why + "; accepted here: " + accepted);
}

// Best first where products of pairs are as fast as multiply-adds.
std::vector<Lane> built() {
  return {
#ifdef FUSEDATTN_LANE_avx512_bf16
    {&avx512_bf16::kernels, cpu().avx512_bf16 ? "" : "this CPU or operating system lacks AVX-512 BF16"},
#endif
#ifdef FUSEDATTN_LANE_avx512
    {&avx512::kernels, cpu().avx512 ? "" : "this CPU or operating system lacks AVX-512 F, BW, DQ or VL"},
#endif
#ifdef FUSEDATTN_LANE_avx2
    {&avx2::kernels, cpu().avx2 ? "" : "this CPU or operating system lacks AVX2, FMA or F16C"},
#endif
    {&baseline::kernels, ""},
  };
}

Status choose(const char* source, const char* name, const Kernels*& kernels) {
  for (const Lane& lane : lanes()) {
    if (std::strcmp(lane.kernels->name, name) != 0) continue;
    if (*lane.refusal != '\0') return refuse(source, name, lane.refusal);
    kernels = lane.kernels;
    return {};
  }
  return refuse(source, name, "which is not a lane of this library");
}

}  // namespace

const std::vector<Lane>& lanes() {
  static const std::vector<Lane> all = [] {
    std::vector<Lane> lanes = built();
#if defined(FUSEDATTN_LANE_avx512) && defined(FUSEDATTN_LANE_avx512_bf16)
    // Measured on one of them: Emerald Rapids takes two cycles for a product of pairs, in which it does four multiply-adds: float32 is twice as fast, and rounds less.
    if (cpu().intel) std::swap(lanes[0], lanes[1]);
#endif
    return lanes;
  }();
  return all;
}

Status choose_lane(const char* name, const Kernels*& kernels) {
  if (name != nullptr && *name != '\0') return choose("options.lane", name, kernels);
  static const char* const setting = std::getenv("FUSEDATTN_ISA");
  if (setting != nullptr && *setting != '\0') return choose("FUSEDATTN_ISA", setting, kernels);
  for (const Lane& lane : lanes())
    if (*lane.refusal == '\0') {
      kernels = lane.kernels;
      return {};
    }
  return {Code::internal, "no lane runs on this machine"};
}

}  // namespace fusedattn
