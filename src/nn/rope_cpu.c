#include "nn/ops_cpu.h"
#include "nn/vec.h"

/* cos and sin lie in pairs in the table; a row's heads all need them apart, so they are taken
 * apart once a row, ROPE_BLOCK pairs at a time. */
enum { ROPE_BLOCK = 64 };

static void turn_head(elem *a, elem *b, const float *cosines, const float *sines,
                      int64_t n)
{
    EACH_VEC(i, k, n)
    {
        const vec ai = vec_load(a + i, k), bi = vec_load(b + i, k);
        const vec c = vec_load_floats(cosines + i, k), s = vec_load_floats(sines + i, k);
        vec_store(a + i, ai * c - bi * s, k);
        vec_store(b + i, bi * c + ai * s, k);
    }
}

static void turn_row(elem *x, const float *table, const struct nn_rope *r, float sign)
{
    float cosines[ROPE_BLOCK], sines[ROPE_BLOCK];
    for (int64_t first = 0; first < r->half; first += ROPE_BLOCK) {
        const int64_t rest = r->half - first;
        const int64_t n = rest < ROPE_BLOCK ? rest : ROPE_BLOCK;
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            cosines[i] = table[2 * (first + i)];
            sines[i] = sign * table[2 * (first + i) + 1];
        }
        for (int64_t h = 0; h < r->n_heads; h++) {
            elem *a = x + h * r->head_size + first;
            turn_head(a, a + r->half, cosines, sines, n);
        }
    }
}

void NN_CPU(rope)(int threads, elem *x, int64_t N, int64_t W, const struct nn_rope *r,
                  float sign)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t n = 0; n < N; n++)
        turn_row(x + n * W, r->table + 2 * r->half * r->positions[n], r, sign);
}
