#include "nn/ops_cpu.h"
#include "nn/stripe.h"
#include "nn/vec.h"

void NN_CPU(bias_add)(int threads, elem *y, const elem *x, const elem *b, int64_t N,
                      int64_t O)
{
    if (!b && y == x) return;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t n = 0; n < N; n++) {
        const elem *xn = x + n * O;
        elem *yn = y + n * O;
        if (!b) {
            memcpy(yn, xn, (size_t)O * sizeof *yn);
            continue;
        }
        EACH_VEC(o, k, O) vec_store(yn + o, vec_load(xn + o, k) + vec_load(b + o, k), k);
    }
}

/* Rows are added eight at a time before they meet db: an eighth of the loads and stores of db,
 * and an eighth of the terms in each serial sum, which is what its rounding error grows with. */
enum { BIAS_ROWS = 8 };

static void add_rows(float *restrict db, const elem *restrict dy, int64_t O,
                     int64_t columns)
{
#pragma omp simd
    for (int64_t o = 0; o < columns; o++) {
        const elem *x = dy + o;
        db[o] += ((get(x[0]) + get(x[O])) + (get(x[2 * O]) + get(x[3 * O]))) +
                 ((get(x[4 * O]) + get(x[5 * O])) + (get(x[6 * O]) + get(x[7 * O])));
    }
}

static void add_row(float *restrict db, const elem *restrict dy, int64_t columns)
{
#pragma omp simd
    for (int64_t o = 0; o < columns; o++) db[o] += get(dy[o]);
}

/* A thread owns a stripe of columns and goes down all rows: no partial sums, and the order of
 * additions does not depend on the number of threads. */
void NN_CPU(bias_bwd)(int threads, float *db, const elem *dy, int64_t N, int64_t O)
{
#pragma omp parallel num_threads(threads)
    {
        const struct stripe s = stripe_of_thread(O);
        int64_t n = 0;
        for (; n + BIAS_ROWS <= N; n += BIAS_ROWS)
            add_rows(db + s.first, dy + n * O + s.first, O, s.count);
        for (; n < N; n++) add_row(db + s.first, dy + n * O + s.first, s.count);
    }
}
