// The layout of the C structs as compiled, for bindings to compare with.
#include "fusedattn/fusedattn.h"

#define WHOLE(type) {#type, 0, sizeof(fusedattn_##type)}
#define FIELD(type, field) {#type "." #field, offsetof(fusedattn_##type, field), sizeof(fusedattn_##type::field)}

extern "C" const fusedattn_layout_entry* fusedattn_layout(void) {
  static const fusedattn_layout_entry entries[] = {
      WHOLE(view), FIELD(view, data), FIELD(view, batch_stride), FIELD(view, head_stride), FIELD(view, row_stride),
      WHOLE(band), FIELD(band, left), FIELD(band, right),
      WHOLE(mask), FIELD(mask, top_left), FIELD(mask, bottom_right), FIELD(mask, bands), FIELD(mask, prefix), FIELD(mask, bytes), FIELD(mask, batch_stride),
      FIELD(mask, head_stride), FIELD(mask, row_stride), FIELD(mask, meaning), FIELD(mask, whole),
      WHOLE(bias), FIELD(bias, data), FIELD(bias, batch_stride), FIELD(bias, head_stride), FIELD(bias, row_stride), FIELD(bias, dtype),
      FIELD(bias, before_scale), FIELD(bias, blocks), FIELD(bias, reserved),
      WHOLE(alibi), FIELD(alibi, slopes), FIELD(alibi, batch_stride), FIELD(alibi, head_stride), FIELD(alibi, q_start),
      FIELD(alibi, kv_start), FIELD(alibi, square_root), FIELD(alibi, bottom_right), FIELD(alibi, first_sequence), FIELD(alibi, reserved),
      WHOLE(dropout), FIELD(dropout, keep_prob), FIELD(dropout, bits), FIELD(dropout, seed), FIELD(dropout, offset),
      WHOLE(stats), FIELD(stats, max), FIELD(stats, sum), FIELD(stats, batch_stride), FIELD(stats, head_stride), FIELD(stats, row_stride),
      FIELD(stats, lanes), FIELD(stats, blocks),
      WHOLE(problem), FIELD(problem, struct_size), FIELD(problem, dtype), FIELD(problem, foreign_stats), FIELD(problem, batch),
      FIELD(problem, q_heads), FIELD(problem, kv_heads), FIELD(problem, q_len), FIELD(problem, kv_len), FIELD(problem, dim),
      FIELD(problem, dim_v), FIELD(problem, q_ends), FIELD(problem, kv_ends), FIELD(problem, scale), FIELD(problem, softcap), FIELD(problem, mask),
      FIELD(problem, bias), FIELD(problem, alibi), FIELD(problem, dropout), FIELD(problem, sink),
      FIELD(problem, q), FIELD(problem, k), FIELD(problem, v), FIELD(problem, out), FIELD(problem, stats), FIELD(problem, d_out),
      FIELD(problem, dq), FIELD(problem, dk), FIELD(problem, dv), FIELD(problem, d_bias), FIELD(problem, d_sink),
      WHOLE(options), FIELD(options, struct_size), FIELD(options, lane), FIELD(options, threads), FIELD(options, reserved),
      FIELD(options, parallel), FIELD(options, parallel_context),
      WHOLE(partial), FIELD(partial, out), FIELD(partial, stats),
      WHOLE(merge_problem), FIELD(merge_problem, struct_size), FIELD(merge_problem, dtype), FIELD(merge_problem, count),
      FIELD(merge_problem, batch), FIELD(merge_problem, heads), FIELD(merge_problem, rows), FIELD(merge_problem, dim_v),
      FIELD(merge_problem, parts), FIELD(merge_problem, result), FIELD(merge_problem, q_ends), FIELD(merge_problem, special),
      FIELD(merge_problem, log_sum_exp),
      WHOLE(nsa_compress_problem), FIELD(nsa_compress_problem, struct_size), FIELD(nsa_compress_problem, dtype),
      FIELD(nsa_compress_problem, reserved), FIELD(nsa_compress_problem, sequences), FIELD(nsa_compress_problem, ends),
      FIELD(nsa_compress_problem, tokens), FIELD(nsa_compress_problem, heads), FIELD(nsa_compress_problem, dim),
      FIELD(nsa_compress_problem, block), FIELD(nsa_compress_problem, stride), FIELD(nsa_compress_problem, input),
      FIELD(nsa_compress_problem, weight), FIELD(nsa_compress_problem, output), FIELD(nsa_compress_problem, d_output),
      FIELD(nsa_compress_problem, d_input), FIELD(nsa_compress_problem, d_weight),
      {nullptr, 0, 0}};
  return entries;
}
