// Reads the C API's structs into the library's own.
#pragma once
#include "fusedattn/fusedattn.h"
#include "problem/problem.h"
#include "problem/status.h"
#include "run/merge.h"
#include "run/parallel.h"

namespace fusedattn {

// What every struct has: an address, its own size, a dtype, views.
Status check_struct(const void* address, const char* name, std::size_t size, std::size_t expected);
Status read_dtype(const char* name, std::int32_t from, Dtype& to);
View read_view(const fusedattn_view& view);

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
