#include "operators/score/pse.h"

#include <tuple>

#include "operators/library.h"

namespace fusedattn::cann::score {
namespace {

PseForm packed_form(const Facts& f, const Tensor& pse) {
  const Dims& shape = pse.shape;
  if (shape.size() == 4 && shape[1] == f.N1() && shape[2] == kSuppliedRows)
    return (shape[0] == 1 || shape[0] == f.B()) && shape[3] == f.longest().columns ? PseForm::last_rows : PseForm::none;
  if (shape.empty() || pse.elements() != shape[0]) return PseForm::none;
  if (shape[0] == f.numels()) return PseForm::packed_full;
  return shape[0] == f.N1() * f.totals().columns ? PseForm::packed_rows : PseForm::none;
}

void fill_alibi(const Facts& f, const Dims& strides, fusedattn_alibi& alibi) {
  const bool per_sequence = strides.size() == 2;
  alibi.batch_stride = per_sequence ? strides[0] : 0;
  alibi.head_stride = strides.back();
  alibi.square_root = f.r.given.pse_type == 3;
  std::tie(alibi.q_start, alibi.kv_start) = starts(f);
  alibi.first_sequence = f.packed && f.mode() == 8;
}

}  // namespace

PseForm pse_form(const Facts& f) {
  const Tensor& pse = *f[Role::real_shift];
  if (f.packed) return packed_form(f, pse);
  const Dims& shape = pse.shape;
  if (shape.size() != 4 || shape[1] != f.N1() || shape[3] != f.Skv() || (shape[0] != 1 && shape[0] != f.B())) return PseForm::none;
  if (shape[2] == f.Sq()) return PseForm::full;
  if (shape[2] == 1 && shape[0] == f.B()) return PseForm::one_row;
  return shape[2] == kSuppliedRows ? PseForm::last_rows : PseForm::none;
}

std::pair<std::int64_t, std::int64_t> starts(const Facts& f) {
  const auto &q = f.r.q_start, &kv = f.r.kv_start;
  if (!q || !kv || q->empty() || kv->empty()) return {0, 0};
  return {q->front(), kv->front()};
}

bool pse_as_it_lies(const Facts& f) {
  const Tensor& pse = *f[Role::real_shift];
  if (f.inner_pse) return true;
  return pse.shape.size() == 4 ? rows_are_contiguous(pse) : is_contiguous(pse);
}

std::int64_t fill_pse(const Facts& f, const Dims& strides, fusedattn_problem& problem) {
  if (f.inner_pse) {
    fill_alibi(f, strides, problem.alibi);
    return 0;
  }
  const Tensor& pse = *f[Role::real_shift];
  fusedattn_bias& bias = problem.bias;
  bias.dtype = library_dtype(pse.dtype);
  bias.before_scale = f.r.given.pse_type == 1;
  const PseForm form = pse_form(f);
  if (form == PseForm::packed_full || form == PseForm::packed_rows) {
    bias.blocks = 1;
    bias.row_stride = form == PseForm::packed_full;
    return 0;
  }
  bias.batch_stride = pse.shape[0] == 1 ? 0 : strides[0];
  bias.head_stride = strides[1];
  if (form == PseForm::last_rows) {
    bias.row_stride = -1;
    return (kSuppliedRows - 1) * strides[2] + pse.shape[3] - 1;
  }
  bias.row_stride = form == PseForm::full ? strides[2] : 0;
  return 0;
}

}  // namespace fusedattn::cann::score
