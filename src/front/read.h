// Reads the C API's structs into the library's own.
#pragma once
#include "fusedattn/fusedattn.h"
#include "problem/problem.h"
#include "problem/status.h"
#include "run/merge.h"
#include "run/parallel.h"

namespace fusedattn {

Status read_problem(const fusedattn_problem* from, Problem& to);
Status read_dropout(const fusedattn_dropout& from, Dropout& to);
Status read_merge(const fusedattn_merge_problem* from, Merge& to);

// The lane's name and the team that the options ask for; defaults for null.
struct Choice {
  const char* lane = nullptr;
  Team team;
};
Status read_options(const fusedattn_options* from, Choice& to);

}  // namespace fusedattn
