#include "nn/matmul_cuda.h"

#include <cublasLt.h>
#include <stdlib.h>

#include "device/device_cuda.h"

/* The library's matrices are column-major: what is [r, c] to us is [c, r] to it.  So it computes
 * d^T = op(b)^T op(a)^T, and our b is its first operand. */

/* All that a plan depends on.  Only numbers of one size: compared and hashed as bytes. */
struct key {
    int64_t m, n, k, lda, ldd, trans_a, trans_b, in, out, epilogue;
    int64_t align_a, align_b, align_add, align_bias, align_u, align_d; /* 0: none */
};

struct plan {
    struct key key;
    struct plan *next; /* in its bucket */
    bool usable;
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulAlgo_t algorithm;
};

enum { BUCKETS = 256 };

struct matmul_cuda {
    cublasLtHandle_t handle;
    struct plan *buckets[BUCKETS];
};

/* ---- life ---------------------------------------------------------------------------------- */

status_t matmul_cuda_create(struct matmul_cuda **m)
{
    *m = calloc(1, sizeof **m);
    if (!*m) return status_set(STATUS_NOMEM, "no memory for plans of matrix products");
    const cublasStatus_t e = cublasLtCreate(&(*m)->handle);
    if (e == CUBLAS_STATUS_SUCCESS) return STATUS_OK;
    (*m)->handle = NULL;
    matmul_cuda_destroy(m);
    return status_set(STATUS_DEVICE, "cuBLASLt does not start: %s",
                      cublasLtGetStatusString(e));
}

static void plan_destroy(struct plan *p)
{
    if (p->product) cublasLtMatmulDescDestroy(p->product);
    if (p->a) cublasLtMatrixLayoutDestroy(p->a);
    if (p->b) cublasLtMatrixLayoutDestroy(p->b);
    if (p->d) cublasLtMatrixLayoutDestroy(p->d);
    free(p);
}

void matmul_cuda_destroy(struct matmul_cuda **m)
{
    if (!*m) return;
    for (int i = 0; i < BUCKETS; i++) {
        for (struct plan *p = (*m)->buckets[i], *next; p; p = next) {
            next = p->next;
            plan_destroy(p);
        }
    }
    if ((*m)->handle) cublasLtDestroy((*m)->handle);
    free(*m);
    *m = NULL;
}

/* ---- plans --------------------------------------------------------------------------------- */

static void check(cublasStatus_t e, const char *what, const struct key *k)
{
    if (e == CUBLAS_STATUS_SUCCESS) return;
    device_cuda_check(cudaGetLastError(), what); /* what the device itself says of it */
    die("%s: %s, for a product of %lld x %lld x %lld, %s to %s", what,
        cublasLtGetStatusString(e), (long long)k->m, (long long)k->n, (long long)k->k,
        dtype_name((enum dtype)k->in), dtype_name((enum dtype)k->out));
}

/* Bytes that divide the address, up to the 16 of the widest access: more does not matter to any
 * algorithm, and would make the choice depend on where an arena put a tensor. */
static int64_t alignment(const void *p)
{
    int64_t bytes = p ? 16 : 0;
    while (bytes && (uintptr_t)p % (uintptr_t)bytes != 0) bytes /= 2;
    return bytes;
}

static cublasLtEpilogue_t epilogue(const struct matmul_cuda_product *p)
{
    if (p->u)
        return p->bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    return p->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

static struct key key_of(const struct matmul_cuda_product *p)
{
    return (struct key){.m = p->m,
                        .n = p->n,
                        .k = p->k,
                        .lda = p->lda,
                        .ldd = p->ldd,
                        .trans_a = p->trans_a,
                        .trans_b = p->trans_b,
                        .in = p->in,
                        .out = p->out,
                        .epilogue = epilogue(p),
                        .align_a = alignment(p->a),
                        .align_b = alignment(p->b),
                        .align_add = alignment(p->add),
                        .align_bias = alignment(p->bias),
                        .align_u = alignment(p->u),
                        .align_d = alignment(p->d)};
}

static struct plan **bucket_of(struct matmul_cuda *m, const struct key *k)
{
    const unsigned char *bytes = (const unsigned char *)k;
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < sizeof *k; i++) h = (h ^ bytes[i]) * 0x100000001b3u;
    return &m->buckets[(h >> 32) % BUCKETS];
}

static cudaDataType_t type_of(int64_t t)
{
    return t == DTYPE_BF16 ? CUDA_R_16BF : t == DTYPE_F16 ? CUDA_R_16F : CUDA_R_32F;
}

#define SET(set, object, attribute, value)                                               \
    check(set((object), (attribute), &(value), sizeof(value)), #attribute, k)

/* Our [rows, cols], ld from one row to the next. */
static void layout(cublasLtMatrixLayout_t *l, int64_t type, int64_t rows, int64_t cols,
                   int64_t ld, const struct key *k)
{
    check(
        cublasLtMatrixLayoutCreate(l, type_of(type), (uint64_t)cols, (uint64_t)rows, ld),
        "cublasLtMatrixLayoutCreate", k);
}

/* fp32 operands are multiplied as such: not rounded to tf32. */
static void describe(struct plan *plan)
{
    const struct key *k = &plan->key;
    const int32_t trans_a = k->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    const int32_t trans_b = k->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    const uint32_t epilogue = (uint32_t)k->epilogue;
    check(cublasLtMatmulDescCreate(&plan->product, CUBLAS_COMPUTE_32F, CUDA_R_32F),
          "cublasLtMatmulDescCreate", k);
    SET(cublasLtMatmulDescSetAttribute, plan->product, CUBLASLT_MATMUL_DESC_TRANSA,
        trans_a);
    SET(cublasLtMatmulDescSetAttribute, plan->product, CUBLASLT_MATMUL_DESC_TRANSB,
        trans_b);
    SET(cublasLtMatmulDescSetAttribute, plan->product, CUBLASLT_MATMUL_DESC_EPILOGUE,
        epilogue);
    if (k->align_u) {
        const int64_t ld = k->n;
        SET(cublasLtMatmulDescSetAttribute, plan->product,
            CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, ld);
    }
    const int64_t b_cols = k->trans_b ? k->k : k->n;
    layout(&plan->a, k->in, k->trans_a ? k->k : k->m, k->trans_a ? k->m : k->k, k->lda,
           k);
    layout(&plan->b, k->in, k->trans_b ? k->n : k->k, b_cols, b_cols, k);
    layout(&plan->d, k->out, k->m, k->n, k->ldd, k);
}

/* The addresses of this call; the heuristic reads their alignment. */
static void set_pointers(const struct plan *plan, const struct matmul_cuda_product *p)
{
    const struct key *k = &plan->key;
    const void *bias = p->bias;
    void *u = p->u;
    if (bias)
        SET(cublasLtMatmulDescSetAttribute, plan->product,
            CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    if (u)
        SET(cublasLtMatmulDescSetAttribute, plan->product,
            CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, u);
}

/* Partial sums, if a product is cut along k, are kept in fp32 in the workspace and added in order.
 * The other schemes round them to the result's type, or add in place as blocks come. */
static cublasLtMatmulPreference_t preference_create(const struct key *k)
{
    cublasLtMatmulPreference_t preference = NULL;
    const uint64_t workspace = MATMUL_CUDA_WORKSPACE_BYTES;
    const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const uint32_t a = (uint32_t)k->align_b, b = (uint32_t)k->align_a;
    const uint32_t c = (uint32_t)(k->align_add ? k->align_add : k->align_d);
    const uint32_t d = (uint32_t)k->align_d;
    check(cublasLtMatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate",
          k);
    SET(cublasLtMatmulPreferenceSetAttribute, preference,
        CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace);
    SET(cublasLtMatmulPreferenceSetAttribute, preference,
        CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reductions);
    SET(cublasLtMatmulPreferenceSetAttribute, preference,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, a);
    SET(cublasLtMatmulPreferenceSetAttribute, preference,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, b);
    SET(cublasLtMatmulPreferenceSetAttribute, preference,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, c);
    SET(cublasLtMatmulPreferenceSetAttribute, preference,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, d);
    return preference;
}

/* A refusal is a status other than success: the library has several. */
static cublasStatus_t choose(struct plan *plan, cublasLtHandle_t handle)
{
    enum { ASKED = 4 };
    cublasLtMatmulHeuristicResult_t found[ASKED];
    int n_found = 0;
    cublasLtMatmulPreference_t preference = preference_create(&plan->key);
    const cublasStatus_t e =
        cublasLtMatmulAlgoGetHeuristic(handle, plan->product, plan->b, plan->a, plan->d,
                                       plan->d, preference, ASKED, found, &n_found);
    cublasLtMatmulPreferenceDestroy(preference);
    for (int i = 0; e == CUBLAS_STATUS_SUCCESS && i < n_found; i++) {
        if (found[i].state != CUBLAS_STATUS_SUCCESS) continue;
        plan->algorithm = found[i].algo;
        return CUBLAS_STATUS_SUCCESS;
    }
    return e == CUBLAS_STATUS_SUCCESS ? CUBLAS_STATUS_NOT_SUPPORTED : e;
}

/* The documentation asks it of u; fewer numbers would be refused or written wrongly. */
static bool is_allowed(const struct key *k)
{
    return !k->align_u || (k->n % 8 == 0 && k->align_u == 16);
}

static struct plan *plan_create(struct matmul_cuda *m, const struct key *k,
                                const struct matmul_cuda_product *p)
{
    struct plan *plan = calloc(1, sizeof *plan);
    if (!plan) die("no memory for the plan of a matrix product");
    plan->key = *k;
    cublasStatus_t e = CUBLAS_STATUS_NOT_SUPPORTED;
    if (is_allowed(k)) {
        describe(plan);
        set_pointers(plan, p);
        e = choose(plan, m->handle);
    }
    plan->usable = e == CUBLAS_STATUS_SUCCESS;
    if (k->epilogue == CUBLASLT_EPILOGUE_DEFAULT)
        check(e, "cuBLASLt has no algorithm", k);
    return plan;
}

static struct plan *plan_of(struct matmul_cuda *m, const struct matmul_cuda_product *p)
{
    const struct key k = key_of(p);
    struct plan **bucket = bucket_of(m, &k);
    for (struct plan *plan = *bucket; plan; plan = plan->next)
        if (!memcmp(&plan->key, &k, sizeof k)) return plan;
    struct plan *plan = plan_create(m, &k, p);
    plan->next = *bucket;
    *bucket = plan;
    return plan;
}

/* ---- products ------------------------------------------------------------------------------ */

bool matmul_cuda_run(struct matmul_cuda *m, const struct matmul_cuda_product *p,
                     void *workspace, cudaStream_t s)
{
    const float one = 1, beta = p->add ? 1 : 0;
    const struct plan *plan = plan_of(m, p);
    if (!plan->usable) return false;
    set_pointers(plan, p);
    check(cublasLtMatmul(m->handle, plan->product, &one, p->b, plan->b, p->a, plan->a,
                         &beta, p->add ? p->add : p->d, plan->d, p->d, plan->d,
                         &plan->algorithm, workspace, MATMUL_CUDA_WORKSPACE_BYTES, s),
          "cublasLtMatmul", &plan->key);
    return true;
}
