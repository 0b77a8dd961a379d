// everywhere.h: a few cases on every lane in every type, for promises that hold everywhere, and results compared byte
// by byte.
#ifndef FUSEDATTN_TESTS_EVERYWHERE_H
#define FUSEDATTN_TESTS_EVERYWHERE_H

#include "calls.h"
#include "tensors.h"
#include "term_cases.h"

namespace fusedattn::tests {

inline constexpr int32_t kTypes[] = {FUSEDATTN_FLOAT32, FUSEDATTN_BFLOAT16, FUSEDATTN_FLOAT16};

// Cases that reach full and partial tiles, remainders in every direction, groups, packing, bytes, and several blocks.
inline std::vector<Case> contract_cases() {
  std::vector<Case> cases;
  const Case base{.name = "causal",
                  .batch = 2,
                  .q_heads = 4,
                  .kv_heads = 2,
                  .q_len = 70,
                  .kv_len = 141,
                  .dim = 37,
                  .dim_v = 21,
                  .bottom_right = kCausal};
  cases.push_back(base);
  Case c = base;
  c.name = "uncut", c.bottom_right = kNoBand, c.dim = c.dim_v = 64;
  cases.push_back(c);
  c = base, c.name = "bytes", c.bytes.present = true;
  cases.push_back(c);
  c = base, c.name = "packed", c.q_ends = {33, 70}, c.kv_ends = {40, 141};
  cases.push_back(c);
  cases.push_back({.name = "blocks", .q_len = 336, .kv_len = 1100, .dim = 8, .dim_v = 8, .bytes = {.present = true, .short_rows = 168}});
  cases.push_back({.name = "one", .q_len = 1, .kv_len = 1, .dim = 1, .dim_v = 1});
  return cases;
}

// Cases that reach everything that joins the scores or the probabilities.
inline std::vector<Case> term_contract_cases() {
  std::vector<Case> cases{all_terms_padded(), all_terms_packed(), all_terms_long()};
  Case c = padded_base("diagonal");
  c.bottom_right = kCausal, c.terms.bias = {.form = BiasForm::diagonal}, c.terms.dropout = {.keep_prob = 0.5, .seed = 3};
  cases.push_back(c);
  return cases;
}

// body(case, dtype, lane) as a test of its own, for everything that runs.
template <class Body>
void for_all(const std::string& name, const std::vector<Case>& cases, const Body& body) {
  for (const std::string& lane : runnable_lanes(name))
    for (const int32_t dtype : kTypes)
      for (const Case& c : cases) {
        check::run(name + "/" + c.name + "/" + format_of(dtype).name + "/" + lane,
                   [&] { body(c, dtype, options_for(lane.c_str())); });
      }
}

template <class Body>
void for_all(const std::string& name, const Body& body) {
  std::vector<Case> cases = contract_cases();
  for (const Case& c : term_contract_cases()) cases.push_back(c);
  for_all(name, cases, body);
}

inline std::vector<std::byte> bytes_of(const Memory& memory) { return {memory.data(), memory.data() + memory.size()}; }

// Whatever a call wrote, in the order sequence, head, row, feature.
inline std::vector<std::vector<std::byte>> results(const Tensors& t) {
  return {t.out.bytes(), t.max.bytes(), t.sum.bytes(),          t.dq.bytes(),
          t.dk.bytes(), t.dv.bytes(), t.terms.d_bias.bytes(), bytes_of(t.terms.d_sink)};
}

inline void check_same_results(const Tensors& a, const Tensors& b) {
  const char* names[] = {"out", "max", "sum", "dq", "dk", "dv", "d_bias", "d_sink"};
  const auto have = results(a), want = results(b);
  for (std::size_t r = 0; r < have.size(); ++r) {
    if (have[r] != want[r]) check::complain(__FILE__, __LINE__, std::string(names[r]) + ": the bytes differ");
  }
}

}  // namespace fusedattn::tests
#endif
