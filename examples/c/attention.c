/* attention.c: causal attention and its gradients from C; one row is compared with the formula. C99. */
#include <fusedattn/fusedattn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { HEADS = 4, ROWS = 256, DIM = 64, SIZE = HEADS * ROWS * DIM };

/* A contiguous [head, row, feature] tensor; with one sequence the batch stride is never used. */
static fusedattn_view view(float* data) {
  const fusedattn_view v = {data, SIZE, ROWS * DIM, DIM};
  return v;
}

static float* filled(unsigned seed) {
  float* data = malloc(SIZE * sizeof *data);
  if (data == NULL) exit(1);
  for (int n = 0; n < SIZE; ++n) data[n] = (float)((n * 37u + seed * 101u) % 199) / 99.0f - 1.0f;
  return data;
}

static void require(fusedattn_status status) {
  if (status == FUSEDATTN_OK) return;
  fprintf(stderr, "refused: %s\n", fusedattn_last_error());
  exit(1);
}

/* The largest difference of one output row from softmax(scale q k^T) v over the columns 0..row, in double. */
static double error_of_row(const float* q, const float* k, const float* v, const float* out, int row, double scale) {
  double weight[ROWS], sum = 0, worst = 0;
  for (int j = 0; j <= row; ++j) {
    double dot = 0;
    for (int d = 0; d < DIM; ++d) dot += (double)q[row * DIM + d] * k[j * DIM + d];
    sum += weight[j] = exp(scale * dot);
  }
  for (int d = 0; d < DIM; ++d) {
    double expected = 0;
    for (int j = 0; j <= row; ++j) expected += weight[j] / sum * v[j * DIM + d];
    worst = fmax(worst, fabs(expected - out[row * DIM + d]));
  }
  return worst;
}

int main(void) {
  float *q = filled(1), *k = filled(2), *v = filled(3), *d_out = filled(4);
  float *out = filled(0), *dq = filled(0), *dk = filled(0), *dv = filled(0);
  float max[HEADS * ROWS], sum[HEADS * ROWS];
  const fusedattn_stats stats = {.max = max, .sum = sum, .batch_stride = HEADS * ROWS, .head_stride = ROWS, .row_stride = 1};

  fusedattn_problem p;
  fusedattn_problem_init(&p);
  p.dtype = FUSEDATTN_FLOAT32;
  p.batch = 1, p.q_heads = HEADS, p.kv_heads = HEADS;
  p.q_len = ROWS, p.kv_len = ROWS, p.dim = DIM, p.dim_v = DIM;
  p.scale = 1.0 / sqrt(DIM);
  p.mask.bottom_right.right = 0; /* causal: nothing right of the diagonal */
  p.q = view(q), p.k = view(k), p.v = view(v), p.out = view(out), p.stats = stats;
  require(fusedattn_forward(&p, NULL));

  p.d_out = view(d_out), p.dq = view(dq), p.dk = view(dk), p.dv = view(dv);
  require(fusedattn_backward(&p, NULL));

  const int at = 2 * ROWS * DIM; /* head 2 */
  const double error = error_of_row(q + at, k + at, v + at, out + at, 100, p.scale);
  double surplus = 0; /* the weights of a row sum to one, so dv and d_out have the same sum */
  for (int n = 0; n < SIZE; ++n) surplus += (double)dv[n] - d_out[n];
  printf("lane %s: row 100 of head 2 is off by %.1e, the sum of dv by %.1e\n", fusedattn_lane_chosen(), error, surplus);
  free(q), free(k), free(v), free(d_out), free(out), free(dq), free(dk), free(dv);
  return error < 1e-5 && fabs(surplus) < 1e-2 ? 0 : 1;
}
