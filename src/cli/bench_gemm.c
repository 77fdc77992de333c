/* Matrix products at the shapes of a model, or of a grid, in each layout and type: what nn_matmul
 * reaches, as a share of what the registers could do, beside every library there is. */
#include <stdio.h>
#include <stdlib.h>

#include "cli/bench.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/rng.h"
#include "nn/yardstick.h"

/* One linear layer: y[rows, outputs] = x[rows, inputs] w[outputs, inputs]^T. */
struct shape {
    int64_t rows, outputs, inputs;
};

enum layout { FORWARD, BACKWARD_X, BACKWARD_W, LAYOUTS };
static const char *const layout_names[LAYOUTS] = {"nt", "nn", "tn"};

/* nn_matmul first, then the libraries */
enum { OURS, THEIRS, WAYS = THEIRS + YARDSTICK_LIBRARIES };
enum { MOST_SHAPES = 64 };

struct gemm_bench {
    const struct bench_options *o;
    struct device *device;
    struct shape shapes[MOST_SHAPES];
    int n_shapes;
    float *x, *w, *y;                  /* room for the largest; bf16 takes half of it */
    int64_t most;                      /* numbers of each */
    double registers;                  /* FLOP/s */
    double flops[WAYS], seconds[WAYS]; /* sums over the products that a way has */
    bool first;
};

/* ---- shapes -------------------------------------------------------------------------------- */

static void add_shape(struct gemm_bench *g, int64_t rows, int64_t outputs, int64_t inputs)
{
    CHECK(g->n_shapes < MOST_SHAPES);
    g->shapes[g->n_shapes++] = (struct shape){rows, outputs, inputs};
}

/* Those of the layers of a model. */
static status_t model_shapes(struct gemm_bench *g)
{
    struct config c = {0};
    struct nn *nn = NULL;
    const int64_t N = g->o->batch * g->o->tokens;
    status_t st = bench_load_config(&c, g->o);
    if (st == STATUS_OK) st = nn_create_measuring(&nn, g->device, 1);
    if (st == STATUS_OK) {
        const struct arch *m = &c.arch;
        const int64_t heads = m->n_heads * m->head_size,
                      keys = 2 * m->n_kv_heads * m->head_size;
        add_shape(g, N, heads + keys, m->hidden);
        add_shape(g, N, m->hidden, heads);
        add_shape(g, N, m->activation == ARCH_SWIGLU ? 2 * m->ffn : m->ffn, m->hidden);
        add_shape(g, N, m->hidden, m->ffn);
        add_shape(g, nn_cross_entropy_rows(nn, N, m->vocab_size, DTYPE_F32),
                  m->vocab_size, m->hidden);
    }
    nn_destroy(&nn);
    config_release(&c);
    return st;
}

static void grid_shapes(struct gemm_bench *g)
{
    static const int64_t rows[] = {512, 2048, 4096}, sides[] = {768, 2048, 3072, 8192};
    for (int t = 0; t < 3; t++)
        for (int n = 0; n < 4; n++)
            for (int k = 0; k < 4; k++) add_shape(g, rows[t], sides[n], sides[k]);
}

static status_t take_memory(struct gemm_bench *g)
{
    for (int i = 0; i < g->n_shapes; i++) {
        const struct shape *s = &g->shapes[i];
        const int64_t sizes[] = {s->rows * s->outputs, s->rows * s->inputs,
                                 s->outputs * s->inputs};
        for (int k = 0; k < 3; k++)
            if (sizes[k] > g->most) g->most = sizes[k];
    }
    const size_t bytes = (size_t)g->most * sizeof(float);
    TRY(device_alloc(g->device, bytes, "a benchmark", (void **)&g->x));
    TRY(device_alloc(g->device, bytes, "a benchmark", (void **)&g->w));
    return device_alloc(g->device, bytes, "a benchmark", (void **)&g->y);
}

/* Numbers of an operand, not zero: those would draw less power. */
static void fill(float *x, enum dtype t, int64_t n)
{
    enum { PERIOD = 4096 };
    float values[PERIOD];
    rng_normal(rng_key(1, "gemm", "bench"), 0, values, PERIOD);
    for (int64_t i = 0; i < n; i += PERIOD)
        dtype_convert((char *)x + (size_t)i * dtype_bytes(t), t, values, DTYPE_F32,
                      n - i < PERIOD ? n - i : PERIOD);
}

/* ---- one product ----------------------------------------------------------------------------- */

static struct yardstick_product
product_of(const struct gemm_bench *g, const struct shape *s, enum layout l, enum dtype t)
{
    const int64_t N = s->rows, O = s->outputs, C = s->inputs;
    if (l == FORWARD)
        return (struct yardstick_product){.c = tensor_2d(g->y, t, N, O),
                                          .a = tensor_2d(g->x, t, N, C),
                                          .b = tensor_2d(g->w, t, O, C),
                                          .trans_b = true};
    if (l == BACKWARD_X)
        return (struct yardstick_product){.c = tensor_2d(g->y, t, N, C),
                                          .a = tensor_2d(g->x, t, N, O),
                                          .b = tensor_2d(g->w, t, O, C)};
    return (struct yardstick_product){.c = tensor_2d(g->y, DTYPE_F32, O, C),
                                      .a = tensor_2d(g->x, t, N, O),
                                      .b = tensor_2d(g->w, t, N, C),
                                      .trans_a = true,
                                      .mode = NN_ACCUM};
}

static void run_ours(struct nn *nn, struct yardstick_product *p)
{
    if (p->trans_b)
        nn_matmul_nt(nn, &p->c, &p->a, &p->b, p->mode);
    else if (p->trans_a)
        nn_matmul_tn(nn, &p->c, &p->a, &p->b, p->mode);
    else
        nn_matmul_nn(nn, &p->c, &p->a, &p->b, p->mode);
}

static double time_calls(struct nn *nn, struct yardstick_product *p, struct yardstick *y,
                         int calls)
{
    const double start = clock_seconds();
    for (int i = 0; i < calls; i++) {
        if (y)
            yardstick_run(y);
        else
            run_ours(nn, p);
    }
    return (clock_seconds() - start) / calls;
}

/* seconds[way]: medians of timings that take turns, so that what else the machine does meets all;
 * 0: there is no such way. */
static void time_ways(struct gemm_bench *g, struct nn *nn, struct yardstick_product *p,
                      double *times, double seconds[WAYS])
{
    const double long_enough = 10e-3;
    const int64_t steps = g->o->steps;
    struct yardstick *y[WAYS] = {NULL};
    int calls[WAYS];
    for (int w = 0; w < WAYS; w++) {
        seconds[w] = 0;
        if (w >= THEIRS) y[w] = yardstick_create((enum yardstick_library)(w - THEIRS), p);
        if (w >= THEIRS && !y[w]) continue;
        time_calls(nn, p, y[w], 1); /* code is made, memory is touched */
        const double once = time_calls(nn, p, y[w], 1);
        calls[w] = once < long_enough ? (int)(long_enough / once) : 1;
    }
    for (int64_t i = 0; i < steps; i++)
        for (int w = 0; w < WAYS; w++)
            if (w < THEIRS || y[w])
                times[w * steps + i] = time_calls(nn, p, y[w], calls[w]);
    for (int w = 0; w < WAYS; w++) {
        if (w < THEIRS || y[w]) seconds[w] = bench_median(times + w * steps, steps);
        yardstick_destroy(&y[w]);
    }
}

/* ---- report ---------------------------------------------------------------------------------- */

static const char *key_of(int way)
{
    static const char *const keys[WAYS] = {"yoke", "onednn", "openblas"};
    return keys[way];
}

static void print_product(struct gemm_bench *g, const struct shape *s, const char *layout,
                          enum dtype t, const double rate[WAYS])
{
    if (g->o->json) {
        printf("%s{\"rows\": %lld, \"outputs\": %lld, \"inputs\": %lld, \"layout\": "
               "\"%s\", \"type\": \"%s\", \"share\": %.4f",
               g->first ? "" : ", ", (long long)s->rows, (long long)s->outputs,
               (long long)s->inputs, layout, dtype_name(t),
               g->registers > 0 ? rate[OURS] / g->registers : 0);
        for (int w = 0; w < WAYS; w++)
            if (rate[w] > 0) printf(", \"%s\": %.6g", key_of(w), rate[w]);
        printf("}");
        g->first = false;
        return;
    }
    char name[64];
    snprintf(name, sizeof name, "%lld x %lld x %lld", (long long)s->rows,
             (long long)s->outputs, (long long)s->inputs);
    printf("%-20s %-4s %-4s", s->rows ? name : "all, by their flops", layout,
           dtype_name(t));
    for (int w = 0; w < WAYS; w++) {
        if (rate[w] > 0)
            printf(" %9.1f", rate[w] * 1e-9);
        else
            printf(" %9s", "-");
        if (w == OURS && g->registers > 0)
            printf(" %5.0f%%", 100 * rate[w] / g->registers);
    }
    printf("\n");
}

static size_t scratch_of(struct gemm_bench *g, enum dtype t)
{
    struct nn *nn = NULL;
    if (nn_create_measuring(&nn, g->device, (int)g->o->threads) != STATUS_OK) return 0;
    for (int i = 0; i < g->n_shapes; i++)
        for (int l = 0; l < LAYOUTS; l++) {
            struct yardstick_product p = product_of(g, &g->shapes[i], (enum layout)l, t);
            run_ours(nn, &p);
        }
    const size_t bytes = nn_scratch_peak_bytes(nn);
    nn_destroy(&nn);
    return bytes;
}

/* All products of one type. */
static status_t bench_type(struct gemm_bench *g, enum dtype t)
{
    struct nn *nn = NULL;
    double *times = malloc((size_t)(WAYS * g->o->steps) * sizeof *times);
    double seconds[WAYS], rate[WAYS];
    if (!times) return status_set(STATUS_NOMEM, "no memory for times");
    status_t st = nn_create(&nn, g->device, (int)g->o->threads, scratch_of(g, t));
    fill(g->x, t, g->most);
    fill(g->w, t, g->most);
    g->registers = yardstick_registers(t, (int)g->o->threads);
    for (int w = 0; w < WAYS; w++) g->flops[w] = g->seconds[w] = 0;
    if (st == STATUS_OK && !g->o->json && g->registers > 0)
        printf("%s: %.1f GFLOP/s in registers%s%s\n", dtype_name(t), g->registers * 1e-9,
               t == DTYPE_BF16 ? ", with " : "", t == DTYPE_BF16 ? nn_cpu_bf16() : "");
    for (int i = 0; st == STATUS_OK && i < g->n_shapes; i++)
        for (int l = 0; l < LAYOUTS; l++) {
            const struct shape *s = &g->shapes[i];
            struct yardstick_product p = product_of(g, s, (enum layout)l, t);
            const double flops =
                2.0 * (double)s->rows * (double)s->outputs * (double)s->inputs;
            time_ways(g, nn, &p, times, seconds);
            for (int w = 0; w < WAYS; w++) {
                rate[w] = seconds[w] > 0 ? flops / seconds[w] : 0;
                g->flops[w] += seconds[w] > 0 ? flops : 0;
                g->seconds[w] += seconds[w];
            }
            print_product(g, s, layout_names[l], t, rate);
        }
    for (int w = 0; w < WAYS; w++)
        rate[w] = g->seconds[w] > 0 ? g->flops[w] / g->seconds[w] : 0;
    if (st == STATUS_OK) print_product(g, &(struct shape){0}, "all", t, rate);
    nn_destroy(&nn);
    free(times);
    return st;
}

static status_t bench_types(struct gemm_bench *g)
{
    const int wanted = g->o->precision;
    status_t st = STATUS_OK;
    if (g->o->json)
        printf("{\"threads\": %lld, \"products\": [", (long long)g->o->threads);
    else
        printf("GFLOP/s on %lld thread%s; rows x outputs x inputs; nt: forward, nn: "
               "gradient of x, tn: of the weights\n%30s %9s %6s %9s %9s\n",
               (long long)g->o->threads, g->o->threads == 1 ? "" : "s", "", "yoke", "",
               yardstick_name(YARDSTICK_ONEDNN), yardstick_name(YARDSTICK_OPENBLAS));
    g->first = true;
    if (wanted != CONFIG_PRECISION_BF16) st = bench_type(g, DTYPE_F32);
    if (st == STATUS_OK && wanted != CONFIG_PRECISION_FP32)
        st = bench_type(g, DTYPE_BF16);
    if (g->o->json) printf("]}\n");
    return st;
}

status_t bench_gemm(const struct bench_options *o)
{
    struct gemm_bench g = {.o = o};
    TRY(device_open(&g.device, "cpu", 0));
    status_t st = STATUS_OK;
    if (o->config)
        st = model_shapes(&g);
    else
        grid_shapes(&g);
    if (st == STATUS_OK) st = take_memory(&g);
    if (st == STATUS_OK) st = bench_types(&g);
    const size_t bytes = (size_t)g.most * sizeof(float);
    device_free(g.device, (void **)&g.x, bytes);
    device_free(g.device, (void **)&g.w, bytes);
    device_free(g.device, (void **)&g.y, bytes);
    device_close(&g.device);
    return st;
}
