// score_call.h: a call of FlashAttentionScore or its gradient, whatever version, as tests write it.
#ifndef FUSEDATTN_TESTS_CANN_SCORE_CALL_H
#define FUSEDATTN_TESTS_CANN_SCORE_CALL_H

#include "aclnnop/aclnn_flash_attention_score.h"
#include "aclnnop/aclnn_flash_attention_score_grad.h"
#include "array.h"

namespace fusedattn::tests {

using PhaseTwo = aclnnStatus (*)(void*, uint64_t, aclOpExecutor*, aclrtStream);

struct ScoreCall {
  int version = 1;
  bool packed = false;  // VarLen, Unpadding
  Array query, key, value, query_rope, key_rope, pse, drop_mask, padding_mask, atten_mask, scale_q, sink;
  Array attention, max, sum;  // written forward, read backward
  Array dy, dq, dk, dv, dq_rope, dk_rope, dpse, dsink;
  Ints prefix, q_ends, kv_ends, q_start, kv_start;
  double scale = 1.0, keep = 1.0;
  int64_t pre = 2147483647, next = 2147483647, heads = 1, inner_precise = 0, mode = 0, pse_type = 1, seed = 0, offset = 0, out_dtype = 0;
  bool no_layout = false;
  char layout[8] = "BNSD";
  char softmax_layout[16] = "";

  uint64_t workspace = 0;
  aclOpExecutor* executor = nullptr;

  void set_layout(const char* text) { std::strcpy(layout, text); }

  aclnnStatus forward() {
    aclTensor *q = query.handle(), *k = key.handle(), *v = value.handle(), *qr = query_rope.handle(), *kr = key_rope.handle(),
              *p = pse.handle(), *d = drop_mask.handle(), *m = atten_mask.handle(), *s = sink.handle(), *smax = max.handle(),
              *ssum = sum.handle(), *o = attention.handle(), *none = padding_mask.handle();
    aclIntArray *n = prefix.handle(), *a = q_ends.handle(), *b = kv_ends.handle(), *qs = q_start.handle(), *ks = kv_start.handle();
    uint64_t* w = &workspace;
    char* text = no_layout ? nullptr : layout;
    aclOpExecutor** e = &executor;
    if (packed) {
      switch (version) {
        case 1:
          return aclnnFlashAttentionVarLenScoreGetWorkspaceSize(q, k, v, p, d, none, m, n, a, b, scale, keep, pre, next, heads, text,
                                                                inner_precise, mode, smax, ssum, nullptr, o, w, e);
        case 2:
          return aclnnFlashAttentionVarLenScoreV2GetWorkspaceSize(q, k, v, p, d, none, m, n, a, b, qs, ks, scale, keep, pre, next, heads,
                                                                  text, inner_precise, mode, pse_type, smax, ssum, nullptr, o, w, e);
        case 3:
          return aclnnFlashAttentionVarLenScoreV3GetWorkspaceSize(q, qr, k, kr, v, p, d, none, m, n, a, b, qs, ks, scale, keep, pre, next,
                                                                  heads, text, inner_precise, mode, pse_type, smax, ssum, nullptr, o, w, e);
        case 4:
          return aclnnFlashAttentionVarLenScoreV4GetWorkspaceSize(q, k, v, p, d, none, m, n, a, b, scale, keep, pre, next, heads, text,
                                                                  inner_precise, mode, softmax_layout, smax, ssum, nullptr, o, w, e);
        case 5:
          return aclnnFlashAttentionVarLenScoreV5GetWorkspaceSize(q, qr, k, kr, v, p, d, none, m, s, n, a, b, qs, ks, scale, keep, pre,
                                                                  next, heads, text, inner_precise, mode, pse_type, softmax_layout, smax,
                                                                  ssum, nullptr, o, w, e);
        default:
          return aclnnFlashAttentionVarLenScoreV5GetMaxWorkspaceSize(q, qr, k, kr, v, p, d, none, m, s, n, a, b, qs, ks, scale, keep, pre,
                                                                     next, heads, text, inner_precise, mode, pse_type, softmax_layout, smax,
                                                                     ssum, nullptr, o, w, e);
      }
    }
    switch (version) {
      case 1:
        return aclnnFlashAttentionScoreGetWorkspaceSize(q, k, v, p, d, none, m, n, scale, keep, pre, next, heads, text, inner_precise, mode,
                                                        smax, ssum, nullptr, o, w, e);
      case 2:
        return aclnnFlashAttentionScoreV2GetWorkspaceSize(q, k, v, p, d, none, m, n, qs, ks, scale, keep, pre, next, heads, text,
                                                          inner_precise, mode, pse_type, smax, ssum, nullptr, o, w, e);
      case 3:
        return aclnnFlashAttentionScoreV3GetWorkspaceSize(q, k, v, p, d, none, m, s, n, qs, ks, scale, keep, pre, next, heads, text,
                                                          inner_precise, mode, pse_type, smax, ssum, nullptr, o, w, e);
      default:
        return aclnnFlashAttentionScoreV4GetWorkspaceSize(q, k, v, p, d, none, m, qr, kr, scale_q.handle(), nullptr, nullptr, s, n, a, b,
                                                          qs, ks, scale, keep, pre, next, heads, text, inner_precise, mode, out_dtype,
                                                          pse_type, softmax_layout, seed, offset, smax, ssum, nullptr, o, w, e);
    }
  }

  aclnnStatus backward() {
    aclTensor *q = query.handle(), *k = key.handle(), *v = value.handle(), *qr = query_rope.handle(), *kr = key_rope.handle(),
              *p = pse.handle(), *d = drop_mask.handle(), *m = atten_mask.handle(), *s = sink.handle(), *smax = max.handle(),
              *ssum = sum.handle(), *o = attention.handle(), *y = dy.handle(), *g = dq.handle(), *h = dk.handle(), *i = dv.handle(),
              *gr = dq_rope.handle(), *hr = dk_rope.handle(), *gp = dpse.handle(), *gs = dsink.handle(), *none = padding_mask.handle();
    aclIntArray *n = prefix.handle(), *a = q_ends.handle(), *b = kv_ends.handle(), *qs = q_start.handle(), *ks = kv_start.handle();
    uint64_t* w = &workspace;
    char* text = no_layout ? nullptr : layout;
    aclOpExecutor** e = &executor;
    if (packed) {
      switch (version) {
        case 1:
          return aclnnFlashAttentionUnpaddingScoreGradGetWorkspaceSize(q, k, v, y, p, d, none, m, smax, ssum, nullptr, o, n, a, b, scale,
                                                                       keep, pre, next, heads, text, inner_precise, mode, g, h, i, gp, w,
                                                                       e);
        case 2:
          return aclnnFlashAttentionUnpaddingScoreGradV2GetWorkspaceSize(q, k, v, y, p, d, none, m, smax, ssum, nullptr, o, n, a, b, qs, ks,
                                                                         scale, keep, pre, next, heads, text, inner_precise, mode, pse_type,
                                                                         g, h, i, gp, w, e);
        case 3:
          return aclnnFlashAttentionUnpaddingScoreGradV3GetWorkspaceSize(q, qr, k, kr, v, y, p, d, none, m, smax, ssum, nullptr, o, n, a, b,
                                                                         qs, ks, scale, keep, pre, next, heads, text, inner_precise, mode,
                                                                         pse_type, g, gr, h, hr, i, gp, w, e);
        case 4:
          return aclnnFlashAttentionUnpaddingScoreGradV4GetWorkspaceSize(q, k, v, y, p, d, none, m, smax, ssum, nullptr, o, n, a, b, scale,
                                                                         keep, pre, next, heads, text, inner_precise, mode, g, h, i, gp,
                                                                         softmax_layout, w, e);
        case 5:
          return aclnnFlashAttentionUnpaddingScoreGradV5GetWorkspaceSize(q, qr, k, kr, v, y, p, d, none, m, smax, ssum, nullptr, o, s, n, a,
                                                                         b, qs, ks, scale, keep, pre, next, heads, text, inner_precise,
                                                                         mode, pse_type, softmax_layout, g, gr, h, hr, i, gp, gs, w, e);
        default:
          return aclnnFlashAttentionUnpaddingScoreGradV5GetMaxWorkspaceSize(
              q, qr, k, kr, v, y, p, d, none, m, smax, ssum, nullptr, o, s, n, a, b, qs, ks, scale, keep, pre, next, heads, text,
              inner_precise, mode, pse_type, softmax_layout, g, gr, h, hr, i, gp, gs, w, e);
      }
    }
    switch (version) {
      case 1:
        return aclnnFlashAttentionScoreGradGetWorkspaceSize(q, k, v, y, p, d, none, m, smax, ssum, nullptr, o, n, scale, keep, pre, next,
                                                            heads, text, inner_precise, mode, g, h, i, gp, w, e);
      case 2:
        return aclnnFlashAttentionScoreGradV2GetWorkspaceSize(q, k, v, y, p, d, none, m, smax, ssum, nullptr, o, n, qs, ks, scale, keep,
                                                              pre, next, heads, text, inner_precise, mode, pse_type, g, h, i, gp, w, e);
      case 3:
        return aclnnFlashAttentionScoreGradV3GetWorkspaceSize(q, k, v, y, p, d, none, m, smax, ssum, nullptr, o, s, n, qs, ks, scale, keep,
                                                              pre, next, heads, text, inner_precise, mode, pse_type, g, h, i, gp, gs, w, e);
      default:
        return aclnnFlashAttentionScoreGradV4GetWorkspaceSize(q, k, v, y, p, d, none, m, smax, ssum, nullptr, o, s, qr, kr,
                                                              scale_q.handle(), nullptr, nullptr, nullptr, nullptr, n, a, b, qs, ks, scale,
                                                              keep, pre, next, heads, text, softmax_layout, inner_precise, mode, pse_type,
                                                              seed, offset, out_dtype, g, h, i, gr, hr, gp, gs, w, e);
    }
  }

  PhaseTwo second(bool gradient) const {
    static constexpr PhaseTwo kSecond[2][2][6] = {
        {{aclnnFlashAttentionScore, aclnnFlashAttentionScoreV2, aclnnFlashAttentionScoreV3, aclnnFlashAttentionScoreV4},
         {aclnnFlashAttentionVarLenScore, aclnnFlashAttentionVarLenScoreV2, aclnnFlashAttentionVarLenScoreV3,
          aclnnFlashAttentionVarLenScoreV4, aclnnFlashAttentionVarLenScoreV5, aclnnFlashAttentionVarLenScoreV5}},
        {{aclnnFlashAttentionScoreGrad, aclnnFlashAttentionScoreGradV2, aclnnFlashAttentionScoreGradV3, aclnnFlashAttentionScoreGradV4},
         {aclnnFlashAttentionUnpaddingScoreGrad, aclnnFlashAttentionUnpaddingScoreGradV2, aclnnFlashAttentionUnpaddingScoreGradV3,
          aclnnFlashAttentionUnpaddingScoreGradV4, aclnnFlashAttentionUnpaddingScoreGradV5, aclnnFlashAttentionUnpaddingScoreGradV5}}};
    return kSecond[gradient][packed][version - 1];
  }

  // Both phases and a wait; complains about any failure.
  void run(bool gradient, const Stream& stream) {
    const aclnnStatus status = gradient ? backward() : forward();
    CHECK_THAT(status == 0, std::to_string(status) + ": " + message());
    if (status != 0) return;
    const Workspace memory(workspace);
    CHECK_EQ(second(gradient)(memory.data(), workspace, executor, stream.get()), 0);
    stream.wait();
  }
};

}  // namespace fusedattn::tests
#endif
