/* gemm - matrix products on the CPU. */
#pragma once

#include "nn/nn_impl.h"

/* c[m,n] = alpha op(a) op(b) + beta c on one thread or the whole team, row-major with leading
 * dimensions.  Inside a parallel region it runs
 * on the calling thread alone. */
void nn_gemm(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha,
             const float *a, int64_t lda, const float *b, int64_t ldb, float beta,
             float *c, int64_t ldc);

/* The same with alpha = 1, on a team of so many threads. */
void gemm_team(int threads, bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k,
               const float *a, int64_t lda, const float *b, int64_t ldb, float beta,
               float *c, int64_t ldc);
