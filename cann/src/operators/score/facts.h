// What follows from a request: sizes, lengths of the sequences, the mode in force. For checks and plans.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "operators/score/request.h"

namespace fusedattn::cann::score {

inline constexpr std::int64_t kLanes = 8;  // each statistic is written eight times, side by side
inline constexpr std::int64_t kIntMax = 2147483647, kIntMin = -kIntMax - 1;

// A tensor seen as [batch, heads, rows, dim].
struct Sizes {
  std::int64_t batch = 0, heads = 0, rows = 0, dim = 0;
};
struct Steps {
  std::int64_t batch = 0, head = 0, row = 0;
};
struct Lengths {
  std::int64_t rows, columns;
  bool operator==(const Lengths&) const = default;
};

// The sizes of one call under the names of the contract. Each is known once the checks before it passed.
class Facts {
 public:
  explicit Facts(const Request& request);

  const Request& r;
  const bool backward, packed, folded, masked, inner_pse;

  const Slot& operator[](Role role) const { return r[role]; }
  const std::string& layout() const { return *r.layout; }
  const char* name(Role role) const { return r[role].name; }
  aclDataType dtype() const { return r[Role::query]->dtype; }
  std::string shape(Role role) const { return shape_of(r[role]); }

  std::int64_t B() const { return packed ? static_cast<std::int64_t>(r.q_ends ? r.q_ends->size() : 0) : queries().batch; }
  std::int64_t N1() const { return queries().heads; }
  std::int64_t N2() const { return keys().heads; }
  std::int64_t Sq() const { return queries().rows; }  // of a sequence; of the tensor, with TND
  std::int64_t Skv() const { return keys().rows; }
  std::int64_t D() const { return queries().dim; }
  std::int64_t key_D() const { return folded ? D() : keys().dim; }
  std::int64_t Dv() const { return values().dim; }
  std::int64_t Dr() const;
  const Sizes& queries() const { return measures().queries; }
  const Sizes& keys() const { return measures().keys; }
  const Sizes& values() const { return measures().values; }
  Steps laid(const Dims& shape, const Dims& strides, std::int64_t heads) const;

  Dims out_shape() const;    // of attention_out and dy
  Dims stats_shape() const;
  bool writes_nothing() const;  // the outputs of the forward are empty
  bool sees_nothing() const;    // there is no score at all: every output is zeros

  // TND: cumulative, decreases taken for sequences without rows.
  const std::vector<std::int64_t>& q_ends() const { return sequences().q_ends; }
  const std::vector<std::int64_t>& kv_ends() const { return sequences().kv_ends; }
  const std::vector<Lengths>& lengths() const { return sequences().lengths; }  // one entry where all are equal
  const Lengths& longest() const { return sequences().longest; }
  Lengths totals() const { return {q_ends().back(), kv_ends().back()}; }
  bool equal_lengths() const;
  std::int64_t numels() const { return sequences().numels; }  // scores

  // The sparse mode; 1 without a mask, when nothing is masked whatever the request says.
  std::int64_t mode() const { return masked ? r.given.sparse_mode : 1; }
  std::int64_t pre() const { return clamp(r.given.pre_tokens); }
  std::int64_t next() const { return clamp(r.given.next_tokens); }
  // The sequence with a band of its own: the last with rows in mode 7, the first in mode 8; -1: none.
  std::int64_t band_sequence() const;
  // Whether a row sees no column after its own, as a compressed ALiBi needs it: for equal lengths.
  bool causal() const;
  float keep_prob() const { return static_cast<float>(r.given.keep_prob); }
  bool generates() const { return r.given.unified && !r[Role::drop_mask] && keep_prob() < 1.0f; }

 private:
  struct Measures {
    Sizes queries, keys, values;
  };
  struct Sequences {
    std::vector<std::int64_t> q_ends, kv_ends;
    std::vector<Lengths> lengths;
    Lengths longest{0, 0};
    std::int64_t numels = 0;
  };
  static std::int64_t clamp(std::int64_t tokens);
  const Measures& measures() const;
  const Sequences& sequences() const;
  Sizes split(const Tensor& tensor, std::int64_t heads) const;

  mutable std::optional<Measures> measures_;
  mutable std::optional<Sequences> sequences_;
};

}  // namespace fusedattn::cann::score
