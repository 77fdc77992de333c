/* Every operation at the shapes of one model, each against its own ceiling: memory-bound ones
 * against the bandwidth of a copy, matrix products and attention against the best product. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/bench.h"
#include "core/clock.h"
#include "core/rng.h"
#include "nn/nn.h"
#include "train/gemm_peak.h"

/* Calls of one timing: as many as keep the queue full for LONG_ENOUGH seconds, against which it is
 * little what the host takes to see the end. */
enum { LEAST_CALLS = 10, MOST_CALLS = 1000 };
static const double LONG_ENOUGH = 10e-3;

/* The room that all operations use, large enough for each. */
struct ops {
    struct device *device;
    struct nn *nn;
    enum dtype t;
    bool document_mask;
    struct arch arch;
    int64_t B, T, N, C, F, V, QKV, UP;
    int64_t n_flat; /* elements of a flat range for the optimizer */
    struct tensor x, y, dy, att, datt, qkv, dqkv, u, du, g, w_up, w_norm, b_norm, bias_up;
    struct tensor stats, lse, dw_up, dw_norm, db_norm, db_up, wte, dwte;
    float *flat[4];
    void *low;
    double *sum;
    struct nn_loss *loss;
    float *rope_table;
    int32_t *tokens, *positions, *doc_start;
    struct nn_norm norm;
    struct nn_rope rope;
    struct nn_attention attention;
};

static struct tensor take(struct arena *a, enum dtype t, int64_t rows, int64_t cols)
{
    void *data = arena_alloc(a, (size_t)(rows * cols) * dtype_bytes(t));
    return tensor_2d(data, t, rows, cols);
}

static struct tensor take_1d(struct arena *a, enum dtype t, int64_t n)
{
    return tensor_1d(arena_alloc(a, (size_t)n * dtype_bytes(t)), t, n);
}

static void take_all(struct ops *k, struct arena *a)
{
    const enum dtype t = k->t, f = DTYPE_F32;
    const struct arch *m = &k->arch;
    k->x = take(a, t, k->N, k->C);
    k->y = take(a, t, k->N, k->C);
    k->dy = take(a, t, k->N, k->C);
    k->att = take(a, t, k->N, m->n_heads * m->head_size);
    k->datt = take(a, t, k->N, m->n_heads * m->head_size);
    k->qkv = take(a, t, k->N, k->QKV);
    k->dqkv = take(a, t, k->N, k->QKV);
    k->u = take(a, t, k->N, k->UP);
    k->du = take(a, t, k->N, k->UP);
    k->g = take(a, t, k->N, k->F);
    k->w_up = take(a, t, k->UP, k->C);
    k->wte = take(a, t, k->V, k->C);
    k->dwte = take(a, f, k->V, k->C);
    k->dw_up = take(a, f, k->UP, k->C);
    k->lse = take(a, f, k->B * m->n_heads, k->T);
    k->stats = m->norm == ARCH_LAYERNORM ? take(a, f, k->N, 2) : take_1d(a, f, k->N);
    k->w_norm = take_1d(a, t, k->C);
    k->b_norm = take_1d(a, t, k->C);
    k->bias_up = take_1d(a, t, k->UP);
    k->dw_norm = take_1d(a, f, k->C);
    k->db_norm = take_1d(a, f, k->C);
    k->db_up = take_1d(a, f, k->UP);
    for (int i = 0; i < 4; i++) k->flat[i] = arena_floats(a, k->n_flat);
    k->low = arena_alloc(a, (size_t)k->n_flat * sizeof(uint16_t));
    k->sum = arena_alloc(a, sizeof *k->sum);
    k->loss = arena_alloc(a, sizeof *k->loss);
    k->rope_table = arena_floats(a, k->T * m->head_size);
    k->tokens = arena_alloc(a, (size_t)k->N * sizeof(int32_t));
    k->positions = arena_alloc(a, (size_t)k->N * sizeof(int32_t));
    k->doc_start = arena_alloc(a, (size_t)k->N * sizeof(int32_t));
    const bool layernorm = m->norm == ARCH_LAYERNORM;
    k->norm = (struct nn_norm){.eps = 1e-5f,
                               .w = &k->w_norm,
                               .b = layernorm ? &k->b_norm : NULL,
                               .dw = &k->dw_norm,
                               .db = layernorm ? &k->db_norm : NULL};
    k->rope = (struct nn_rope){.n_heads = m->n_heads + m->n_kv_heads,
                               .head_size = m->head_size,
                               .half = m->head_size / 2,
                               .table = k->rope_table,
                               .n_positions = k->T,
                               .positions = k->positions};
    k->attention =
        (struct nn_attention){.B = k->B,
                              .T = k->T,
                              .H = m->n_heads,
                              .K = m->n_kv_heads,
                              .D = m->head_size,
                              .scale = 1 / sqrtf((float)m->head_size),
                              .doc_start = k->document_mask ? k->doc_start : NULL};
}

/* ---- the operations, each with what it must move and multiply ------------------------------ */

static void run_copy(struct ops *k)
{
    nn_bias_add(k->nn, &k->du, &k->u, NULL);
}
static void run_norm_fwd(struct ops *k)
{
    if (k->norm.b)
        nn_layernorm_fwd(k->nn, &k->y, &k->stats, &k->x, NULL, &k->norm);
    else
        nn_rmsnorm_fwd(k->nn, &k->y, &k->stats, &k->x, NULL, &k->norm);
}
static void run_norm_bwd(struct ops *k)
{
    if (k->norm.b)
        nn_layernorm_bwd(k->nn, &k->y, &k->dy, &k->x, &k->stats, &k->norm, NN_ACCUM);
    else
        nn_rmsnorm_bwd(k->nn, &k->y, &k->dy, &k->x, &k->stats, &k->norm, NN_ACCUM);
}
static void run_bias_bwd(struct ops *k)
{
    nn_bias_bwd(k->nn, &k->db_up, &k->du);
}
static void run_rope(struct ops *k)
{
    nn_rope_fwd(k->nn, &k->qkv, &k->rope);
}
static void run_act_fwd(struct ops *k)
{
    if (k->arch.activation == ARCH_SWIGLU)
        nn_swiglu_fwd(k->nn, &k->g, &k->u);
    else
        nn_gelu_fwd(k->nn, &k->g, &k->u);
}
static void run_act_bwd(struct ops *k)
{
    if (k->arch.activation == ARCH_SWIGLU)
        nn_swiglu_bwd(k->nn, &k->du, NULL, NULL, &k->g, &k->u);
    else
        nn_gelu_bwd(k->nn, &k->du, NULL, NULL, &k->g, &k->u);
}
static void run_embed_fwd(struct ops *k)
{
    nn_embedding_fwd(k->nn, &k->y, &k->wte, NULL, k->tokens, k->positions, NN_ALL_TOKENS);
}
static void run_embed_bwd(struct ops *k)
{
    nn_embedding_bwd(k->nn, &k->dwte, NULL, &k->dy, k->tokens, k->positions,
                     NN_ALL_TOKENS);
}
static void run_adamw(struct ops *k)
{
    const struct nn_adamw p = {.lr = 1e-4f,
                               .beta1 = 0.9f,
                               .beta2 = 0.95f,
                               .eps = 1e-8f,
                               .c1 = 0.1f,
                               .c2 = 0.05f,
                               .grad_scale = 1};
    const struct nn_adamw_range r = {.w = k->flat[0],
                                     .m = k->flat[1],
                                     .v = k->flat[2],
                                     .grad = k->flat[3],
                                     .low = k->t == DTYPE_F32 ? NULL : k->low,
                                     .low_type = k->t,
                                     .n = k->n_flat};
    nn_adamw_update(k->nn, &r, &p);
}
static void run_sum_squares(struct ops *k)
{
    nn_sum_squares(k->nn, k->sum, k->flat[3], k->n_flat);
}
static void run_linear_fwd(struct ops *k)
{
    nn_linear_fwd(k->nn, &k->u, &k->x, &k->w_up, k->arch.mlp_bias ? &k->bias_up : NULL,
                  NULL);
}
static void run_matmul_nn(struct ops *k)
{
    nn_matmul_nn(k->nn, &k->y, &k->u, &k->w_up, NN_ASSIGN);
}
static void run_matmul_tn(struct ops *k)
{
    nn_matmul_tn(k->nn, &k->dw_up, &k->u, &k->x, NN_ACCUM);
}
static void run_attention_fwd(struct ops *k)
{
    nn_attention_fwd(k->nn, &k->att, &k->lse, &k->qkv, &k->attention);
}
static void run_attention_bwd(struct ops *k)
{
    nn_attention_bwd(k->nn, &k->dqkv, &k->datt, &k->att, &k->lse, &k->qkv, &k->attention);
}
static void run_cross_entropy(struct ops *k)
{
    nn_cross_entropy(k->nn, k->loss, NULL, &k->y, &k->dwte, &k->x, &k->wte, k->tokens, 1,
                     0, NULL);
}

/* bytes: read and written once each; flops: of matrix products. */
struct operation {
    const char *name;
    void (*run)(struct ops *k);
    double bytes, flops;
};

enum { N_OPERATIONS = 17 };

static void list_operations(const struct ops *k, struct operation o[N_OPERATIONS])
{
    const double e = (double)dtype_bytes(k->t), N = (double)k->N, C = (double)k->C;
    const double F = (double)k->F, UP = (double)k->UP, n = (double)k->n_flat;
    const double rope = N * (double)(k->rope.n_heads * k->rope.head_size) * 2 * e;
    const double T = (double)k->T, HD = (double)(k->arch.n_heads * k->arch.head_size);
    const double product = 2 * N * UP * C, head = 6 * N * C * (double)k->V;
    const double scores = 2 * N * T * HD; /* two products over half of T x T */
    const struct operation all[N_OPERATIONS] = {
        {"copy", run_copy, 2 * N * UP * e, 0},
        {"norm_fwd", run_norm_fwd, 2 * N * C * e, 0},
        {"norm_bwd", run_norm_bwd, 4 * N * C * e, 0},
        {"bias_bwd", run_bias_bwd, N * UP * e, 0},
        {"rope", run_rope, rope, 0},
        {"activation_fwd", run_act_fwd, N * (UP + F) * e, 0},
        {"activation_bwd", run_act_bwd, N * (2 * UP + F) * e, 0},
        {"embedding_fwd", run_embed_fwd, 2 * N * C * e, 0},
        {"embedding_bwd", run_embed_bwd, N * C * (e + 8), 0},
        {"adamw", run_adamw, n * (28 + (k->t == DTYPE_F32 ? 0 : 2)), 0},
        {"sum_squares", run_sum_squares, n * 4, 0},
        {"linear_fwd", run_linear_fwd, 0, product},
        {"matmul_nn", run_matmul_nn, 0, product},
        {"matmul_tn", run_matmul_tn, 0, product},
        {"attention_fwd", run_attention_fwd, 0, scores},
        {"attention_bwd", run_attention_bwd, 0, 2.5 * scores},
        {"cross_entropy", run_cross_entropy, 0, head},
    };
    for (int i = 0; i < N_OPERATIONS; i++) o[i] = all[i];
}

/* ---- filling ------------------------------------------------------------------------------- */

/* A true one: heads that were turned to zero would be zero for attention, too. */
static status_t fill_rope_table(struct ops *k)
{
    const size_t bytes = 2 * (size_t)(k->T * k->rope.half) * sizeof(float);
    float *table = malloc(bytes);
    double *frequencies = calloc((size_t)k->rope.half, sizeof *frequencies);
    const bool ok = table && frequencies;
    if (ok) {
        nn_rope_frequencies(frequencies, k->rope.half, 10000);
        nn_rope_table(table, k->T, k->rope.half, frequencies, 1);
        device_copy_in(k->device, k->rope_table, table, bytes);
    }
    free(frequencies);
    free(table);
    return ok ? STATUS_OK : status_set(STATUS_NOMEM, "no memory to fill a benchmark");
}

static status_t fill_ints(struct ops *k)
{
    const size_t bytes = (size_t)k->N * sizeof(int32_t);
    const uint64_t key = rng_key(1, "bench", "tokens");
    int32_t *x = malloc(bytes);
    if (!x) return status_set(STATUS_NOMEM, "no memory to fill a benchmark");
    for (int64_t n = 0; n < k->N; n++)
        x[n] = (int32_t)(rng_u64(key, (uint64_t)n) % (uint64_t)k->V);
    device_copy_in(k->device, k->tokens, x, bytes);
    for (int64_t n = 0; n < k->N; n++) x[n] = (int32_t)(n % k->T);
    device_copy_in(k->device, k->positions, x, bytes);
    for (int64_t n = 0; n < k->N; n++) x[n] = 0;
    device_copy_in(k->device, k->doc_start, x, bytes);
    free(x);
    return STATUS_OK;
}

static status_t fill_all(struct ops *k)
{
    const struct tensor *all[] = {
        &k->x,   &k->y,    &k->dy,    &k->att,     &k->datt,    &k->qkv,
        &k->u,   &k->g,    &k->w_up,  &k->w_norm,  &k->b_norm,  &k->bias_up,
        &k->wte, &k->dwte, &k->dw_up, &k->dw_norm, &k->db_norm, &k->db_up};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        TRY(bench_fill(k->device, all[i]));
    for (int i = 0; i < 4; i++) {
        const struct tensor flat = tensor_1d(k->flat[i], DTYPE_F32, k->n_flat);
        if (i != 2) TRY(bench_fill(k->device, &flat));
    }
    device_zero(k->device, k->flat[2], (size_t)k->n_flat * sizeof(float));
    device_zero(k->device, k->loss, sizeof *k->loss);
    device_zero(k->device, k->sum, sizeof *k->sum);
    TRY(fill_rope_table(k));
    return fill_ints(k);
}

/* ---- life ---------------------------------------------------------------------------------- */

static size_t measure_scratch(struct ops *k, int threads, size_t *scratch)
{
    struct nn *nn = NULL;
    if (nn_create_measuring(&nn, k->device, threads) != STATUS_OK) return 1;
    k->nn = nn;
    struct operation o[N_OPERATIONS];
    list_operations(k, o);
    for (int i = 0; i < N_OPERATIONS; i++) o[i].run(k);
    *scratch = nn_scratch_peak_bytes(nn);
    nn_destroy(&k->nn);
    return 0;
}

/* Of one call. */
static double time_calls(struct ops *k, const struct operation *op, int calls)
{
    const double start = clock_seconds();
    for (int c = 0; c < calls; c++) op->run(k);
    device_wait(k->device);
    return (clock_seconds() - start) / calls;
}

static double seconds_of(struct ops *k, const struct operation *op, int64_t repeats,
                         double *times)
{
    time_calls(k, op, 1); /* libraries choose their algorithms, code is loaded */
    const double wanted = LONG_ENOUGH / time_calls(k, op, 1);
    const int calls = wanted < LEAST_CALLS  ? LEAST_CALLS
                      : wanted > MOST_CALLS ? MOST_CALLS
                                            : (int)wanted;
    for (int64_t i = 0; i < repeats; i++) times[i] = time_calls(k, op, calls);
    return bench_median(times, repeats);
}

static status_t report(struct ops *k, const struct bench_options *o)
{
    struct operation ops[N_OPERATIONS];
    double peak_flops = 0, copy = 0, *times = malloc((size_t)o->steps * sizeof *times);
    if (!times) return status_set(STATUS_NOMEM, "no memory for times");
    list_operations(k, ops);
    status_t st = gemm_peak_measure(k->nn, k->t, &peak_flops);
    if (st == STATUS_OK && o->json) printf("{\"gemm_peak\": %.6g", peak_flops);
    for (int i = 0; st == STATUS_OK && i < N_OPERATIONS; i++) {
        const double s = seconds_of(k, &ops[i], o->steps, times);
        const double rate = (ops[i].flops > 0 ? ops[i].flops : ops[i].bytes) / s;
        if (i == 0) copy = ops[i].bytes / times[0]; /* in order by now: the fastest */
        const double share = rate / (ops[i].flops > 0 ? peak_flops : copy);
        if (o->json)
            printf(", \"%s\": {\"seconds\": %.6g, \"bytes\": %.6g, \"%s\": %.6g, "
                   "\"share\": %.4f}",
                   ops[i].name, s, ops[i].bytes,
                   ops[i].flops > 0 ? "flops" : "bytes_per_second", rate, share);
        else
            printf("%-16s %10.1f us %10.2f MB %10.1f %s %5.0f%% of %s\n", ops[i].name,
                   s * 1e6, ops[i].bytes * 1e-6, rate * 1e-9,
                   ops[i].flops > 0 ? "GFLOP/s" : "GB/s   ", 100 * share,
                   ops[i].flops > 0 ? "a product" : "a copy");
    }
    if (st == STATUS_OK && o->json) printf("}\n");
    free(times);
    return st;
}

static status_t run(struct ops *k, const struct bench_options *o, void **block,
                    size_t *bytes)
{
    struct arena sizes = arena_measure();
    size_t scratch = 0;
    take_all(k, &sizes);
    if (measure_scratch(k, (int)o->threads, &scratch) != 0) return STATUS_NOMEM;
    TRY(device_alloc(k->device, sizes.peak_bytes, "a benchmark", block));
    *bytes = sizes.peak_bytes;
    struct arena memory = arena_over(*block, *bytes);
    take_all(k, &memory);
    TRY(nn_create(&k->nn, k->device, (int)o->threads, scratch));
    TRY(fill_all(k));
    return report(k, o);
}

status_t bench_ops(const struct bench_options *o)
{
    struct config c = {0};
    struct ops k = {0};
    void *block = NULL;
    size_t bytes = 0;
    status_t st = bench_load_config(&c, o);
    if (st == STATUS_OK) st = bench_open_device(&k.device, &k.t, o, &c);
    if (st == STATUS_OK) {
        const struct arch *m = &c.arch;
        k.arch = *m;
        k.document_mask = c.document_mask;
        k.B = o->batch;
        k.T = o->tokens;
        k.N = k.B * k.T;
        k.C = m->hidden;
        k.F = m->ffn;
        k.UP = m->activation == ARCH_SWIGLU ? 2 * m->ffn : m->ffn;
        k.V = m->vocab_size;
        k.QKV = (m->n_heads + 2 * m->n_kv_heads) * m->head_size;
        k.n_flat = k.UP * k.C * 4;
        st = run(&k, o, &block, &bytes);
    }
    nn_destroy(&k.nn);
    if (block) device_free(k.device, &block, bytes);
    device_close(&k.device);
    config_release(&c);
    return st;
}
