// A plan in words: one line for people, logs and the verbose mode.
#pragma once
#include <string>

#include "plan/plan.h"

namespace fusedattn {

// "forward,avx2,float32,b1 h8/8 q4096 k4096 d128/128,bottom-right(inf;0),area 0.50,tile 18x256,items 32,ws 1.4 MiB"
std::string describe(const Plan& plan);

// Floating-point operations that the result is worth: 4 (forward) or 10 (backward) per visible pair and feature, if dim = dim_v.
double useful_flops(const Plan& plan);

}  // namespace fusedattn
