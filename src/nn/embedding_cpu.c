#include "nn/ops_cpu.h"
#include "nn/stripe.h"

void NN_CPU(embedding_fwd)(int threads, float *y, const float *wte, const float *wpe,
                           const int32_t *tokens, const int32_t *positions, int64_t N,
                           int64_t C)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t n = 0; n < N; n++) {
        float *yn = y + n * C;
        const float *token = wte + tokens[n] * C;
        if (!wpe) {
            memcpy(yn, token, (size_t)C * sizeof *yn);
            continue;
        }
        const float *position = wpe + positions[n] * C;
#pragma omp simd
        for (int64_t c = 0; c < C; c++) yn[c] = token[c] + position[c];
    }
}

static void add_row(float *restrict dw, const float *restrict dy, int64_t columns)
{
#pragma omp simd
    for (int64_t c = 0; c < columns; c++) dw[c] += dy[c];
}

/* A thread owns a stripe of columns, so equal tokens in a batch never meet in two threads, the
 * work is even whatever the tokens are, and sums have one order for any number of threads. */
void NN_CPU(embedding_bwd)(int threads, float *dwte, float *dwpe, const float *dy,
                           const int32_t *tokens, const int32_t *positions, int64_t N,
                           int64_t C)
{
#pragma omp parallel num_threads(threads)
    {
        const struct stripe s = stripe_of_thread(C);
        for (int64_t n = 0; n < N; n++) {
            const float *row = dy + n * C + s.first;
            add_row(dwte + tokens[n] * C + s.first, row, s.count);
            if (dwpe) add_row(dwpe + positions[n] * C + s.first, row, s.count);
        }
    }
}
