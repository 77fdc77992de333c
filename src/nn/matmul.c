#include "nn/nn_impl.h"

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

/* c[m,n] = op(a) op(b) over nn's threads, rows of all three without gaps. */
static void team_gemm(struct nn *nn, bool trans_a, bool trans_b, struct tensor *c,
                      const struct tensor *a, const struct tensor *b, enum nn_accum mode)
{
    const float *fa = tensor_f32(a), *fb = tensor_f32(b);
    float *fc = tensor_f32(c);
    const int64_t k = trans_a ? a->shape[0] : a->shape[1];
    if (nn->measuring) return;
    const int before = omp_get_max_threads();
    omp_set_num_threads(nn->n_threads);
    nn_gemm(trans_a, trans_b, c->shape[0], c->shape[1], k, 1.0f, fa, a->shape[1], fb,
            b->shape[1], mode == NN_ACCUM ? 1.0f : 0.0f, fc, c->shape[1]);
    omp_set_num_threads(before);
}

static bool all_2d(const struct tensor *a, const struct tensor *b, const struct tensor *c)
{
    return a->n_dims == 2 && b->n_dims == 2 && c->n_dims == 2;
}

void nn_matmul_nt(struct nn *nn, struct tensor *y, const struct tensor *x,
                  const struct tensor *w, enum nn_accum mode)
{
    CHECK(all_2d(y, x, w));
    CHECK(y->shape[0] == x->shape[0]); /* N */
    CHECK(y->shape[1] == w->shape[0]); /* O */
    CHECK(x->shape[1] == w->shape[1]); /* C */
    team_gemm(nn, false, true, y, x, w, mode);
}

void nn_matmul_nn(struct nn *nn, struct tensor *dx, const struct tensor *dy,
                  const struct tensor *w, enum nn_accum mode)
{
    CHECK(all_2d(dx, dy, w));
    CHECK(dx->shape[0] == dy->shape[0]); /* N */
    CHECK(dy->shape[1] == w->shape[0]);  /* O */
    CHECK(dx->shape[1] == w->shape[1]);  /* C */
    team_gemm(nn, false, false, dx, dy, w, mode);
}

void nn_matmul_tn(struct nn *nn, struct tensor *dw, const struct tensor *dy,
                  const struct tensor *x, enum nn_accum mode)
{
    CHECK(all_2d(dw, dy, x));
    CHECK(dy->shape[0] == x->shape[0]);  /* N */
    CHECK(dw->shape[0] == dy->shape[1]); /* O */
    CHECK(dw->shape[1] == x->shape[1]);  /* C */
    team_gemm(nn, true, false, dw, dy, x, mode);
}
