#include "nn/backend_cuda.h"
#include "nn/matmul_cuda.h"
#include "nn/ops_cuda.h"

/* From the scratch, also while measuring; the caller rewinds. */
static void *take_workspace(struct nn *nn)
{
    const size_t align = MATMUL_CUDA_WORKSPACE_ALIGN;
    char *p = arena_alloc(&nn->scratch,
                          MATMUL_CUDA_WORKSPACE_BYTES + align - ARENA_ALIGN_BYTES);
    return p ? p + (align - (uintptr_t)p % align) % align : NULL;
}

void matmul_cuda_row(struct nn *nn, struct tensor *c, const struct tensor *a,
                     bool trans_a, const struct tensor *b, bool trans_b,
                     enum nn_accum mode)
{
    CHECK(a->dtype == b->dtype && (c->dtype == a->dtype || c->dtype == DTYPE_F32));
    const size_t mark = arena_mark(&nn->scratch);
    void *workspace = take_workspace(nn);
    if (!nn->measuring) {
        const struct backend_cuda *cuda = backend_cuda(nn);
        const struct matmul_cuda_product p = {.m = c->shape[0],
                                              .n = b->shape[trans_b ? 0 : 1],
                                              .k = b->shape[trans_b ? 1 : 0],
                                              .lda = a->shape[1],
                                              .ldd = c->shape[1],
                                              .trans_a = trans_a,
                                              .trans_b = trans_b,
                                              .in = a->dtype,
                                              .out = c->dtype,
                                              .a = a->data,
                                              .b = b->data,
                                              .add = mode == NN_ACCUM ? c->data : NULL,
                                              .d = c->data};
        matmul_cuda_run(cuda->matmul, &p, workspace, cuda->stream);
    }
    arena_rewind(&nn->scratch, mark);
}

static struct matmul_cuda_product linear(struct tensor *y, const struct tensor *x,
                                         const struct tensor *w, const struct tensor *b)
{
    return (struct matmul_cuda_product){.m = y->shape[0],
                                        .n = y->shape[1],
                                        .k = x->shape[1],
                                        .lda = x->shape[1],
                                        .ldd = y->shape[1],
                                        .trans_b = true,
                                        .in = x->dtype,
                                        .out = y->dtype,
                                        .a = x->data,
                                        .b = w->data,
                                        .bias = b ? b->data : NULL,
                                        .d = y->data};
}

/* Where the library cannot add the bias, it is added behind the product. */
static void run_linear(const struct backend_cuda *cuda, struct matmul_cuda_product p,
                       void *workspace)
{
    if (matmul_cuda_run(cuda->matmul, &p, workspace, cuda->stream)) return;
    const void *bias = p.bias;
    p.bias = NULL;
    matmul_cuda_run(cuda->matmul, &p, workspace, cuda->stream);
    cuda_bias_add(cuda->stream, p.out, p.d, p.d, bias, p.m, p.n);
}

void linear_cuda_fwd(struct nn *nn, struct tensor *y, const struct tensor *x,
                     const struct tensor *w, const struct tensor *b,
                     const struct tensor *residual)
{
    const size_t mark = arena_mark(&nn->scratch);
    void *workspace = take_workspace(nn);
    if (!nn->measuring) {
        struct matmul_cuda_product p = linear(y, x, w, b);
        p.add = residual ? residual->data : NULL;
        run_linear(backend_cuda(nn), p, workspace);
    }
    arena_rewind(&nn->scratch, mark);
}

/* Is gelu worth doing in the product's pass?  In fp32 the library does not say how exact its gelu
 * is.  Reported by others for bf16, not measured here: faster on sm_90 (karpathy/llm.c pull request
 * 591), slower than a product and a kernel on sm_89 (338) and sm_120 (sgl-project/sglang 34350). */
static bool gelu_in_product(const struct backend_cuda *cuda, enum dtype t)
{
    return cuda->capability >= 90 && cuda->capability < 120 && t != DTYPE_F32;
}

void linear_gelu_cuda_fwd(struct nn *nn, struct tensor *y, struct tensor *u,
                          const struct tensor *x, const struct tensor *w,
                          const struct tensor *b)
{
    const size_t mark = arena_mark(&nn->scratch);
    void *workspace = take_workspace(nn);
    if (!nn->measuring) {
        const struct backend_cuda *cuda = backend_cuda(nn);
        struct matmul_cuda_product p = linear(y, x, w, b);
        p.u = u->data;
        if (!gelu_in_product(cuda, y->dtype) ||
            !matmul_cuda_run(cuda->matmul, &p, workspace, cuda->stream)) {
            run_linear(cuda, linear(u, x, w, b), workspace);
            cuda_gelu_fwd(cuda->stream, y->dtype, y->data, u->data, tensor_elements(y));
        }
    }
    arena_rewind(&nn->scratch, mark);
}
