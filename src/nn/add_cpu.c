#include "nn/ops_cpu.h"
#include "nn/vec.h"

void NN_CPU(add)(int threads, elem *y, const elem *x, int64_t n)
{
    enum { CHUNK = 4096 };
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < n; i += CHUNK) {
        const int64_t count = n - i < CHUNK ? n - i : CHUNK;
        EACH_VEC(j, k, count)
        vec_store(y + i + j, vec_load(y + i + j, k) + vec_load(x + i + j, k), k);
    }
}
