// Every reason for refusing a problem, in words.
#pragma once
#include "problem/problem.h"
#include "problem/status.h"

namespace fusedattn {

Status check_forward(const Problem& problem);
Status check_backward(const Problem& problem);

}  // namespace fusedattn
