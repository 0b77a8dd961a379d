// cpu.cc: takes the place of the library's own in the emulated build, where every AVX-512 lane can run.
#include "isa/cpu.h"

namespace fusedattn {

const Cpu& cpu() {
  static const Cpu everything = [] {
    Cpu found;
    found.avx512 = found.avx512_bf16 = true;
    found.intel = true;  // whose order of lanes and sizes of tiles other machines would not meet
    return found;
  }();
  return everything;
}

}  // namespace fusedattn
