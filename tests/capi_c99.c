/* capi_c99.c: the header in C99. Attention of two rows over two columns, and its gradient, against numbers worked out
 * here. */
#include <fusedattn/fusedattn.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static int failures = 0;

static void near(const char* what, double have, double want) {
  if (fabs(have - want) <= 1e-6) return;
  printf("%s is %.9g, expected %.9g\n", what, have, want);
  ++failures;
}

static fusedattn_view rows_of_two(float* data) {
  fusedattn_view view = {0};
  view.data = data;
  view.row_stride = 2;
  return view;
}

/* Row 0 sees column 0 alone; row 1 sees both, with scores 0 and log(3): probabilities 1/4 and 3/4. */
int main(void) {
  float q[4] = {5, 7, 1, 0}, k[4] = {0, 1, 0, 0}, v[4] = {2, 4, 6, 8}, out[4], max[2], sum[2];
  float d_out[4] = {1, 1, 1, 0}, dq[4], dk[4], dv[4];
  const double log3 = log(3.0);
  fusedattn_problem p;
  k[2] = (float)log3;
  fusedattn_problem_init(&p);
  p.dtype = FUSEDATTN_FLOAT32;
  p.batch = p.q_heads = p.kv_heads = 1;
  p.q_len = p.kv_len = p.dim = p.dim_v = 2;
  p.mask.top_left.right = 0;
  p.q = rows_of_two(q), p.k = rows_of_two(k), p.v = rows_of_two(v), p.out = rows_of_two(out);
  p.d_out = rows_of_two(d_out), p.dq = rows_of_two(dq), p.dk = rows_of_two(dk), p.dv = rows_of_two(dv);
  p.stats.max = max, p.stats.sum = sum, p.stats.row_stride = 1;
  if (fusedattn_forward(&p, NULL) != FUSEDATTN_OK || fusedattn_backward(&p, NULL) != FUSEDATTN_OK) {
    printf("refused: %s\n", fusedattn_last_error());
    return 1;
  }
  near("out[0,0]", out[0], 2), near("out[0,1]", out[1], 4);
  near("out[1,0]", out[2], 5), near("out[1,1]", out[3], 7);
  near("max[0]", max[0], 7), near("sum[0]", sum[0], 1);
  near("max[1]", max[1], log3), near("sum[1]", sum[1], 4.0 / 3);
  near("dv[0,0]", dv[0], 1.25), near("dv[0,1]", dv[1], 1);
  near("dv[1,0]", dv[2], 0.75), near("dv[1,1]", dv[3], 0);
  /* dx = p (dp - delta) = 1/4 (2 - 5), 3/4 (6 - 5) */
  near("dq[0,0]", dq[0], 0), near("dq[0,1]", dq[1], 0);
  near("dq[1,0]", dq[2], 0.75 * log3), near("dq[1,1]", dq[3], -0.75);
  near("dk[0,0]", dk[0], -0.75), near("dk[0,1]", dk[1], 0);
  near("dk[1,0]", dk[2], 0.75), near("dk[1,1]", dk[3], 0);
  if (strcmp(fusedattn_version(), FUSEDATTN_VERSION) != 0) ++failures;
  p.dim = 1537;
  if (fusedattn_forward(&p, NULL) == FUSEDATTN_OK || strstr(fusedattn_last_error(), "1537") == NULL) {
    printf("dim 1537 is not refused in words\n");
    ++failures;
  }
  printf("%s\n", failures ? "failed" : "passed");
  return failures != 0;
}
