// Every standard header that kernels use, included as baseline code before a lane's target region opens.
#pragma once
#include <algorithm>
#include <array>
#include <cfloat>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <limits>
#include <type_traits>

#include "isa/cpu.h"
#include "kernel/kernels.h"
#include "plan/arena.h"
#include "problem/problem.h"

#define FUSEDATTN_ALWAYS __attribute__((always_inline))  // of a lambda
#define FUSEDATTN_INLINE inline FUSEDATTN_ALWAYS
