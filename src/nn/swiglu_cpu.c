#include "nn/ops_cpu.h"
#include "nn/stripe.h"
#include "nn/vec.h"

void NN_CPU(swiglu_fwd)(int threads, elem *y, const elem *gu, int64_t N, int64_t F)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t n = 0; n < N; n++) {
        const elem *gate = gu + 2 * n * F, *up = gate + F;
        elem *yn = y + n * F;
        EACH_VEC(f, k, F)
        {
            const vec g = vec_load(gate + f, k);
            vec_store(yn + f, g * vec_sigmoid(g) * vec_load(up + f, k), k);
        }
    }
}

/* s = sigmoid(gate)      dup = dy gate s      dgate = dy up s (1 + gate (1 - s))
 * db, y: NULL, or to be added to and made again */
static void row_bwd(elem *dgu, elem *y, float *db, const elem *dy, const elem *gu,
                    int64_t F)
{
    EACH_VEC(f, k, F)
    {
        const vec g = vec_load(gu + f, k), up = vec_load(gu + F + f, k);
        const vec d = vec_load(dy + f, k), s = vec_sigmoid(g), gs = g * s;
        const vec dgate = d * up * (s + gs * (1.0f - s)), dup = d * gs;
        vec_store(dgu + f, dgate, k);
        vec_store(dgu + F + f, dup, k);
        if (y) vec_store(y + f, gs * up, k);
        if (!db) continue;
        vec_add_to(db + f, dgate, k);
        vec_add_to(db + F + f, dup, k);
    }
}

/* Each thread sums its rows' share of db on its own. */
void NN_CPU(swiglu_bwd)(int threads, elem *dgu, elem *y, float *db, float *partial,
                        const elem *dy, const elem *gu, int64_t N, int64_t F)
{
#pragma omp parallel num_threads(threads)
    {
        float *mine = db ? stripe_partial(partial, 2 * F) : NULL;
#pragma omp for schedule(static)
        for (int64_t n = 0; n < N; n++)
            row_bwd(dgu + 2 * n * F, y ? y + n * F : NULL, mine, dy + n * F,
                    gu + 2 * n * F, F);
        if (db) stripe_add_partials(db, partial, 2 * F);
    }
}
