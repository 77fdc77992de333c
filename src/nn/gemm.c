/* The only caller of the BLAS library; compiled once, since the library picks its own code for the
 * machine. */
#include "nn/gemm.h"

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>

void nn_gemm(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha,
             const float *a, int64_t lda, const float *b, int64_t ldb, float beta,
             float *c, int64_t ldc)
{
    /* The library runs on the calling thread where omp_in_parallel() holds, which it does not
     * inside a team of one: there it would start a team of its own, for tiles that take less
     * time than that.  The setting belongs to this thread's task and ends with the region. */
    if (omp_get_level() > 0 && !omp_in_parallel()) omp_set_num_threads(1);
    const dnnl_status_t st = dnnl_sgemm(trans_a ? 'T' : 'N', trans_b ? 'T' : 'N', m, n, k,
                                        alpha, a, lda, b, ldb, beta, c, ldc);
    if (st != dnnl_success)
        die("matrix product of %lld x %lld x %lld: oneDNN status %d", (long long)m,
            (long long)n, (long long)k, (int)st);
}

void gemm_team(int threads, bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k,
               const float *a, int64_t lda, const float *b, int64_t ldb, float beta,
               float *c, int64_t ldc)
{
    const int before = omp_get_max_threads();
    omp_set_num_threads(threads);
    nn_gemm(trans_a, trans_b, m, n, k, 1, a, lda, b, ldb, beta, c, ldc);
    omp_set_num_threads(before);
}
