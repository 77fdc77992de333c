/* The graphs follow the patterns that cuDNN's documentation gives for fused attention: products,
 * pointwise operations and reductions that its engines know to be one kernel.  The single
 * operations SDPA_FWD and SDPA_BWD of cuDNN 9.13 take no causal mask before 9.21.
 *
 *   forward    s = scale q k^T, -inf where j > i;  m = max_j s;  e = exp(s - m);  z = sum_j e
 *              lse = m + log z;  y = (e / z) v
 *   backward   delta = sum_d dy y;  p = exp(s - lse);  dv = p^T dy
 *              ds = scale p (dy v^T - delta);  dk = ds^T q;  dq = ds k
 *
 * Heads that share a key head are summed behind dk and dv.  dq is written by its product: the
 * usual pattern, with dq in fp32 and then rounded, adds to it in any order; this one keeps ds in
 * the workspace, 2 T bytes a row and head. */
#include "nn/attention_graph_cudnn.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef cudnnBackendDescriptor_t descriptor_t;

enum { MAX_OPERATIONS = 32, MAX_CONFIGS = 16 };

struct graph {
    struct cudnn_plan *plan;
    const struct cudnn_library *lib;
    cudnnHandle_t handle;
    enum dtype t;
    const struct nn_attention *a;
    int64_t next_uid; /* of tensors that exist only inside */
    int n_operations;
    descriptor_t operations[MAX_OPERATIONS];
    cudnnStatus_t status; /* the first that is not success; nothing is called behind it */
    const char *failed;   /* in which call */
};

struct shape {
    int64_t dims[4], strides[4];
};

/* ---- descriptors --------------------------------------------------------------------------- */

static void note(struct graph *g, const char *call, cudnnStatus_t status)
{
    if (g->status != CUDNN_STATUS_SUCCESS || status == CUDNN_STATUS_SUCCESS) return;
    g->status = status;
    g->failed = call;
}

static descriptor_t create(struct graph *g, cudnnBackendDescriptorType_t type)
{
    descriptor_t d = NULL;
    if (g->status != CUDNN_STATUS_SUCCESS) return NULL;
    if (g->plan->n_descriptors == CUDNN_GRAPH_DESCRIPTORS) {
        note(g, "the graph", CUDNN_STATUS_NOT_SUPPORTED);
        return NULL;
    }
    note(g, "cudnnBackendCreateDescriptor", g->lib->BackendCreateDescriptor(type, &d));
    if (g->status == CUDNN_STATUS_SUCCESS)
        g->plan->descriptors[g->plan->n_descriptors++] = d;
    return d;
}

static void set(struct graph *g, descriptor_t d, cudnnBackendAttributeName_t name,
                cudnnBackendAttributeType_t type, int64_t n, const void *values)
{
    if (g->status == CUDNN_STATUS_SUCCESS)
        note(g, "cudnnBackendSetAttribute",
             g->lib->BackendSetAttribute(d, name, type, n, values));
}

static void set_descriptor(struct graph *g, descriptor_t d,
                           cudnnBackendAttributeName_t name, descriptor_t value)
{
    set(g, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static void finalize(struct graph *g, descriptor_t d)
{
    if (g->status == CUDNN_STATUS_SUCCESS)
        note(g, "cudnnBackendFinalize", g->lib->BackendFinalize(d));
}

/* ---- tensors ------------------------------------------------------------------------------- */

static cudnnDataType_t number_type(const struct graph *g)
{
    return g->t == DTYPE_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_HALF;
}

static descriptor_t tensor(struct graph *g, int64_t uid, cudnnDataType_t type,
                           const struct shape *s, bool inside, bool by_value)
{
    const int64_t alignment = CUDNN_OPERAND_ALIGN_BYTES;
    descriptor_t d = create(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set(g, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(g, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, s->dims);
    set(g, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, s->strides);
    set(g, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid);
    set(g, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    set(g, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &inside);
    set(g, d, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &by_value);
    finalize(g, d);
    return d;
}

/* Contiguous [B,H,rows,cols]. */
static struct shape contiguous(const struct graph *g, int64_t rows, int64_t cols)
{
    const int64_t H = g->a->H;
    return (struct shape){{g->a->B, H, rows, cols},
                          {H * rows * cols, rows * cols, cols, 1}};
}

/* [B,heads,T,D] in rows of `width` numbers, whose heads are neighbours. */
static struct shape in_rows(const struct graph *g, int64_t heads, int64_t width)
{
    const int64_t T = g->a->T, D = g->a->D;
    return (struct shape){{g->a->B, heads, T, D}, {T * width, D, width, 1}};
}

static struct shape transposed(struct shape s)
{
    return (struct shape){{s.dims[0], s.dims[1], s.dims[3], s.dims[2]},
                          {s.strides[0], s.strides[1], s.strides[3], s.strides[2]}};
}

static int64_t packed_width(const struct graph *g)
{
    return (g->a->H + 2 * g->a->K) * g->a->D;
}

static descriptor_t packed(struct graph *g, enum cudnn_operand uid, int64_t heads)
{
    const struct shape s = in_rows(g, heads, packed_width(g));
    return tensor(g, uid, number_type(g), &s, false, false);
}

static descriptor_t packed_transposed(struct graph *g, enum cudnn_operand uid)
{
    const struct shape s = transposed(in_rows(g, g->a->K, packed_width(g)));
    return tensor(g, uid, number_type(g), &s, false, false);
}

static descriptor_t output(struct graph *g, enum cudnn_operand uid)
{
    const struct shape s = in_rows(g, g->a->H, g->a->H * g->a->D);
    return tensor(g, uid, number_type(g), &s, false, false);
}

/* One fp32 number for each row and head. */
static descriptor_t row_numbers(struct graph *g, enum cudnn_operand uid)
{
    const struct shape s = contiguous(g, g->a->T, 1);
    return tensor(g, uid, CUDNN_DATA_FLOAT, &s, false, false);
}

static descriptor_t constant(struct graph *g, enum cudnn_operand uid)
{
    const struct shape s = {{1, 1, 1, 1}, {1, 1, 1, 1}};
    return tensor(g, uid, CUDNN_DATA_FLOAT, &s, false, true);
}

static descriptor_t inside(struct graph *g, cudnnDataType_t type, struct shape s)
{
    return tensor(g, g->next_uid++, type, &s, true, false);
}

static descriptor_t scores(struct graph *g, cudnnDataType_t type)
{
    return inside(g, type, contiguous(g, g->a->T, g->a->T));
}

static descriptor_t row_inside(struct graph *g)
{
    return inside(g, CUDNN_DATA_FLOAT, contiguous(g, g->a->T, 1));
}

/* ---- operations: each returns what it writes ------------------------------------------------ */

static void operation(struct graph *g, descriptor_t d)
{
    finalize(g, d);
    if (g->n_operations == MAX_OPERATIONS)
        note(g, "the graph", CUDNN_STATUS_NOT_SUPPORTED);
    else
        g->operations[g->n_operations++] = d;
}

static descriptor_t product(struct graph *g, descriptor_t a, descriptor_t b,
                            descriptor_t y)
{
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    descriptor_t how = create(g, CUDNN_BACKEND_MATMUL_DESCRIPTOR);
    set(g, how, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    finalize(g, how);
    descriptor_t d = create(g, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    set_descriptor(g, d, CUDNN_ATTR_OPERATION_MATMUL_ADESC, a);
    set_descriptor(g, d, CUDNN_ATTR_OPERATION_MATMUL_BDESC, b);
    set_descriptor(g, d, CUDNN_ATTR_OPERATION_MATMUL_CDESC, y);
    set_descriptor(g, d, CUDNN_ATTR_OPERATION_MATMUL_DESC, how);
    operation(g, d);
    return y;
}

/* y = mode(x, b, choice); b and choice may be NULL, axis is GEN_INDEX's. */
static descriptor_t pointwise(struct graph *g, cudnnPointwiseMode_t mode, int64_t axis,
                              descriptor_t x, descriptor_t b, descriptor_t choice,
                              descriptor_t y)
{
    const cudnnDataType_t compute =
        mode == CUDNN_POINTWISE_CMP_GE ? CUDNN_DATA_BOOLEAN : CUDNN_DATA_FLOAT;
    descriptor_t how = create(g, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    set(g, how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    set(g, how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    if (mode == CUDNN_POINTWISE_GEN_INDEX)
        set(g, how, CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, 1, &axis);
    finalize(g, how);
    descriptor_t d = create(g, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set_descriptor(g, d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    set_descriptor(g, d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    if (b) set_descriptor(g, d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
    if (choice) set_descriptor(g, d, CUDNN_ATTR_OPERATION_POINTWISE_TDESC, choice);
    set_descriptor(g, d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    operation(g, d);
    return y;
}

static descriptor_t of_two(struct graph *g, cudnnPointwiseMode_t mode, descriptor_t x,
                           descriptor_t b, descriptor_t y)
{
    return pointwise(g, mode, 0, x, b, NULL, y);
}

static descriptor_t of_one(struct graph *g, cudnnPointwiseMode_t mode, descriptor_t x,
                           descriptor_t y)
{
    return pointwise(g, mode, 0, x, NULL, NULL, y);
}

static descriptor_t reduction(struct graph *g, cudnnReduceTensorOp_t how_to,
                              descriptor_t x, descriptor_t y)
{
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    descriptor_t how = create(g, CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
    set(g, how, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1,
        &how_to);
    set(g, how, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    finalize(g, how);
    descriptor_t d = create(g, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
    set_descriptor(g, d, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x);
    set_descriptor(g, d, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y);
    set_descriptor(g, d, CUDNN_ATTR_OPERATION_REDUCTION_DESC, how);
    operation(g, d);
    return y;
}

/* The same numbers in the same places, with rows and columns exchanged by y's strides. */
static descriptor_t reshape(struct graph *g, descriptor_t x, descriptor_t y)
{
    descriptor_t d = create(g, CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
    set_descriptor(g, d, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x);
    set_descriptor(g, d, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y);
    operation(g, d);
    return y;
}

static descriptor_t causal(struct graph *g, descriptor_t s)
{
    descriptor_t row = pointwise(g, CUDNN_POINTWISE_GEN_INDEX, 2, s, NULL, NULL,
                                 scores(g, CUDNN_DATA_INT32));
    descriptor_t col = pointwise(g, CUDNN_POINTWISE_GEN_INDEX, 3, s, NULL, NULL,
                                 scores(g, CUDNN_DATA_INT32));
    descriptor_t seen =
        of_two(g, CUDNN_POINTWISE_CMP_GE, row, col, scores(g, CUDNN_DATA_BOOLEAN));
    return pointwise(g, CUDNN_POINTWISE_BINARY_SELECT, 0, s,
                     constant(g, CUDNN_OPERAND_MASKED), seen,
                     scores(g, CUDNN_DATA_FLOAT));
}

/* ---- plans --------------------------------------------------------------------------------- */

/* Do all runs of an engine give the same bits? */
static bool repeats(struct graph *g, descriptor_t config)
{
    descriptor_t engine = create(g, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    int64_t n = 0;
    if (g->status != CUDNN_STATUS_SUCCESS) return false;
    note(g, "cudnnBackendGetAttribute",
         g->lib->BackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE,
                                     CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &engine));
    if (g->status != CUDNN_STATUS_SUCCESS) return false;
    note(g, "cudnnBackendGetAttribute",
         g->lib->BackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                     CUDNN_TYPE_NUMERICAL_NOTE,
                                     CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &n, notes));
    for (int64_t i = 0; i < n && i < CUDNN_NUMERICAL_NOTE_TYPE_COUNT; i++)
        if (notes[i] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC) return false;
    return g->status == CUDNN_STATUS_SUCCESS;
}

/* A configuration that cannot be finalized is no error: the next one is tried. */
static bool plan_of(struct graph *g, descriptor_t config)
{
    descriptor_t plan = create(g, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    set(g, plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &g->handle);
    set_descriptor(g, plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    if (g->status != CUDNN_STATUS_SUCCESS) return false;
    if (g->lib->BackendFinalize(plan) != CUDNN_STATUS_SUCCESS) return false;
    int64_t n = 0;
    note(g, "cudnnBackendGetAttribute",
         g->lib->BackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                     CUDNN_TYPE_INT64, 1, &n, &g->plan->workspace_bytes));
    if (g->status != CUDNN_STATUS_SUCCESS) return false;
    g->plan->plan = plan;
    return true;
}

static void choose_plan(struct graph *g)
{
    const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    descriptor_t graph = create(g, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(g, graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &g->handle);
    set(g, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
        g->n_operations, g->operations);
    finalize(g, graph);
    descriptor_t ranking = create(g, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    set_descriptor(g, ranking, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    set(g, ranking, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    finalize(g, ranking);
    descriptor_t configs[MAX_CONFIGS];
    for (int i = 0; i < MAX_CONFIGS; i++)
        configs[i] = create(g, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    if (g->status != CUDNN_STATUS_SUCCESS) return;
    int64_t n = 0;
    note(g, "cudnnBackendGetAttribute",
         g->lib->BackendGetAttribute(ranking, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                     CUDNN_TYPE_BACKEND_DESCRIPTOR, MAX_CONFIGS, &n,
                                     configs));
    for (int64_t i = 0; i < n && i < MAX_CONFIGS && !g->plan->plan; i++)
        if (repeats(g, configs[i])) plan_of(g, configs[i]);
}

static bool finish(struct graph *g, char *why, size_t bytes)
{
    choose_plan(g);
    if (g->plan->plan) return true;
    if (g->status == CUDNN_STATUS_SUCCESS)
        snprintf(why, bytes, "it has no engine for this whose results repeat");
    else
        snprintf(why, bytes, "%s: %s", g->failed, g->lib->GetErrorString(g->status));
    cudnn_plan_release(g->plan, g->lib);
    return false;
}

bool cudnn_plan_fwd(struct cudnn_plan *p, const struct cudnn_library *lib,
                    cudnnHandle_t handle, enum dtype t, const struct nn_attention *a,
                    char *why, size_t bytes)
{
    struct graph all = {
        .plan = p, .lib = lib, .handle = handle, .t = t, .a = a, .next_uid = 100};
    struct graph *g = &all;
    const cudnnDataType_t f32 = CUDNN_DATA_FLOAT;

    descriptor_t s = product(g, packed(g, CUDNN_OPERAND_Q, a->H),
                             packed_transposed(g, CUDNN_OPERAND_K), scores(g, f32));
    s = of_two(g, CUDNN_POINTWISE_MUL, s, constant(g, CUDNN_OPERAND_SCALE),
               scores(g, f32));
    s = causal(g, s);
    descriptor_t max = reduction(g, CUDNN_REDUCE_TENSOR_MAX, s, row_inside(g));
    s = of_two(g, CUDNN_POINTWISE_SUB, s, max, scores(g, f32));
    descriptor_t e = of_one(g, CUDNN_POINTWISE_EXP, s, scores(g, f32));
    descriptor_t sum = reduction(g, CUDNN_REDUCE_TENSOR_ADD, e, row_inside(g));
    descriptor_t log = of_one(g, CUDNN_POINTWISE_LOG, sum, row_inside(g));
    of_two(g, CUDNN_POINTWISE_ADD, max, log, row_numbers(g, CUDNN_OPERAND_LSE));
    descriptor_t p_of_v =
        of_two(g, CUDNN_POINTWISE_DIV, e, sum, scores(g, number_type(g)));
    product(g, p_of_v, packed(g, CUDNN_OPERAND_V, a->K), output(g, CUDNN_OPERAND_Y));
    return finish(g, why, bytes);
}

/* The gradient of keys or values: x^T y, summed over the heads that share one. */
static void key_gradient(struct graph *g, descriptor_t x, descriptor_t y,
                         enum cudnn_operand uid)
{
    const int64_t T = g->a->T;
    descriptor_t xt =
        reshape(g, x, inside(g, number_type(g), transposed(contiguous(g, T, T))));
    descriptor_t to = packed(g, uid, g->a->K);
    if (g->a->H == g->a->K) {
        product(g, xt, y, to);
        return;
    }
    descriptor_t each = inside(g, number_type(g), contiguous(g, T, g->a->D));
    reduction(g, CUDNN_REDUCE_TENSOR_ADD, product(g, xt, y, each), to);
}

bool cudnn_plan_bwd(struct cudnn_plan *p, const struct cudnn_library *lib,
                    cudnnHandle_t handle, enum dtype t, const struct nn_attention *a,
                    char *why, size_t bytes)
{
    struct graph all = {
        .plan = p, .lib = lib, .handle = handle, .t = t, .a = a, .next_uid = 100};
    struct graph *g = &all;
    const cudnnDataType_t f32 = CUDNN_DATA_FLOAT;
    descriptor_t q = packed(g, CUDNN_OPERAND_Q, a->H);
    descriptor_t kt = packed_transposed(g, CUDNN_OPERAND_K);
    descriptor_t dy = output(g, CUDNN_OPERAND_DY);
    descriptor_t scale = constant(g, CUDNN_OPERAND_SCALE);

    descriptor_t both = of_two(g, CUDNN_POINTWISE_MUL, dy, output(g, CUDNN_OPERAND_Y),
                               inside(g, f32, contiguous(g, a->T, a->D)));
    descriptor_t sum = reduction(g, CUDNN_REDUCE_TENSOR_ADD, both, row_inside(g));
    descriptor_t delta =
        of_two(g, CUDNN_POINTWISE_MUL, sum, constant(g, CUDNN_OPERAND_ONE),
               row_numbers(g, CUDNN_OPERAND_DELTA)); /* the pattern has dropout here */

    descriptor_t s = product(g, q, kt, scores(g, f32));
    s = of_two(g, CUDNN_POINTWISE_MUL, s, scale, scores(g, f32));
    s = of_two(g, CUDNN_POINTWISE_SUB, s, row_numbers(g, CUDNN_OPERAND_LSE),
               scores(g, f32));
    s = causal(g, s);
    descriptor_t e = of_one(g, CUDNN_POINTWISE_EXP, s, scores(g, f32));
    key_gradient(g, e, dy, CUDNN_OPERAND_DV);

    descriptor_t ds =
        product(g, dy, packed_transposed(g, CUDNN_OPERAND_V), scores(g, f32));
    ds = of_two(g, CUDNN_POINTWISE_SUB, ds, delta, scores(g, f32));
    ds = of_two(g, CUDNN_POINTWISE_MUL, ds, e, scores(g, f32));
    ds = of_two(g, CUDNN_POINTWISE_MUL, ds, scale, scores(g, f32));
    key_gradient(g, ds, q, CUDNN_OPERAND_DK);

    descriptor_t k =
        reshape(g, kt, inside(g, number_type(g), in_rows(g, a->K, packed_width(g))));
    product(g, ds, k, packed(g, CUDNN_OPERAND_DQ, a->H));
    return finish(g, why, bytes);
}

void cudnn_plan_release(struct cudnn_plan *p, const struct cudnn_library *lib)
{
    while (p->n_descriptors > 0)
        lib->BackendDestroyDescriptor(p->descriptors[--p->n_descriptors]);
    *p = (struct cudnn_plan){0};
}

cudnnStatus_t cudnn_plan_run(const struct cudnn_plan *p, const struct cudnn_library *lib,
                             cudnnHandle_t handle, void *const data[CUDNN_OPERANDS],
                             void *workspace)
{
    int64_t uids[CUDNN_OPERANDS], n = 0;
    void *pointers[CUDNN_OPERANDS];
    for (int i = 0; i < CUDNN_OPERANDS; i++) {
        if (!data[i]) continue;
        uids[n] = i;
        pointers[n++] = data[i];
    }
    struct cudnn_plan scrap = {0};
    struct graph g = {.plan = &scrap, .lib = lib};
    descriptor_t d = create(&g, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    set(&g, d, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n, uids);
    set(&g, d, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n, pointers);
    set(&g, d, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    finalize(&g, d);
    if (g.status == CUDNN_STATUS_SUCCESS)
        note(&g, "cudnnBackendExecute", lib->BackendExecute(handle, p->plan, d));
    cudnn_plan_release(&scrap, lib);
    return g.status;
}
