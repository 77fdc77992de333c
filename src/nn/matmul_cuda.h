/* matmul_cuda - matrix products by cuBLASLt, with what the library adds to them in the same pass.
 *
 * A plan (descriptors and the algorithm that the library's heuristic names) is made when a shape
 * is first seen and kept, so later calls allocate nothing.  Only algorithms that add in a fixed
 * order are allowed, and the choice depends on shapes, types and 16-byte alignment alone: results
 * are the same bitwise from run to run on one kind of GPU. */
#pragma once

#include <cuda_runtime_api.h>
#include <stdbool.h>

#include "core/dtype.h"
#include "core/status.h"
#include "nn/nn_impl.h"

struct matmul_cuda; /* the library's handle and the plans */

/* What NVIDIA's documentation recommends for sm_90; older GPUs use less. */
enum { MATMUL_CUDA_WORKSPACE_BYTES = 32 << 20, MATMUL_CUDA_WORKSPACE_ALIGN = 256 };

/* STATUS_DEVICE, STATUS_NOMEM */
MUST_USE status_t matmul_cuda_create(struct matmul_cuda **m);
void matmul_cuda_destroy(struct matmul_cuda **m); /* NULL-safe; nulls */

/* u = op(a) op(b) + add + bias, d = gelu(u), summed in fp32; row-major, in device memory.  Without
 * u, d is what u would be. */
struct matmul_cuda_product {
    int64_t m, n, k; /* d: [m,n] */
    int64_t lda,
        ldd; /* from one row to the next of a, of d and add; all others have no gaps */
    bool trans_a, trans_b;
    enum dtype in;  /* of a and b */
    enum dtype out; /* of all others: `in` or fp32 */
    const void *a, *b;
    const void *add;  /* [m,n], may be d; or NULL */
    const void *bias; /* [n] or NULL */
    void *u;          /* [m,n] or NULL */
    void *d;
};

/* Queue it.  workspace: MATMUL_CUDA_WORKSPACE_BYTES of device memory.  false, and nothing is
 * queued: the library cannot add this bias or apply gelu in the same pass, for this shape and
 * these addresses.  Without bias and u it dies instead. */
bool matmul_cuda_run(struct matmul_cuda *m, const struct matmul_cuda_product *p,
                     void *workspace, cudaStream_t s);

/* ---- linear_cuda.c: rows of the table ----------------------------------------------------- */

void matmul_cuda_row(struct nn *nn, struct tensor *c, const struct tensor *a,
                     bool trans_a, const struct tensor *b, bool trans_b,
                     enum nn_accum mode);
void linear_cuda_fwd(struct nn *nn, struct tensor *y, const struct tensor *x,
                     const struct tensor *w, const struct tensor *b,
                     const struct tensor *residual);
void linear_gelu_cuda_fwd(struct nn *nn, struct tensor *y, struct tensor *u,
                          const struct tensor *x, const struct tensor *w,
                          const struct tensor *b);
