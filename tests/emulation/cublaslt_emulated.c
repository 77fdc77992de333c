/* The two calls of the emulated cuBLASLt that matter: which algorithm, and the product. */
#include "cublaslt_emulated.h"

#include <stdlib.h>
#include <string.h>

#include "emulation.h"

/* ---- problems ------------------------------------------------------------------------------ */

static bool is_transpose(int32_t t)
{
    return t == CUBLAS_OP_N || t == CUBLAS_OP_T;
}

/* Sums are fp32; the result has the type of the operands, or is fp32. */
static bool types_fit(const struct product *p)
{
    return p->a.type == p->b.type && (p->d.type == p->a.type || p->d.type == CUDA_R_32F);
}

static bool shapes_fit(const struct product *p)
{
    const bool ta = p->op.trans_a == CUBLAS_OP_T, tb = p->op.trans_b == CUBLAS_OP_T;
    const int64_t b_depth = tb ? p->b.cols : p->b.rows;
    return p->d.rows == (ta ? p->a.cols : p->a.rows) && product_depth(p) == b_depth &&
           p->d.cols == (tb ? p->b.rows : p->b.cols);
}

static bool has_bias(uint32_t epilogue)
{
    return epilogue == CUBLASLT_EPILOGUE_BIAS ||
           epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
}

static bool has_aux(uint32_t epilogue)
{
    return epilogue == CUBLASLT_EPILOGUE_GELU_AUX ||
           epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
}

static bool aligned(const void *p, uint64_t bytes)
{
    return p && (uintptr_t)p % bytes == 0;
}

/* An epilogue we know, with the vectors it needs at 16-byte addresses. */
static bool epilogue_fits(const struct product *p)
{
    const uint32_t e = p->op.epilogue;
    if (has_bias(e) && !aligned(p->op.bias, 16)) return false;
    if (has_aux(e))
        return aligned(p->op.aux, 16) && p->op.aux_ld % 8 == 0 &&
               p->op.aux_ld >= p->d.rows;
    return e == CUBLASLT_EPILOGUE_DEFAULT || has_bias(e);
}

static bool same_layout(const struct emulation_layout *x,
                        const struct emulation_layout *y)
{
    return x->type == y->type && x->rows == y->rows && x->cols == y->cols &&
           x->ld == y->ld;
}

/* All that must not change between the heuristic and the product. */
static uint64_t fingerprint(const struct product *p)
{
    const int64_t facts[] = {p->op.trans_a, p->op.trans_b, p->op.epilogue, p->op.aux_ld,
                             p->a.type,     p->a.rows,     p->a.cols,      p->a.ld,
                             p->b.type,     p->b.rows,     p->b.cols,      p->b.ld,
                             p->d.type,     p->d.rows,     p->d.cols,      p->d.ld};
    uint64_t h = 1;
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
        h = (h ^ (uint64_t)facts[i]) * 0x9E3779B97F4A7C15u + 1;
    return h;
}

static cublasStatus_t describe(struct product *p, cublasLtMatmulDesc_t desc,
                               cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                               cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d)
{
    if (!desc || !a || !b || !c || !d) return CUBLAS_STATUS_INVALID_VALUE;
    *p = (struct product){.op = *desc, .a = *a, .b = *b, .d = *d};
    if (!is_transpose(desc->trans_a) || !is_transpose(desc->trans_b))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!shapes_fit(p) || !same_layout(c, d)) return CUBLAS_STATUS_INVALID_VALUE;
    if (!types_fit(p)) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!epilogue_fits(p)) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!has_bias(desc->epilogue)) p->op.bias = NULL;
    if (!has_aux(desc->epilogue)) p->op.aux = NULL;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- algorithms ---------------------------------------------------------------------------- */

/* What an algorithm's eight numbers mean. */
struct algorithm {
    uint64_t problem;         /* fingerprint */
    uint64_t align[4];        /* that a, b, c, d must have */
    uint64_t workspace_bytes; /* it needs */
    uint64_t any_order;       /* partial sums are added as they come */
    uint64_t seal;
};
_Static_assert(sizeof(struct algorithm) == sizeof(cublasLtMatmulAlgo_t), "eight numbers");

static uint64_t seal_of(const struct algorithm *g)
{
    return g->problem ^ (g->workspace_bytes << 8) ^ 0x656d756c61746564u;
}

cublasStatus_t
cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                               cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                               cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                               cublasLtMatmulPreference_t preference, int n_asked,
                               cublasLtMatmulHeuristicResult_t *results, int *n_found)
{
    struct product p;
    *n_found = 0;
    if (!handle || !preference || n_asked < 1) return CUBLAS_STATUS_INVALID_VALUE;
    const cublasStatus_t e = describe(&p, desc, a, b, c, d);
    if (e != CUBLAS_STATUS_SUCCESS) return e;

    struct algorithm g = {.problem = fingerprint(&p)};
    const size_t of[4] = {type_bytes(p.a.type), type_bytes(p.b.type),
                          type_bytes(p.d.type), type_bytes(p.d.type)};
    for (int i = 0; i < 4; i++) {
        g.align[i] = preference->align[i] < 16 ? preference->align[i] : 16;
        if (g.align[i] < of[i]) return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    if (product_parts(product_depth(&p)) > 1) {
        const uint64_t partial_sums = (uint64_t)(p.d.rows * p.d.cols) * sizeof(float);
        const uint64_t most = preference->workspace_bytes;
        if (preference->reductions & CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE)
            g.workspace_bytes = partial_sums < most ? partial_sums : most;
        g.any_order = (preference->reductions & CUBLASLT_REDUCTION_SCHEME_INPLACE) != 0;
    }
    g.seal = seal_of(&g);
    results[0] = (cublasLtMatmulHeuristicResult_t){.workspaceSize = g.workspace_bytes,
                                                   .wavesCount = 1};
    memcpy(&results[0].algo, &g, sizeof g);
    *n_found = 1;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- products ------------------------------------------------------------------------------ */

struct range {
    const char *what, *first;
    size_t bytes;
};

static struct range matrix_range(const char *what, const void *data,
                                 const struct emulation_layout *l)
{
    const int64_t n = (l->cols - 1) * l->ld + l->rows;
    return (struct range){what, data, (size_t)n * type_bytes(l->type)};
}

static bool overlap(const struct range *x, const struct range *y)
{
    return x->bytes && y->bytes && x->first < y->first + y->bytes &&
           y->first < x->first + x->bytes;
}

/* What the library could not notice. */
static void check_memory(const struct product *p)
{
    struct emulation_layout aux = p->d;
    aux.ld = p->op.aux_ld;
    struct range r[7] = {
        matrix_range("D", p->d_data, &p->d),
        {"the workspace", p->workspace, p->workspace_bytes},
        {"the epilogue's second result", NULL, 0},
        matrix_range("A", p->a_data, &p->a),
        matrix_range("B", p->b_data, &p->b),
        {"C", NULL, 0},
        {"the bias", p->op.bias, 0},
    };
    if (p->op.aux) r[2] = matrix_range(r[2].what, p->op.aux, &aux);
    if (p->beta != 0 && p->c_data != p->d_data)
        r[5] = matrix_range("C", p->c_data, &p->d);
    if (p->op.bias) r[6].bytes = (size_t)p->d.rows * type_bytes(p->d.type);
    for (int i = 0; i < 7; i++) {
        if (r[i].bytes && !emulation_is_device(r[i].first, r[i].bytes))
            emulation_fail("cublasLtMatmul: %s is not in device memory", r[i].what);
        for (int j = i + 1; i < 3 && j < 7; j++)
            if (overlap(&r[i], &r[j]))
                emulation_fail("cublasLtMatmul: %s overlaps %s", r[i].what, r[j].what);
    }
}

static enum emulation_progress run(void *context)
{
    product_compute(context);
    return EMULATION_DONE;
}

static cublasStatus_t queue(const struct product *p, cudaStream_t s)
{
    struct product *copy = malloc(sizeof *copy);
    if (!copy) return CUBLAS_STATUS_ALLOC_FAILED;
    *copy = *p;
    return emulation_queue(s, "cublasLtMatmul", run, free, copy) == cudaSuccess
               ? CUBLAS_STATUS_SUCCESS
               : CUBLAS_STATUS_EXECUTION_FAILED;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                              const void *alpha, const void *a,
                              cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta,
                              const void *c, cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t *algo, void *workspace,
                              size_t workspace_bytes, cudaStream_t s)
{
    struct product p;
    struct algorithm g;
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!alpha || !beta || !algo) return CUBLAS_STATUS_INVALID_VALUE;
    const cublasStatus_t e = describe(&p, desc, a_layout, b_layout, c_layout, d_layout);
    if (e != CUBLAS_STATUS_SUCCESS) return e;
    memcpy(&g, algo, sizeof g);
    if (g.seal != seal_of(&g) || g.problem != fingerprint(&p))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!aligned(a, g.align[0]) || !aligned(b, g.align[1]) || !aligned(c, g.align[2]) ||
        !aligned(d, g.align[3]))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (workspace_bytes < g.workspace_bytes ||
        (g.workspace_bytes && !aligned(workspace, 256)))
        return CUBLAS_STATUS_INVALID_VALUE;
    p.a_data = a;
    p.b_data = b;
    p.c_data = c;
    p.d_data = d;
    p.workspace = workspace;
    p.workspace_bytes = g.workspace_bytes;
    memcpy(&p.alpha, alpha, sizeof p.alpha);
    memcpy(&p.beta, beta, sizeof p.beta);
    if (g.any_order) p.first_part = emulation_random(product_parts(product_depth(&p)));
    check_memory(&p);
    return queue(&p, s);
}
