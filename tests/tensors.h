// tensors.h: the tensors of a case and the problem over them.
#ifndef FUSEDATTN_TESTS_TENSORS_H
#define FUSEDATTN_TESTS_TENSORS_H

#include <fusedattn/fusedattn.h>

#include <vector>

#include "term_tensors.h"

namespace fusedattn::tests {

// Every tensor of a case.
struct Tensors {
  Case c;
  int32_t dtype;
  Tensor q, k, v, out, d_out, dq, dk, dv, max, sum;
  std::vector<std::uint8_t> bytes;
  TermTensors terms;

  Tensors(const Case& c, int32_t dtype, Place place = Place::anywhere) : c(c), dtype(dtype) {
    const int64_t batch = packed(c) ? 1 : c.batch;
    const auto make = [&](int32_t type, int64_t heads, int64_t rows, int64_t dim) {
      return Tensor(type, {batch, heads, rows, dim}, c.layout, place);
    };
    q = make(dtype, c.q_heads, c.q_len, c.dim), dq = make(dtype, c.q_heads, c.q_len, c.dim);
    k = make(dtype, c.kv_heads, c.kv_len, c.dim), dk = make(dtype, c.kv_heads, c.kv_len, c.dim);
    v = make(dtype, c.kv_heads, c.kv_len, c.dim_v), dv = make(dtype, c.kv_heads, c.kv_len, c.dim_v);
    out = make(dtype, c.q_heads, c.q_len, c.dim_v), d_out = make(dtype, c.q_heads, c.q_len, c.dim_v);
    for (Tensor* statistic : {&max, &sum}) {
      *statistic = c.stats.blocks ? Tensor(FUSEDATTN_FLOAT32, {1, 1, c.q_heads * c.q_len, c.stats.lanes}, Layout::bnsd, place)
                                  : make(FUSEDATTN_FLOAT32, c.q_heads, c.q_len, c.stats.lanes);
    }
    terms = TermTensors(c, dtype, place);
    std::uint64_t seed = 1;
    for (const Tensor* input : {&q, &k, &v, &d_out}) input->fill(seed++);
    if (c.bytes.present) write_bytes();
  }

  // [sequence, head, row, column]; an axis that the mask lacks has length 1.
  void write_bytes() {
    for (int64_t b = 0; b < (c.bytes.per_sequence && !c.bytes.whole ? c.batch : 1); ++b)
      for (int64_t n = 0; n < (c.bytes.per_head ? c.q_heads : 1); ++n)
        for (int64_t i = 0; i < (c.bytes.per_row ? c.q_len : 1); ++i)
          for (int64_t j = 0; j < c.kv_len; ++j) {
            const bool hides = byte_hides(c.bytes, b, n, i, j);
            const bool zero = hides == (c.bytes.meaning == FUSEDATTN_NONZERO_SHOWS);
            bytes.push_back(zero ? 0 : static_cast<std::uint8_t>(j % 2 ? 1 : 128));
          }
  }

  // Lane `lane` of max or sum of a row of sequence b.
  double stat(const Tensor& statistic, int64_t b, int64_t n, int64_t i, int64_t lane = 0) const {
    const Sequence s = sequence_of(c, b);
    if (c.stats.blocks) return statistic.get(0, 0, c.q_heads * s.q_begin + n * s.q_len + i, lane);
    return statistic.get(packed(c) ? 0 : b, n, s.q_begin + i, lane);
  }

  fusedattn_problem problem() const {
    fusedattn_problem p;
    fusedattn_problem_init(&p);
    p.dtype = dtype, p.batch = c.batch, p.q_heads = c.q_heads, p.kv_heads = c.kv_heads;
    p.q_len = c.q_len, p.kv_len = c.kv_len, p.dim = c.dim, p.dim_v = c.dim_v;
    if (packed(c)) p.q_ends = c.q_ends.data(), p.kv_ends = c.kv_ends.data();
    p.scale = scale_of(c);
    p.mask.top_left = c.top_left, p.mask.bottom_right = c.bottom_right;
    if (!c.bands.empty()) p.mask.bands = c.bands.data();
    if (!c.prefix.empty()) p.mask.prefix = c.prefix.data();
    if (c.bytes.present) {
      p.mask.bytes = bytes.data(), p.mask.meaning = c.bytes.meaning, p.mask.whole = c.bytes.whole;
      const int64_t head = c.kv_len * (c.bytes.per_row ? c.q_len : 1);
      p.mask.row_stride = c.bytes.per_row ? c.kv_len : 0;
      p.mask.head_stride = c.bytes.per_head ? head : 0;
      p.mask.batch_stride = c.bytes.per_sequence ? head * (c.bytes.per_head ? c.q_heads : 1) : 0;
    }
    p.q = q.view(), p.k = k.view(), p.v = v.view(), p.out = out.view(), p.d_out = d_out.view();
    p.dq = dq.view(), p.dk = dk.view(), p.dv = dv.view();
    p.stats = {reinterpret_cast<float*>(max.memory.data()), reinterpret_cast<float*>(sum.memory.data()),
               max.batch_stride, max.head_stride, max.row_stride, c.stats.lanes, c.stats.blocks};
    terms.write(p);
    return p;
  }
};

}  // namespace fusedattn::tests
#endif
