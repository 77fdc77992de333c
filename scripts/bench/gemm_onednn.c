/* gemm_onednn - bf16 products of nn beside oneDNN's matmul, alternately in one process; for development.
 *
 *     cmake --build build --target yoke_nn
 *     gcc -O2 -march=sapphirerapids -D_GNU_SOURCE -fopenmp -Isrc -I. scripts/bench/gemm_onednn.c \
 *         build/libyoke_nn.a build/libyoke_device.a build/libyoke_core.a -ldnnl -lxxhash -lcrypto \
 *         -ljansson -lhdf5_serial -lm -o gemm_onednn
 *     ./gemm_onednn [threads [rounds [rows ...]]]        rows: 512 2048 4096 without any
 *
 * Shapes: N and K of 768, 2048, 3072, 8192; nt: forward, to bf16; nn: activation gradient, to bf16; tn: weight
 * gradient, to fp32, added to by nn alone.  One thread: processor time, which other programs disturb
 * less, else wall time.  Means are flop-weighted over the medians of the rounds.
 *
 * Where the other half of a core with two threads is busy, as with a neighbour of a virtual machine, loading
 * a tile register takes four times as long, and that is then what binds.  So between any two products AMX
 * is run out of 4 KiB, and products are kept apart that lie between two fast runs and between two slow. */
#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>

#include "nn/gemm_tiles.h"
#include "nn/nn.h"

enum { MOST_ROUNDS = 99, WIDTHS = 4 };
static const int64_t widths[WIDTHS] = {768, 2048, 3072, 8192};
static clockid_t timer;

static double seconds(void)
{
    struct timespec t;
    clock_gettime(timer, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void need(bool ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "gemm_onednn: %s\n", what);
    exit(1);
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *x, int n)
{
    qsort(x, (size_t)n, sizeof *x, compare);
    return x[n / 2];
}

/* GFLOP/s of products that touch registers only, or that load as many tiles as they multiply */
static double amx(bool loads)
{
    _Alignas(64) static uint16_t x[4 * 512];
    const int n = 2000;
    gemm_amx.begin();
    const double start = seconds();
    for (int i = 0; i < n; i++) {
        if (loads) {
            _tile_loadd(4, x, 64);
            _tile_loadd(6, x + 512, 64);
        }
        _tile_dpbf16ps(0, 4, 6);
        if (loads) {
            _tile_loadd(7, x + 1024, 64);
        }
        _tile_dpbf16ps(1, 4, 7);
        if (loads) {
            _tile_loadd(5, x + 1536, 64);
        }
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    const double took = seconds() - start;
    gemm_amx.end();
    return n * 65536.0 / took / 1e9;
}

/* What the core is like around a product; FREE: alone on it; SHARED: slowed down by half or more. */
enum state { FREE, SHARED, BETWEEN, STATES };
static const char *const states[] = {"core free", "core shared", "neither"};

static enum state state_of(double before, double after, double registers)
{
    if (before > 0.8 * registers && after > 0.8 * registers) return FREE;
    if (before < 0.5 * registers && after < 0.5 * registers) return SHARED;
    return BETWEEN;
}

enum kind { NT, NN_, TN };
static const char *const names[] = {"nt", "nn", "tn"};

struct product {
    enum kind kind;
    int64_t m, n, k;
    struct tensor a, b, c;
    void *other; /* oneDNN's result */
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t args[3];
};

static struct tensor numbers(int64_t rows, int64_t cols)
{
    uint16_t *x = aligned_alloc(64, (size_t)(rows * cols) * sizeof *x);
    need(x != NULL, "no memory");
    for (int64_t i = 0; i < rows * cols; i++) /* between -2 and 2 */
        x[i] = (uint16_t)(0x3f00 + i * 2654435761 % 256 + (i * 40503 % 2 << 15));
    return tensor_2d(x, DTYPE_BF16, rows, cols);
}

static dnnl_memory_t memory(dnnl_memory_desc_t *d, dnnl_engine_t engine, void *x,
                            int64_t rows, int64_t cols, bool transposed,
                            dnnl_data_type_t t)
{
    const dnnl_dims_t dims = {rows, cols};
    const dnnl_dims_t strides = {transposed ? 1 : cols, transposed ? rows : 1};
    dnnl_memory_t memory;
    need(dnnl_memory_desc_init_by_strides(d, 2, dims, t, strides) == dnnl_success &&
             dnnl_memory_create(&memory, d, engine, x) == dnnl_success,
         "oneDNN refuses a matrix");
    return memory;
}

static struct product make(dnnl_engine_t engine, enum kind kind, int64_t m, int64_t n,
                           int64_t k)
{
    struct product p = {.kind = kind, .m = m, .n = n, .k = k};
    const bool ta = kind == TN, tb = kind == NT;
    const enum dtype out = ta ? DTYPE_F32 : DTYPE_BF16;
    p.a = ta ? numbers(k, m) : numbers(m, k);
    p.b = tb ? numbers(n, k) : numbers(k, n);
    p.c = tensor_2d(calloc((size_t)(m * n), dtype_bytes(out)), out, m, n);
    p.other = calloc((size_t)(m * n), dtype_bytes(out));
    need(p.c.data && p.other, "no memory");
    dnnl_memory_desc_t a, b, c;
    dnnl_matmul_desc_t d;
    dnnl_primitive_desc_t pd;
    p.args[0] = (dnnl_exec_arg_t){DNNL_ARG_SRC,
                                  memory(&a, engine, p.a.data, m, k, ta, dnnl_bf16)};
    p.args[1] = (dnnl_exec_arg_t){DNNL_ARG_WEIGHTS,
                                  memory(&b, engine, p.b.data, k, n, tb, dnnl_bf16)};
    p.args[2] = (dnnl_exec_arg_t){DNNL_ARG_DST, memory(&c, engine, p.other, m, n, false,
                                                       ta ? dnnl_f32 : dnnl_bf16)};
    need(dnnl_matmul_desc_init(&d, &a, &b, NULL, &c) == dnnl_success &&
             dnnl_primitive_desc_create(&pd, &d, NULL, engine, NULL) == dnnl_success &&
             dnnl_primitive_create(&p.primitive, pd) == dnnl_success,
         "oneDNN refuses a product");
    dnnl_primitive_desc_destroy(pd);
    return p;
}

static void release(struct product *p)
{
    for (int i = 0; i < 3; i++) dnnl_memory_destroy(p->args[i].memory);
    dnnl_primitive_destroy(p->primitive);
    free(p->a.data), free(p->b.data), free(p->c.data), free(p->other);
}

static void run(struct nn *nn, struct product *p)
{
    if (p->kind == NT) nn_matmul_nt(nn, &p->c, &p->a, &p->b, NN_ASSIGN);
    if (p->kind == NN_) nn_matmul_nn(nn, &p->c, &p->a, &p->b, NN_ASSIGN);
    if (p->kind == TN) nn_matmul_tn(nn, &p->c, &p->a, &p->b, NN_ACCUM);
}

struct total {
    double flops, ours, theirs;
};

static void print(const char *what, const struct total *t)
{
    printf("%s: nn %.0f, oneDNN %.0f GFLOP/s: %.2f\n", what, t->flops / t->ours / 1e9,
           t->flops / t->theirs / 1e9, t->theirs / t->ours);
}

/* Times of one product in one state of the core, ours and theirs */
struct times {
    double s[2][MOST_ROUNDS];
    int n[2];
};

static void report(const struct product *p, enum state state, struct times *t,
                   struct total totals[STATES][4])
{
    if (!t->n[0] || !t->n[1]) return;
    const struct total one = {2.0 * (double)p->m * (double)p->n * (double)p->k,
                              median(t->s[0], t->n[0]), median(t->s[1], t->n[1])};
    char what[96];
    snprintf(what, sizeof what, "%s %5lld %5lld %5lld, %s", names[p->kind],
             (long long)p->m, (long long)p->n, (long long)p->k, states[state]);
    print(what, &one);
    for (int i = 0; i < 2; i++) {
        struct total *sum = &totals[state][i ? (int)p->kind : 3];
        sum->flops += one.flops, sum->ours += one.ours, sum->theirs += one.theirs;
    }
}

static void measure(struct nn *nn, dnnl_stream_t stream, struct product *p, int rounds,
                    struct total totals[STATES][4])
{
    struct times times[STATES] = {0};
    const double registers = amx(false);
    for (int i = -1; i < rounds; i++) { /* the first warms up */
        double fed = amx(true);
        for (int other = 0; other < 2; other++) {
            const double start = seconds();
            if (other)
                dnnl_primitive_execute(p->primitive, stream, 3, p->args);
            else
                run(nn, p);
            const double took = seconds() - start, before = fed;
            fed = amx(true);
            struct times *t = &times[state_of(before, fed, registers)];
            if (i >= 0) t->s[other][t->n[other]++] = took;
        }
    }
    for (enum state s = FREE; s < STATES; s++) report(p, s, &times[s], totals);
}

int main(int argc, char **argv)
{
    static const int64_t usual[] = {512, 2048, 4096};
    const int threads = argc > 1 ? atoi(argv[1]) : 1,
              rounds = argc > 2 ? atoi(argv[2]) : 3;
    need(threads > 0 && rounds > 0 && rounds <= MOST_ROUNDS, "threads? rounds?");
    timer = threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;
    omp_set_num_threads(threads);
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_engine_create(&engine, dnnl_cpu, 0);
    dnnl_stream_create(&stream, engine, 0);
    struct device *device;
    struct nn *nn;
    need(device_open(&device, "cpu", 0) == STATUS_OK &&
             nn_create(&nn, device, threads, (size_t)threads << 23) == STATUS_OK,
         "no nn");
    need(gemm_amx_usable(), "no AMX");
    struct total totals[STATES][4] = {{{0}}};
    const int n_rows = argc > 3 ? argc - 3 : 3;
    const double first = amx(false);
    for (int r = 0; r < n_rows; r++)
        for (int i = 0; i < WIDTHS * WIDTHS * 3; i++) {
            const int64_t rows = argc > 3 ? atoll(argv[3 + r]) : usual[r];
            const int64_t out = widths[i / 3 / WIDTHS], in = widths[i / 3 % WIDTHS];
            const enum kind kind = i % 3;
            struct product p =
                make(engine, kind, kind == TN ? out : rows, kind == NT ? out : in,
                     kind == NT    ? in
                     : kind == NN_ ? out
                                   : rows);
            measure(nn, stream, &p, rounds, totals);
            release(&p);
        }
    for (enum state s = FREE; s < STATES; s++)
        for (int i = 0; i < 4; i++) {
            char what[64];
            snprintf(what, sizeof what, "%s, %s", i < 3 ? names[i] : "all", states[s]);
            if (totals[s][i].flops > 0) print(what, &totals[s][i]);
        }
    printf("AMX out of registers, one thread, before and after: %.0f %.0f GFLOP/s\n",
           first, amx(false));
    nn_destroy(&nn);
    device_close(&device);
    return 0;
}
