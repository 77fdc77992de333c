/* Descriptors of the emulated cuDNN. */
#include "cudnn_emulated.h"

#include <stdlib.h>
#include <string.h>

#include "emulation.h"

struct cudnnContext {
    cudaStream_t stream;
};

size_t cudnnGetVersion(void)
{
    return 91900;
}

const char *cudnnGetErrorString(cudnnStatus_t status)
{
    switch (status) {
    case CUDNN_STATUS_SUCCESS:
        return "CUDNN_STATUS_SUCCESS";
    case CUDNN_STATUS_BAD_PARAM:
        return "CUDNN_STATUS_BAD_PARAM";
    case CUDNN_STATUS_BAD_PARAM_NULL_POINTER:
        return "CUDNN_STATUS_BAD_PARAM_NULL_POINTER";
    case CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER:
        return "CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER";
    case CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED:
        return "CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED";
    case CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH:
        return "CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH";
    case CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES:
        return "CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES";
    case CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE:
        return "CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE";
    case CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE:
        return "CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE";
    case CUDNN_STATUS_NOT_SUPPORTED:
        return "CUDNN_STATUS_NOT_SUPPORTED";
    case CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN:
        return "CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN";
    case CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED:
        return "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED";
    case CUDNN_STATUS_EXECUTION_FAILED:
        return "CUDNN_STATUS_EXECUTION_FAILED";
    }
    return "CUDNN_STATUS_UNKNOWN";
}

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle)
{
    *handle = calloc(1, sizeof **handle);
    return *handle ? CUDNN_STATUS_SUCCESS
                   : CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
    if (!handle) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

/* ---- what attributes there are -------------------------------------------------------------- */

enum { ANY = -1 };

struct rule {
    int descriptor, name, type, min, max; /* elements; min 0: optional */
    int refers; /* to descriptors of this type; ANY: to operations */
};

#define ONE     1, 1
#define TENSOR  CUDNN_TYPE_BACKEND_DESCRIPTOR, ONE, CUDNN_BACKEND_TENSOR_DESCRIPTOR
#define PERHAPS CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, 1, CUDNN_BACKEND_TENSOR_DESCRIPTOR
#define OF(name, ...)                                                                    \
    {                                                                                    \
        CUDNN_BACKEND_##name##_DESCRIPTOR, __VA_ARGS__                                   \
    }

static const struct rule rules[] = {
    OF(TENSOR, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, ONE, 0),
    OF(TENSOR, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, 4, 0),
    OF(TENSOR, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, 4, 0),
    OF(TENSOR, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, ONE, 0),
    OF(TENSOR, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, ONE, 0),
    OF(TENSOR, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 0, 1, 0),
    OF(TENSOR, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 0, 1, 0),
    OF(POINTWISE, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, ONE, 0),
    OF(POINTWISE, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, ONE, 0),
    OF(POINTWISE, CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, 0, 1, 0),
    OF(OPERATION_POINTWISE, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR,
       CUDNN_TYPE_BACKEND_DESCRIPTOR, ONE, CUDNN_BACKEND_POINTWISE_DESCRIPTOR),
    OF(OPERATION_POINTWISE, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, TENSOR),
    OF(OPERATION_POINTWISE, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, PERHAPS),
    OF(OPERATION_POINTWISE, CUDNN_ATTR_OPERATION_POINTWISE_TDESC, PERHAPS),
    OF(OPERATION_POINTWISE, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, TENSOR),
    OF(MATMUL, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, ONE, 0),
    OF(OPERATION_MATMUL, CUDNN_ATTR_OPERATION_MATMUL_ADESC, TENSOR),
    OF(OPERATION_MATMUL, CUDNN_ATTR_OPERATION_MATMUL_BDESC, TENSOR),
    OF(OPERATION_MATMUL, CUDNN_ATTR_OPERATION_MATMUL_CDESC, TENSOR),
    OF(OPERATION_MATMUL, CUDNN_ATTR_OPERATION_MATMUL_DESC, CUDNN_TYPE_BACKEND_DESCRIPTOR,
       ONE, CUDNN_BACKEND_MATMUL_DESCRIPTOR),
    OF(REDUCTION, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, ONE,
       0),
    OF(REDUCTION, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, ONE, 0),
    OF(OPERATION_REDUCTION, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, TENSOR),
    OF(OPERATION_REDUCTION, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, TENSOR),
    OF(OPERATION_REDUCTION, CUDNN_ATTR_OPERATION_REDUCTION_DESC,
       CUDNN_TYPE_BACKEND_DESCRIPTOR, ONE, CUDNN_BACKEND_REDUCTION_DESCRIPTOR),
    OF(OPERATION_RESHAPE, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, TENSOR),
    OF(OPERATION_RESHAPE, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, TENSOR),
    OF(OPERATIONGRAPH, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, ONE, 0),
    OF(OPERATIONGRAPH, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
       CUDNN_OPERATIONS, ANY),
    OF(ENGINEHEUR, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR,
       ONE, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR),
    OF(ENGINEHEUR, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, ONE, 0),
    OF(EXECUTION_PLAN, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, ONE, 0),
    OF(EXECUTION_PLAN, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG,
       CUDNN_TYPE_BACKEND_DESCRIPTOR, ONE, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR),
    OF(VARIANT_PACK, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 1,
       CUDNN_TENSORS, 0),
    OF(VARIANT_PACK, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 1,
       CUDNN_TENSORS, 0),
    OF(VARIANT_PACK, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 0, 1, 0),
};

enum { N_RULES = sizeof rules / sizeof *rules, N_ENGINES = 3 };

static size_t element_bytes(cudnnBackendAttributeType_t type)
{
    switch (type) {
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
        return sizeof(void *);
    case CUDNN_TYPE_INT64:
        return sizeof(int64_t);
    case CUDNN_TYPE_BOOLEAN:
        return sizeof(bool);
    case CUDNN_TYPE_DATA_TYPE:
    case CUDNN_TYPE_HEUR_MODE:
    case CUDNN_TYPE_NUMERICAL_NOTE:
    case CUDNN_TYPE_POINTWISE_MODE:
    case CUDNN_TYPE_REDUCTION_OPERATOR_TYPE:
        return sizeof(int);
    }
    return 0;
}

/* ---- values --------------------------------------------------------------------------------- */

const struct cudnn_value *cudnn_value(const struct cudnn_descriptor *d,
                                      cudnnBackendAttributeName_t name)
{
    for (int i = 0; i < d->n_values; i++)
        if (d->values[i].name == name) return &d->values[i];
    return NULL;
}

int64_t cudnn_int64(const struct cudnn_descriptor *d, cudnnBackendAttributeName_t name)
{
    const struct cudnn_value *v = cudnn_value(d, name);
    return v ? *(const int64_t *)v->data : 0;
}

int cudnn_choice(const struct cudnn_descriptor *d, cudnnBackendAttributeName_t name)
{
    const struct cudnn_value *v = cudnn_value(d, name);
    return v ? *(const int *)v->data : 0;
}

const struct cudnn_descriptor *cudnn_reference(const struct cudnn_descriptor *d,
                                               cudnnBackendAttributeName_t name)
{
    const struct cudnn_value *v = cudnn_value(d, name);
    return v ? *(struct cudnn_descriptor *const *)v->data : NULL;
}

static bool is_operation(const struct cudnn_descriptor *d)
{
    return d->type == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR ||
           d->type == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR ||
           d->type == CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR ||
           d->type == CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR;
}

static cudnnStatus_t check_references(const struct rule *r, int64_t n, const void *values)
{
    if (r->type != CUDNN_TYPE_BACKEND_DESCRIPTOR) return CUDNN_STATUS_SUCCESS;
    for (int64_t i = 0; i < n; i++) {
        const struct cudnn_descriptor *to = ((struct cudnn_descriptor *const *)values)[i];
        if (!to) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
        if (r->refers == ANY ? !is_operation(to) : (int)to->type != r->refers)
            return CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE;
        if (!to->finalized) return CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED;
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor,
                                       cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t n,
                                       const void *values)
{
    struct cudnn_descriptor *d = descriptor;
    if (!d || !values) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    if (d->finalized) return CUDNN_STATUS_BAD_PARAM;
    const struct rule *r = NULL;
    for (int i = 0; i < N_RULES; i++)
        if (rules[i].descriptor == (int)d->type && rules[i].name == (int)name)
            r = &rules[i];
    if (!r || cudnn_value(d, name) || d->n_values == CUDNN_VALUES)
        return CUDNN_STATUS_BAD_PARAM;
    if ((int)type != r->type) return CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE;
    if (n < (r->min ? r->min : 1) || n > r->max) return CUDNN_STATUS_BAD_PARAM;
    const cudnnStatus_t st = check_references(r, n, values);
    if (st != CUDNN_STATUS_SUCCESS) return st;
    const size_t bytes = (size_t)n * element_bytes(type);
    void *data = malloc(bytes);
    if (!data) return CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED;
    memcpy(data, values, bytes);
    d->values[d->n_values++] = (struct cudnn_value){.name = name, .n = n, .data = data};
    return CUDNN_STATUS_SUCCESS;
}

/* ---- life ----------------------------------------------------------------------------------- */

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                           cudnnBackendDescriptor_t *descriptor)
{
    struct cudnn_descriptor *d = calloc(1, sizeof *d);
    if (!d) return CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED;
    d->type = type;
    *descriptor = d;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor)
{
    struct cudnn_descriptor *d = descriptor;
    for (int i = 0; d && i < d->n_values; i++) free(d->values[i].data);
    free(d);
    return CUDNN_STATUS_SUCCESS;
}

static const struct cudnn_descriptor *plan_config(const struct cudnn_descriptor *plan)
{
    return cudnn_reference(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
}

/* Devices older than sm_90 have no plans, so that the tests that run on several kinds of device run
 * the plug-in's own kernels too. */
static cudnnStatus_t check_plan(const struct cudnn_descriptor *plan)
{
    int device = 0, major = 0;
    if (cudaGetDevice(&device) != cudaSuccess ||
        cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) !=
            cudaSuccess)
        return CUDNN_STATUS_NOT_SUPPORTED;
    if (major < 9) return CUDNN_STATUS_NOT_SUPPORTED;
    return plan_config(plan)->engine == 1 ? CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN
                                          : CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor)
{
    struct cudnn_descriptor *d = descriptor;
    if (!d) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    for (int i = 0; i < N_RULES; i++)
        if (rules[i].descriptor == (int)d->type && rules[i].min > 0 &&
            !cudnn_value(d, (cudnnBackendAttributeName_t)rules[i].name))
            return CUDNN_STATUS_BAD_PARAM;
    cudnnStatus_t st = CUDNN_STATUS_SUCCESS;
    if (d->type == CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR) st = cudnn_graph_check(d);
    if (d->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) st = check_plan(d);
    d->finalized = st == CUDNN_STATUS_SUCCESS;
    return st;
}

/* ---- questions ------------------------------------------------------------------------------ */

/* The caller has made the descriptors that are filled in. */
static cudnnStatus_t give_engine(struct cudnn_descriptor *to, int type,
                                 const struct cudnn_descriptor *graph, int engine)
{
    if (!to || (int)to->type != type) return CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE;
    to->graph = graph;
    to->engine = engine;
    to->finalized = true;
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t give_configs(const struct cudnn_descriptor *d, int64_t requested,
                                  int64_t *n, struct cudnn_descriptor **to)
{
    for (*n = 0; *n < requested && *n < N_ENGINES; (*n)++) {
        const cudnnStatus_t st = give_engine(
            to[*n], CUDNN_BACKEND_ENGINECFG_DESCRIPTOR,
            cudnn_reference(d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH), (int)*n);
        if (st != CUDNN_STATUS_SUCCESS) return st;
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const descriptor,
                                       cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type,
                                       int64_t requested, int64_t *n, void *values)
{
    const struct cudnn_descriptor *d = descriptor;
    if (!d || !values || !n) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    if (!d->finalized) return CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED;
    if (requested < 1) return CUDNN_STATUS_BAD_PARAM;
    *n = 1;
    if (d->type == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR &&
        name == CUDNN_ATTR_ENGINEHEUR_RESULTS && type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
        return give_configs(d, requested, n, values);
    if (d->type == CUDNN_BACKEND_ENGINECFG_DESCRIPTOR &&
        name == CUDNN_ATTR_ENGINECFG_ENGINE && type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
        return give_engine(*(struct cudnn_descriptor **)values,
                           CUDNN_BACKEND_ENGINE_DESCRIPTOR, d->graph, d->engine);
    if (d->type == CUDNN_BACKEND_ENGINE_DESCRIPTOR &&
        name == CUDNN_ATTR_ENGINE_NUMERICAL_NOTE && type == CUDNN_TYPE_NUMERICAL_NOTE) {
        cudnnBackendNumericalNote_t *notes = values;
        notes[0] = CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
        if (d->engine == 0 && requested > 1)
            notes[(*n)++] = CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
        return CUDNN_STATUS_SUCCESS;
    }
    if (d->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR &&
        name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE && type == CUDNN_TYPE_INT64) {
        *(int64_t *)values = cudnn_graph_workspace(plan_config(d)->graph);
        return CUDNN_STATUS_SUCCESS;
    }
    return CUDNN_STATUS_BAD_PARAM;
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t pack)
{
    const struct cudnn_descriptor *p = plan, *data = pack;
    if (!handle || !p || !data) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    if (p->type != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR ||
        data->type != CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)
        return CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE;
    if (!p->finalized || !data->finalized) return CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED;
    const struct cudnn_descriptor *config = plan_config(p);
    return cudnn_graph_queue(config->graph, config->engine != 0, handle->stream, data);
}
