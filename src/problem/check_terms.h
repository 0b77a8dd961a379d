// Reasons for refusing the mask and the score terms of a problem.
#pragma once
#include <initializer_list>

#include "problem/problem.h"
#include "problem/status.h"

namespace fusedattn {

// Once sizes and sequences are right.
Status check_terms(const Problem& problem);

// Of the backward; `others`: all that is read or written besides.
Status check_term_gradients(const Problem& problem, std::initializer_list<const std::byte*> others);

}  // namespace fusedattn
