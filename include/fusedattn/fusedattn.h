/* fusedattn.h: the C API of fusedattn, fused attention for CPUs, forward and backward. C99.
 *
 * One problem, two verbs. Fill a fusedattn_problem, then either
 *   - call fusedattn_forward() / fusedattn_backward(), which plan and run in one go with memory the library keeps, or
 *   - call fusedattn_plan_create(), give it fusedattn_plan_workspace() bytes, and call fusedattn_plan_run() as often as you like.
 *
 * For every sequence b, query head n (its key head is h = n / (q_heads / kv_heads)), row i and visible column j:
 *
 *   x[i,j] = scale * sum_d q[i,d] * k[j,d]  (softcap * tanh of that / softcap, + bias, + alibi)
 *   max[i] = max_j x[i,j]              sum[i] = sum_j exp(x[i,j] - max[i])      (the sink is one more x that has no value)
 *   out[i] = sum_j keep[i,j] / keep_prob * exp(x[i,j] - max[i]) / sum[i] * v[j]
 *
 * and the gradients dq, dk, dv, d_bias, d_sink of sum(out * d_out). Products are accumulated in float32 and rounded once to the
 * storage type. A row that sees no column has out = 0, max = -FLT_MAX, sum = FLT_MAX (with a sink: max = sink, sum = 1) and zero
 * gradients; a row of a sequence without columns has out = max = sum = 0.
 *
 * Results are the same bits for any number of threads and whatever else is in the batch.
 * Every function returns a status; the sentence behind it is in fusedattn_last_error() of the same thread.
 * The library never prints (unless FUSEDATTN_VERBOSE is 1 or 2), never aborts and never reads a file.
 */
#ifndef FUSEDATTN_FUSEDATTN_H
#define FUSEDATTN_FUSEDATTN_H

#include <stddef.h>
#include <stdint.h>

#define FUSEDATTN_VERSION "0.2.0"

#if defined(__GNUC__)
#define FUSEDATTN_API __attribute__((visibility("default")))
#else
#define FUSEDATTN_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef int32_t fusedattn_status;
enum {
  FUSEDATTN_OK = 0,
  FUSEDATTN_INVALID_ARGUMENT = 1, /* a field is missing, out of range, or contradicts another */
  FUSEDATTN_UNSUPPORTED = 2,      /* well formed, but not computed by this version */
  FUSEDATTN_OUT_OF_MEMORY = 3,
  FUSEDATTN_INTERNAL = 4
};

enum { FUSEDATTN_FLOAT32 = 0, FUSEDATTN_BFLOAT16 = 1, FUSEDATTN_FLOAT16 = 2 }; /* fusedattn_problem.dtype */
enum { FUSEDATTN_FORWARD = 0, FUSEDATTN_BACKWARD = 1 };                        /* fusedattn_plan_create, direction */
enum { FUSEDATTN_NONZERO_HIDES = 0, FUSEDATTN_NONZERO_SHOWS = 1 };             /* fusedattn_mask.meaning */
enum { FUSEDATTN_MERGE_SAFE = 0, FUSEDATTN_MERGE_FORMULA = 1 };                /* fusedattn_merge_problem.special */

#define FUSEDATTN_UNBOUNDED INT64_MAX /* a band edge that hides nothing */

/* A tensor seen as [sequence, head, row, feature]. Strides are in elements; the feature stride is always 1.
 * A packed tensor (see q_ends) has no sequence stride: its rows follow one another. */
typedef struct fusedattn_view {
  void* data;
  int64_t batch_stride;
  int64_t head_stride;
  int64_t row_stride;
} fusedattn_view;

/* Row i sees the columns j with  i + shift - left <= j <= i + shift + right.  Edges may be negative. */
typedef struct fusedattn_band {
  int64_t left;
  int64_t right;
} fusedattn_band;

/* Which columns a row sees: those inside all bands, or before the prefix; of these, those that the bytes show. */
typedef struct fusedattn_mask {
  fusedattn_band top_left;     /* shift = 0: the diagonal starts at row 0, column 0 */
  fusedattn_band bottom_right; /* shift = kv_len - q_len: the diagonal ends at the last row and column */
  const fusedattn_band* bands; /* optional, one more band per sequence, from the top left */
  const int64_t* prefix;       /* optional, per sequence: every row sees the columns before it; all bands must be unbounded left */
  const uint8_t* bytes;        /* optional, one byte per (sequence, head, row, column); strides in bytes, 0 repeats. Packed: what */
                               /* sequences share has the rows and columns of the longest */
  int64_t batch_stride;
  int64_t head_stride;
  int64_t row_stride;
  int32_t meaning; /* FUSEDATTN_NONZERO_HIDES or FUSEDATTN_NONZERO_SHOWS */
  int32_t whole;   /* packed: 1: rows and columns of the bytes are those of the packed tensors; 0: local to each sequence */
} fusedattn_mask;

/* Added to the scores: x = scale * s + bias, or x = scale * (s + bias). Read only where a row sees a column; -inf gives a column the
 * weight 0 but does not hide it: NaN and infinities in its key and value still reach the row. Strides in elements, 0 repeats; a row
 * stride of -1 reads along the diagonals, so that the bias depends on column - row alone. */
typedef struct fusedattn_bias {
  const void* data; /* NULL: none */
  int64_t batch_stride;
  int64_t head_stride;
  int64_t row_stride;
  int32_t dtype;        /* FUSEDATTN_FLOAT32, ...; need not be that of q */
  int32_t before_scale; /* 1: x = scale * (s + bias) */
  int32_t blocks;       /* packed: 1: a block [q_heads, rows, kv_len] per sequence, one after another, rows = q_len, or 1 if */
  int32_t reserved;     /* row_stride is 0; the strides are not read otherwise */
} fusedattn_bias;

/* Added to the scores, after the scale: x = ... - slope * |d| or - slope * sqrt|d|, d = column + kv_start - row - q_start.
 * The starts are from -2^52 to 2^52. Flags here and in all structs are 0 or 1. */
typedef struct fusedattn_alibi {
  const float* slopes; /* NULL: none; [sequence, head] */
  int64_t batch_stride;
  int64_t head_stride;
  int64_t q_start;
  int64_t kv_start;
  int32_t square_root;
  int32_t bottom_right;   /* 1: d is also less by kv_len - q_len */
  int32_t first_sequence; /* 1: the starts are those of sequence 0, all others start at 0 */
  int32_t reserved;
} fusedattn_alibi;

/* Probabilities are kept with probability keep_prob and divided by it; max and sum are those of all. Element
 * e = (sum of q_heads * q_len * kv_len of the sequences before) + (head * q_len + row) * kv_len + column  is kept
 *   - with bits: if bit e % 8 (the lowest is 0) of bits[e / 8] is 1;
 *   - else if u < floor(keep_prob * 65536 + 1/2), where u is the 16-bit half e % 2 (low, high) of word e % 8 / 2 of Philox4x32 with 7
 *     rounds, counter (e / 8, offset), key seed: low 32 bits before high. */
typedef struct fusedattn_dropout {
  double keep_prob; /* above 0, at most 1; rounded to float32. 1 without bits: nothing is dropped */
  const uint8_t* bits;
  uint64_t seed;
  uint64_t offset;
} fusedattn_dropout;

/* Softmax statistics, float32, seen as [sequence, head, row]: max[i] in natural units (scale, bias included), sum[i] >= 1. The
 * log-sum-exp of a row is max + log(sum). Rows that belong to no sequence get max = sum = 0. */
typedef struct fusedattn_stats {
  float* max;
  float* sum;
  int64_t batch_stride;
  int64_t head_stride;
  int64_t row_stride;
  int32_t lanes;  /* each number is written this many times, up to 64, side by side; 0 means 1. Read: the first */
  int32_t blocks; /* packed: 1: a block [q_heads, q_len, lanes] per sequence, one after another; the strides are not read */
} fusedattn_stats;

typedef struct fusedattn_problem {
  size_t struct_size; /* sizeof(fusedattn_problem); set by fusedattn_problem_init */
  int32_t dtype;      /* of q, k, v, out and all gradients */
  int32_t foreign_stats; /* backward: 1: stats need not be those of these scores: exp(x - max) / sum is taken as it stands, even where */
                         /* x is above max. 0: it is at most 1 / sum, whatever the rounding of max and of x */
  int64_t batch;    /* sequences */
  int64_t q_heads;  /* a multiple of kv_heads */
  int64_t kv_heads;
  int64_t q_len;    /* rows of a sequence; of the whole tensor when packed */
  int64_t kv_len;   /* columns of a sequence; of the whole tensor when packed */
  int64_t dim;      /* features of a query and of a key, 1..1536 */
  int64_t dim_v;    /* features of a value and of an output, 1..768 */
  const int64_t* q_ends;  /* packed ("varlen", TND): batch cumulative ends, no leading 0; both arrays or neither */
  const int64_t* kv_ends; /* rows past the last end belong to no sequence: their outputs are zero */
  double scale;           /* of the scores; 1/sqrt(dim) is customary. Rounded to float32; at most 2.3e38 either way */
  double softcap;         /* 0: none. Else scaled scores become softcap * tanh(score / softcap), before anything is added to them: from */
                          /* 1e-18 to 1e18, beside a scale of at most 1e18 and no bias before it. Rounded to float32 */
  fusedattn_mask mask;
  fusedattn_bias bias;
  fusedattn_alibi alibi;
  fusedattn_dropout dropout;
  const float* sink; /* optional, [q_heads]: one more score per row, not scaled, without a value */
  fusedattn_view q;
  fusedattn_view k;
  fusedattn_view v;
  fusedattn_view out;    /* forward: written. backward: read */
  fusedattn_stats stats; /* forward: written unless max and sum are both NULL. backward: read */
  fusedattn_view d_out;  /* backward only, as all below; a gradient whose data is NULL is not written */
  fusedattn_view dq;
  fusedattn_view dk;
  fusedattn_view dv;
  fusedattn_view d_bias; /* dtype of the bias; summed over what the bias repeats, whose strides are not read; 0 where nothing is seen */
  float* d_sink;         /* [q_heads] */
} fusedattn_problem;

/* Runs task(argument, index) for every index in [0, tasks), in any order, on any threads, and returns when all are done. */
typedef void (*fusedattn_parallel)(void* context, int32_t tasks, void (*task)(void* argument, int32_t index), void* argument);

typedef struct fusedattn_options {
  size_t struct_size;
  const char* lane;            /* NULL: the best this machine runs; else a name from fusedattn_lane_name */
  int32_t threads;             /* 0: FUSEDATTN_NUM_THREADS, else the borrowed team's size, else the CPUs of this process */
  int32_t reserved;
  fusedattn_parallel parallel; /* NULL: borrow the process's OpenMP team if there is one, else the library's own threads */
  void* parallel_context;
} fusedattn_options;

/* Attention over some of the columns: what fusedattn_merge joins. out is normalised; stats as the forward writes them. */
typedef struct fusedattn_partial {
  fusedattn_view out;
  fusedattn_stats stats;
} fusedattn_partial;

typedef struct fusedattn_merge_problem {
  size_t struct_size;
  int32_t dtype;
  int32_t count; /* parts, at least 1 */
  int64_t batch; /* sequences */
  int64_t heads;
  int64_t rows; /* of a sequence; of the whole tensor when packed */
  int64_t dim_v;
  const fusedattn_partial* parts;
  fusedattn_partial result; /* may be one of the parts, with the same addresses and strides; must not overlap them otherwise */
  const int64_t* q_ends;    /* packed: batch cumulative ends, no leading 0; rows past the last end are a last sequence */
  int32_t special;          /* FUSEDATTN_MERGE_SAFE or FUSEDATTN_MERGE_FORMULA: what a row without meaning gives */
  int32_t log_sum_exp;      /* 1: stats.max holds max + log(sum), stats.sum is neither read nor written; result.stats.max may be NULL */
} fusedattn_merge_problem;

/* Token compression of native sparse attention. Sequence b, L tokens long, has windows 0 .. (L - block) / stride (none if L < block);
 * window i, head n, feature d, in the order of sequences and windows:
 *
 *   output[first + i,n,d] = sum_{l < block} weight[l,n] * input[start + i * stride + l,n,d]
 *
 * with start and first the tokens and windows of the sequences before b. Backward, of sum(output * d_output):
 *
 *   d_input[start + t,n,d] = sum_i weight[t - i * stride,n] * d_output[first + i,n,d]      over the windows that hold t; 0 if none does
 *   d_weight[l,n] = sum_{b,i,d} d_output[first + i,n,d] * input[start + i * stride + l,n,d]
 *
 * Views are [head, row, feature]: rows are tokens, windows or positions l; weight and d_weight have no features. batch_stride is not
 * read. Any sizes are computed; no number but those in the sums above is read. */
typedef struct fusedattn_nsa_compress_problem {
  size_t struct_size; /* sizeof(fusedattn_nsa_compress_problem) */
  int32_t dtype;      /* of every tensor */
  int32_t reserved;
  int64_t sequences;
  const int64_t* ends; /* [sequences] cumulative ends, of which the first may be 0 (an empty sequence), the last at most tokens; */
  int64_t tokens;      /* NULL, with 1 sequence: it has all tokens */
  int64_t heads;
  int64_t dim;
  int64_t block;  /* tokens of a window */
  int64_t stride; /* tokens from one window to the next, 1 .. block */
  fusedattn_view input;
  fusedattn_view weight;
  fusedattn_view output;   /* forward only */
  fusedattn_view d_output; /* backward only, as all below; a gradient whose data is NULL is not written */
  fusedattn_view d_input;  /* needs weight */
  fusedattn_view d_weight; /* needs input */
} fusedattn_nsa_compress_problem;

typedef struct fusedattn_plan fusedattn_plan;

/* "0.2.0" */
FUSEDATTN_API const char* fusedattn_version(void);

/* The sentence of the last failure on this thread: argument, value, what is accepted. "" if there was none. */
FUSEDATTN_API const char* fusedattn_last_error(void);

/* Zeros, scale 1, keep_prob 1, unbounded bands, struct_size. */
FUSEDATTN_API void fusedattn_problem_init(fusedattn_problem* problem);
FUSEDATTN_API void fusedattn_options_init(fusedattn_options* options);

/* Plan and run in one call, with scratch memory that the library keeps per thread. options may be NULL. */
FUSEDATTN_API fusedattn_status fusedattn_forward(const fusedattn_problem* problem, const fusedattn_options* options);
FUSEDATTN_API fusedattn_status fusedattn_backward(const fusedattn_problem* problem, const fusedattn_options* options);

/* A plan copies the problem (and q_ends, kv_ends), checks it and decides everything but the numbers. */
FUSEDATTN_API fusedattn_status fusedattn_plan_create(const fusedattn_problem* problem, int32_t direction,
                                                     const fusedattn_options* options, fusedattn_plan** plan);
/* Bytes of scratch that a run needs. */
FUSEDATTN_API size_t fusedattn_plan_workspace(const fusedattn_plan* plan);
/* problem: NULL to use the addresses planned with, else the same problem at other addresses (anything else that differs is
 * refused). workspace: at least fusedattn_plan_workspace() bytes, 64-byte aligned, not shared by runs in flight; NULL to
 * use memory the library keeps. */
FUSEDATTN_API fusedattn_status fusedattn_plan_run(const fusedattn_plan* plan, const fusedattn_problem* problem,
                                                  void* workspace, size_t workspace_bytes);
FUSEDATTN_API void fusedattn_plan_destroy(fusedattn_plan* plan);

/* The plan in words (lane, shapes, tiles, tasks, workspace), one line. Writes at most size bytes with the final 0 and
 * returns the length of the whole text. */
FUSEDATTN_API size_t fusedattn_describe(const fusedattn_plan* plan, char* text, size_t size);

/* The bits of elements [0, count) of a dropout with this keep_prob, seed and offset: (count + 7) / 8 bytes; bits past count are 0. */
FUSEDATTN_API fusedattn_status fusedattn_dropout_bits(const fusedattn_dropout* dropout, int64_t count, uint8_t* bits);

/* Joins attention over disjoint sets of columns, in float32 and in the order of the parts:
 *   max = max_p max_p    t_p = sum_p * exp(max_p - max)    sum = min(sum_p t_p, FLT_MAX)    out = sum_p out_p * (t_p / sum)
 * out is rounded once to dtype. Where result.stats has several lanes, each comes from the same lane of the parts (from the first of
 * parts that have another number of lanes), and out from the first.
 * FUSEDATTN_MERGE_SAFE: a part of weight 0 adds nothing, whatever its out holds; a row in which no part saw a column (each has max at
 * most -FLT_MAX, or sum = 0) has out = 0, the largest max of those with a sum and sum = FLT_MAX; sum = 0 if all sums are.
 * FUSEDATTN_MERGE_FORMULA: infinities and NaN as the formula has them. NaN in the statistics stays NaN either way.
 * options may be NULL. */
FUSEDATTN_API fusedattn_status fusedattn_merge(const fusedattn_merge_problem* problem, const fusedattn_options* options);

/* Windows of all sequences: rows of output. -1, and a last error, for ends, block or stride that are refused. */
FUSEDATTN_API int64_t fusedattn_nsa_compressed_length(const int64_t* ends, int64_t sequences, int64_t block, int64_t stride);
/* options may be NULL. */
FUSEDATTN_API fusedattn_status fusedattn_nsa_compress_forward(const fusedattn_nsa_compress_problem* problem,
                                                              const fusedattn_options* options);
FUSEDATTN_API fusedattn_status fusedattn_nsa_compress_backward(const fusedattn_nsa_compress_problem* problem,
                                                               const fusedattn_options* options);

/* The same in memory of the caller: bytes of scratch that a compression needs, and the compression in at least as many, 64-byte
 * aligned. direction: FUSEDATTN_FORWARD or FUSEDATTN_BACKWARD. */
FUSEDATTN_API fusedattn_status fusedattn_nsa_compress_workspace(const fusedattn_nsa_compress_problem* problem, int32_t direction,
                                                                const fusedattn_options* options, size_t* bytes);
FUSEDATTN_API fusedattn_status fusedattn_nsa_compress_run(const fusedattn_nsa_compress_problem* problem, int32_t direction,
                                                          const fusedattn_options* options, void* workspace, size_t workspace_bytes);

/* The lanes built into this library, best first. fusedattn_lane_refusal is "" for a lane this machine runs, else why not. */
FUSEDATTN_API int32_t fusedattn_lane_count(void);
FUSEDATTN_API const char* fusedattn_lane_name(int32_t index);
FUSEDATTN_API const char* fusedattn_lane_refusal(int32_t index);
/* The lane a call without options uses (FUSEDATTN_ISA considered); NULL and a last error if FUSEDATTN_ISA names none that runs. */
FUSEDATTN_API const char* fusedattn_lane_chosen(void);

/* Threads a call without options would use now, and whose they are: "openmp" (borrowed), "own", or "serial". */
FUSEDATTN_API int32_t fusedattn_thread_count(void);
FUSEDATTN_API const char* fusedattn_thread_owner(void);

/* The layout of the structs above as this library was built, for bindings to compare with: entries until name is NULL.
 * A field is "struct.field"; a whole struct is "struct", with offset 0 and its size. */
typedef struct fusedattn_layout_entry {
  const char* name;
  size_t offset;
  size_t size;
} fusedattn_layout_entry;
FUSEDATTN_API const fusedattn_layout_entry* fusedattn_layout(void);

#ifdef __cplusplus
}
#endif
#endif
