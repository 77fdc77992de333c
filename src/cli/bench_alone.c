/* Products by themselves, at the shapes that a step has: what the rest of a step is held against. */
#include <stdlib.h>
#include <string.h>

#include "cli/bench_parts.h"
#include "core/clock.h"

enum { REPEATS = 5, MOST_CALLS = 100 };
static const double LONG_ENOUGH = 20e-3; /* seconds of one timing */

/* Operands of the largest product, and the operations on them. */
struct alone {
    struct nn *nn;
    enum dtype t;
    struct tensor x, y, w, dw; /* as large as any needs */
};

static void multiply(struct alone *a, const struct nn_account_entry *e)
{
    struct tensor x = tensor_2d(a->x.data, a->t, e->rows, e->inputs);
    struct tensor y = tensor_2d(a->y.data, a->t, e->rows, e->outputs);
    struct tensor w = tensor_2d(a->w.data, a->t, e->outputs, e->inputs);
    struct tensor dw = tensor_2d(a->dw.data, DTYPE_F32, e->outputs, e->inputs);
    if (strcmp(e->name, NN_ACCOUNT_FORWARD) == 0)
        nn_matmul_nt(a->nn, &y, &x, &w, NN_ASSIGN);
    else if (strcmp(e->name, NN_ACCOUNT_DX) == 0)
        nn_matmul_nn(a->nn, &x, &y, &w, NN_ASSIGN);
    else
        nn_matmul_tn(a->nn, &dw, &y, &x, NN_ACCUM);
}

static double time_calls(struct alone *a, const struct nn_account_entry *e, int calls)
{
    const double start = clock_seconds();
    for (int i = 0; i < calls; i++) multiply(a, e);
    device_wait(nn_device(a->nn));
    return (clock_seconds() - start) / calls;
}

/* Of one call. */
static double median_time(struct alone *a, const struct nn_account_entry *e)
{
    double times[REPEATS];
    const double wanted = LONG_ENOUGH / time_calls(a, e, 1); /* also warms up */
    const int calls = wanted < 1 ? 1 : wanted > MOST_CALLS ? MOST_CALLS : (int)wanted;
    for (int i = 0; i < REPEATS; i++) times[i] = time_calls(a, e, calls);
    return bench_median(times, REPEATS);
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static void take(struct alone *a, const struct bench_parts *p, struct arena *arena)
{
    int64_t x = 1, y = 1, w = 1;
    for (int i = 0; i < p->n_operations; i++) {
        const struct nn_account_entry *e = &p->operations[i];
        x = larger(x, e->rows * e->inputs);
        y = larger(y, e->rows * e->outputs);
        w = larger(w, e->outputs * e->inputs);
    }
    const size_t bytes = dtype_bytes(a->t);
    a->x = tensor_1d(arena_alloc(arena, (size_t)x * bytes), a->t, x);
    a->y = tensor_1d(arena_alloc(arena, (size_t)y * bytes), a->t, y);
    a->w = tensor_1d(arena_alloc(arena, (size_t)w * bytes), a->t, w);
    a->dw = tensor_1d(arena_floats(arena, w), DTYPE_F32, w);
}

static status_t measure_scratch(struct alone *a, const struct bench_parts *p,
                                struct device *d, int threads, size_t *scratch)
{
    TRY(nn_create_measuring(&a->nn, d, threads));
    for (int i = 0; i < p->n_operations; i++)
        if (p->operations[i].rows) multiply(a, &p->operations[i]);
    *scratch = nn_scratch_peak_bytes(a->nn);
    nn_destroy(&a->nn);
    return STATUS_OK;
}

status_t bench_parts_alone(const struct bench_parts *p, struct device *d, int threads,
                           enum dtype t, double alone[NN_ACCOUNT_MAX])
{
    struct alone a = {.t = t};
    struct arena sizes = arena_measure();
    void *block = NULL;
    size_t scratch = 0;
    take(&a, p, &sizes);
    TRY(measure_scratch(&a, p, d, threads, &scratch));
    TRY(device_alloc(d, sizes.peak_bytes, "operands of products", &block));
    struct arena memory = arena_over(block, sizes.peak_bytes);
    take(&a, p, &memory);
    status_t st = nn_create(&a.nn, d, threads, scratch);
    const struct tensor *all[] = {&a.x, &a.y, &a.w, &a.dw};
    for (int i = 0; st == STATUS_OK && i < 4; i++) st = bench_fill(d, all[i]);
    for (int i = 0; st == STATUS_OK && i < p->n_operations; i++) {
        const struct nn_account_entry *e = &p->operations[i];
        alone[i] = e->rows ? median_time(&a, e) * (double)e->calls : 0;
    }
    nn_destroy(&a.nn);
    device_free(d, &block, sizes.peak_bytes);
    return st;
}
