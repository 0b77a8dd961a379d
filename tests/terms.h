// terms.h: what a case does to its scores (soft cap, bias, ALiBi, sink), what dropout it has, and the form of its statistics.
#ifndef FUSEDATTN_TESTS_TERMS_H
#define FUSEDATTN_TESTS_TERMS_H

#include <cstdint>

namespace fusedattn::tests {

// How a bias lies in memory: strided; one line that is read along the diagonals (row_stride -1); or, packed, a block per
// sequence.
enum class BiasForm { none, strided, diagonal, blocks };

// The bias of a case: which axes it has (an axis it lacks repeats) and its type.
struct BiasTerm {
  BiasForm form = BiasForm::none;
  bool per_sequence = true;
  bool per_head = true;
  bool per_row = true;
  bool before_scale = false;
  int32_t dtype = -1;  // -1: that of q
};

// Slopes per head, and per sequence if asked for.
struct AlibiTerm {
  bool present = false;
  bool per_sequence = true;
  std::int64_t q_start = 0;
  std::int64_t kv_start = 0;
  bool square_root = false;
  bool bottom_right = false;
  bool first_sequence = false;
};

// Bits are made from the same stream: what they keep does not depend on whether the library gets them or makes its own.
struct DropoutTerm {
  double keep_prob = 1.0;
  bool bits = false;
  std::uint64_t seed = 0;
  std::uint64_t offset = 0;
};

struct ScoreTerms {
  double softcap = 0.0;  // 0: none
  BiasTerm bias = {};
  AlibiTerm alibi = {};
  DropoutTerm dropout = {};
  bool sink = false;
};

struct StatsForm {
  int32_t lanes = 1;
  bool blocks = false;
};

inline bool present(const BiasTerm& bias) { return bias.form != BiasForm::none; }
inline bool present(const DropoutTerm& dropout) { return dropout.bits || dropout.keep_prob < 1.0; }

// Bits beside a keep_prob of 1 drop some all the same.
inline double kept_part(const DropoutTerm& dropout) { return dropout.keep_prob < 1.0 ? dropout.keep_prob : 0.7; }

}  // namespace fusedattn::tests
#endif
