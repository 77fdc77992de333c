/* stripe - how the threads of a parallel region share the columns of a matrix.
 *
 * Cut at multiples of a cache line, so that no two threads write to the same one when rows are
 * aligned.  Included only by *_cpu.c. */
#pragma once

#include <omp.h>
#include <stdint.h>
#include <string.h>

struct stripe {
    int64_t first, count;
};

/* The calling thread's share of `columns`; empty when there are fewer lines than threads. */
static inline struct stripe stripe_of_thread(int64_t columns)
{
    enum { LINE_FLOATS = 16 };
    const int64_t lines = (columns + LINE_FLOATS - 1) / LINE_FLOATS;
    const int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
    const int64_t first = lines * thread / threads * LINE_FLOATS;
    const int64_t past = lines * (thread + 1) / threads * LINE_FLOATS;
    const int64_t end = past < columns ? past : columns;
    return (struct stripe){.first = first, .count = end - first};
}

/* The calling thread's row of partial[threads, columns], zeroed. */
static inline float *stripe_partial(float *partial, int64_t columns)
{
    float *mine = partial + omp_get_thread_num() * columns;
    memset(mine, 0, (size_t)columns * sizeof *mine);
    return mine;
}

/* sum[c] += partial[thread, c] over the threads of the region, in their order; called by all
 * of them after a barrier, each for its own stripe. */
static inline void stripe_add_partials(float *sum, const float *partial, int64_t columns)
{
    const struct stripe s = stripe_of_thread(columns);
    for (int64_t t = 0; t < omp_get_num_threads(); t++) {
        const float *p = partial + t * columns;
#pragma omp simd
        for (int64_t c = s.first; c < s.first + s.count; c++) sum[c] += p[c];
    }
}
