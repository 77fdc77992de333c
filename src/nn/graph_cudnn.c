#include "nn/graph_cudnn.h"

#include <stdio.h>

enum { MAX_CONFIGS = 16, MAX_DATA = 32 };

/* ---- descriptors ----------------------------------------------------------------------------- */

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
    if (g->plan->n_descriptors == GRAPH_DESCRIPTORS) {
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

descriptor_t graph_tensor(struct graph *g, int64_t uid, cudnnDataType_t type,
                          struct graph_shape s, enum graph_place where)
{
    const int64_t alignment = GRAPH_ALIGN_BYTES;
    const bool inside = where == GRAPH_INSIDE, by_value = where == GRAPH_BY_VALUE;
    descriptor_t d = create(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set(g, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(g, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, s.dims);
    set(g, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, s.strides);
    set(g, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid);
    set(g, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    set(g, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &inside);
    set(g, d, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &by_value);
    finalize(g, d);
    return d;
}

/* ---- operations ------------------------------------------------------------------------------ */

static void operation(struct graph *g, descriptor_t d)
{
    finalize(g, d);
    if (g->n_operations == GRAPH_OPERATIONS)
        note(g, "the graph", CUDNN_STATUS_NOT_SUPPORTED);
    else
        g->operations[g->n_operations++] = d;
}

descriptor_t graph_product(struct graph *g, descriptor_t a, descriptor_t b,
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

descriptor_t graph_pointwise(struct graph *g, cudnnPointwiseMode_t mode, int64_t axis,
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

descriptor_t graph_reduction(struct graph *g, cudnnReduceTensorOp_t how_to,
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

descriptor_t graph_reshape(struct graph *g, descriptor_t x, descriptor_t y)
{
    descriptor_t d = create(g, CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
    set_descriptor(g, d, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x);
    set_descriptor(g, d, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y);
    operation(g, d);
    return y;
}

/* ---- plans ----------------------------------------------------------------------------------- */

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

bool graph_plan(struct graph *g, char *why, size_t bytes)
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

void cudnn_plan_release(struct cudnn_plan *p, const struct cudnn_library *lib)
{
    while (p->n_descriptors > 0)
        lib->BackendDestroyDescriptor(p->descriptors[--p->n_descriptors]);
    *p = (struct cudnn_plan){0};
}

cudnnStatus_t cudnn_plan_run(const struct cudnn_plan *p, const struct cudnn_library *lib,
                             cudnnHandle_t handle, void *const *data, int n_data,
                             void *workspace)
{
    int64_t uids[MAX_DATA], n = 0;
    void *pointers[MAX_DATA];
    for (int i = 0; i < n_data; i++) {
        if (!data[i]) continue;
        if (n == MAX_DATA) return CUDNN_STATUS_NOT_SUPPORTED;
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
