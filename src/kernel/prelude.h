// Every standard header that kernels use, included as baseline code before a lane's target region opens.
#pragma once
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <limits>
#include <type_traits>

#include "kernel/kernels.h"
#include "plan/arena.h"
#include "problem/problem.h"

#define FUSEDATTN_INLINE inline __attribute__((always_inline))
