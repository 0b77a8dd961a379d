// Constraints: sparse modes, the masks they take, their tokens and prefixes.
#include <algorithm>

#include "operators/score/constraints.h"
#include "operators/score/masks.h"

namespace fusedattn::cann::score {
namespace {

std::string s(std::int64_t n) { return std::to_string(n); }
std::string with_mode(const Facts& f) { return " with sparseMode " + s(f.r.given.sparse_mode); }

Sentence mode(const Facts& f) {
  const std::int64_t mode = f.r.given.sparse_mode;
  if (f.packed ? mode >= 0 && mode <= 8 && mode != 5 : mode >= 0 && mode <= 6) return {};
  return "sparseMode is " + s(mode) + " with inputLayout " + f.layout();
}

Sentence dtype(const Facts& f) {
  if (!f.masked || f[Role::atten_mask]->dtype == ACL_BOOL || f[Role::atten_mask]->dtype == ACL_UINT8) return {};
  return std::string(f.name(Role::atten_mask)) + " has dtype " + text(f[Role::atten_mask]->dtype);
}

Sentence compressed(const Facts& f) {
  const Dims wanted = compressed_mask(f.mode());
  if (!f.masked || wanted.empty()) return {};
  const Dims& shape = f[Role::atten_mask]->shape;
  if ((shape.size() == 2 || shape.size() == 4) && std::equal(wanted.begin(), wanted.end(), shape.end() - 2)) return {};
  return f.shape(Role::atten_mask) + with_mode(f);
}
std::string accepted_compressed(const Facts& f) {
  return text(compressed_mask(f.mode())) + ", the compressed mask, with or without two dimensions before these";
}

Sentence full(const Facts& f) {
  if (!f.masked || !compressed_mask(f.mode()).empty()) return {};
  const std::vector<Dims> shapes = full_masks(f);
  if (std::find(shapes.begin(), shapes.end(), f[Role::atten_mask]->shape) != shapes.end()) return {};
  return f.shape(Role::atten_mask) + with_mode(f);
}
std::string accepted_full(const Facts& f) {
  std::vector<Dims> shapes = full_masks(f);
  std::string all;
  std::sort(shapes.begin(), shapes.end());
  shapes.erase(std::unique(shapes.begin(), shapes.end()), shapes.end());
  for (const Dims& shape : shapes) all += (all.empty() ? "" : ", ") + text(shape);
  return all;
}

std::string tokens(const Facts& f, const Lengths& n, const std::string& fault) {
  return "preTokens is " + s(f.pre()) + ", nextTokens is " + s(f.next()) + ":" + with_mode(f) + " and lengths q " + s(n.rows) + ", kv " +
         s(n.columns) + " " + fault;
}

// Outside TND: the band as seen from the left top must meet the scores.
Sentence band_fault(const Facts& f, const Lengths& n) {
  const std::int64_t shift = f.mode() == 4 ? n.columns - n.rows : 0, left = f.pre() - shift, right = f.next() + shift;
  if (left < 0 && right < 0) return tokens(f, n, "both edges lie beyond the diagonal");
  if (left < 0 && !(right >= -left && -left < n.columns)) return tokens(f, n, "preTokens leaves no column");
  if (right < 0 && !(-right <= left && -right < n.rows)) return tokens(f, n, "nextTokens leaves no column");
  return {};
}

// TND, one sequence; sequences without rows or columns are skipped.
Sentence packed_fault(const Facts& f, const Lengths& n) {
  if (n.rows == 0 || n.columns == 0) return {};
  const std::int64_t pre = f.pre(), next = f.next();
  if (f.mode() == 0) {
    if (next >= 0 && n.columns + pre >= n.rows && (pre >= 0 || next >= -pre)) return {};
    return tokens(f, n, "not all of next >= 0, kv + pre >= q, pre + next >= 0 hold");
  }
  if (pre >= 0 && (next >= 0 || pre + next >= 0) && n.rows - next <= n.columns) return {};
  return tokens(f, n, "not all of pre >= 0, pre + next >= 0, q - next <= kv hold");
}

Sentence band(const Facts& f) {
  if (!f.masked || (f.mode() != 0 && f.mode() != 4)) return {};
  for (const Lengths& n : f.lengths())
    if (Sentence fault = f.packed ? packed_fault(f, n) : band_fault(f, n)) return fault;
  return {};
}

Sentence longer_queries(const Facts& f) {
  if (!f.packed || !f.masked || (f.mode() != 3 && f.mode() != 7)) return {};
  for (std::size_t b = 0; b < f.lengths().size(); ++b) {
    const Lengths& n = f.lengths()[b];
    if (n.rows > n.columns && n.columns > 0)
      return "sequence " + std::to_string(b) + " has q length " + s(n.rows) + " and kv length " + s(n.columns) + with_mode(f);
  }
  return {};
}

Sentence cut(const Facts& f) {
  if (!f.packed || !f.masked || (f.mode() != 7 && f.mode() != 8) || f.band_sequence() < 0) return {};
  const Lengths& n = f.lengths()[static_cast<std::size_t>(f.band_sequence())];
  if (f.pre() >= n.columns && n.rows - f.next() <= n.columns && (f.mode() == 8 || f.next() <= 0)) return {};
  return tokens(f, n, "of sequence " + s(f.band_sequence()) + ", not all of the conditions hold");
}

Sentence prefix_number(const Facts& f) {
  if (!f.masked || f.mode() != 6) return {};
  if (!f.r.prefix) return "prefixOptional is null with sparseMode 6";
  if (static_cast<std::int64_t>(f.r.prefix->size()) == f.B()) return {};
  return "prefixOptional has " + std::to_string(f.r.prefix->size()) + " entries for " + s(f.B()) + " sequences";
}

Sentence prefix_range(const Facts& f) {
  if (!f.masked || f.mode() != 6) return {};
  for (std::size_t b = 0; b < f.r.prefix->size(); ++b) {
    const Lengths& n = f.packed ? f.lengths()[b] : f.lengths().front();
    const std::int64_t length = (*f.r.prefix)[b];
    if (length < std::max<std::int64_t>(n.columns - n.rows, 0) || length > n.columns)
      return "prefixOptional[" + std::to_string(b) + "] is " + s(length) + " with q length " + s(n.rows) + ", kv length " + s(n.columns);
  }
  return {};
}

const Row kRows[] = {
    {"sparse.mode", kTiling, kTiling, "0 to 6, with TND 0 to 4 and 6 to 8", mode},
    {"mask.dtype", kTiling, kTiling, "ACL_BOOL and ACL_UINT8", dtype},
    {"mask.compressed", kTiling, kTiling, accepted_compressed, compressed},
    {"mask.full", kTiling, kTiling, accepted_full, full},
    {"tokens.band", kTiling, kTiling, "tokens whose band meets the scores", band},
    {"tokens.lengths", kTiling, kTiling, "sequences with q length <= kv length", longer_queries},
    {"tokens.cut", kTiling, kTiling, "pre >= kv, q - next <= kv, and with sparseMode 7 next <= 0", cut},
    {"prefix.number", kTiling, kTiling, "one entry per sequence", prefix_number},
    {"prefix.range", kTiling, kTiling, "max(0, kv - q) to kv", prefix_range},
};

}  // namespace

std::span<const Row> mask_rows() { return kRows; }

}  // namespace fusedattn::cann::score
