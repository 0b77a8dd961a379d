#include "operators/score/constraints.h"

#include <cstring>

namespace fusedattn::cann::score {
namespace {

bool of_scores(const Row& row) {
  for (const char* area : {"mask.", "tokens.", "prefix.", "pse.", "dropout."})
    if (std::strncmp(row.id, area, std::strlen(area)) == 0) return true;
  return false;
}

Outcome first_violated(std::span<const Row> rows, const Facts& f) {
  for (const Row& row : rows) {
    const int code = f.backward ? row.backward : row.forward;
    if (code == 0 || (of_scores(row) && f.sees_nothing())) continue;
    if (const Sentence sentence = row.violated(f))
      return {code, std::string(f.r.given.function) + ": " + *sentence + "; accepted: " + row.accepted.of(f) + " [" + row.id + "]"};
  }
  return {};
}

}  // namespace

std::vector<Row> whole_table() {
  std::vector<Row> all;
  for (const auto& part : {presence_rows(), argument_rows(), rope_rows(), shape_rows(), mask_rows(), pse_rows(), dropout_rows(),
                           gradient_rows(), output_rows(), strict_rows()})
    all.insert(all.end(), part.begin(), part.end());
  return all;
}

bool all_empty(const Facts& f) {
  const auto empty = [&](Role role) { return !f[role] || f[role]->empty(); };
  if (f.backward) return empty(Role::dq) && empty(Role::dk) && empty(Role::dv) && empty(Role::dpse);
  return empty(Role::softmax_max) && empty(Role::softmax_sum) && empty(Role::attention_out);
}

Outcome check(const Facts& f) {
  if (Outcome outcome = first_violated(presence_rows(), f); !outcome.ok()) return outcome;
  if (all_empty(f)) return {};
  for (const auto& part : {argument_rows(), rope_rows(), shape_rows(), mask_rows(), pse_rows(), dropout_rows(), gradient_rows(),
                           output_rows()})
    if (Outcome outcome = first_violated(part, f); !outcome.ok()) return outcome;
  return strict() ? first_violated(strict_rows(), f) : Outcome{};
}

}  // namespace fusedattn::cann::score
