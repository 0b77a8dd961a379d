/* A user's program in C99: one small attention through the installed library, compared with the formula. */
#include <fusedattn/fusedattn.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ROWS = 5, COLUMNS = 7, DIM = 8 };

static float q[ROWS * DIM], k[COLUMNS * DIM], v[COLUMNS * DIM], out[ROWS * DIM];

static void fill(float* data, int size, int seed) {
  int i;
  for (i = 0; i < size; ++i) data[i] = (float)((i * 37 + seed * 11) % 19 - 9) / 8.0f;
}

/* Feature d of row i, causal, the diagonal ending at the last row and column. */
static double expected(int i, int d, double scale) {
  double sum = 0.0, value = 0.0;
  int j, e;
  for (j = 0; j <= i + COLUMNS - ROWS; ++j) {
    double score = 0.0;
    for (e = 0; e < DIM; ++e) score += (double)q[i * DIM + e] * k[j * DIM + e];
    sum += exp(scale * score);
    value += exp(scale * score) * v[j * DIM + d];
  }
  return value / sum;
}

static fusedattn_view view(float* data, int rows) {
  fusedattn_view made;
  made.data = data;
  made.batch_stride = made.head_stride = (int64_t)rows * DIM;
  made.row_stride = DIM;
  return made;
}

int main(void) {
  fusedattn_problem problem;
  double worst = 0.0;
  int i, d;
  fill(q, ROWS * DIM, 1);
  fill(k, COLUMNS * DIM, 2);
  fill(v, COLUMNS * DIM, 3);
  fusedattn_problem_init(&problem);
  problem.batch = problem.q_heads = problem.kv_heads = 1;
  problem.q_len = ROWS;
  problem.kv_len = COLUMNS;
  problem.dim = problem.dim_v = DIM;
  problem.scale = 0.5;
  problem.mask.bottom_right.right = 0;
  problem.q = view(q, ROWS);
  problem.k = view(k, COLUMNS);
  problem.v = view(v, COLUMNS);
  problem.out = view(out, ROWS);
  if (fusedattn_forward(&problem, NULL) != FUSEDATTN_OK) {
    fprintf(stderr, "%s\n", fusedattn_last_error());
    return 1;
  }
  for (i = 0; i < ROWS; ++i)
    for (d = 0; d < DIM; ++d) worst = fmax(worst, fabs(out[i * DIM + d] - expected(i, d, 0.5)));
  printf("fusedattn %s, lane %s, largest error %.1e\n", fusedattn_version(), fusedattn_lane_chosen(), worst);
  return strcmp(fusedattn_version(), FUSEDATTN_VERSION) == 0 && worst < 1e-5 ? 0 : 1;
}
