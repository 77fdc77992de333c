/* Graphs of the emulated cuDNN: one operation after the other, on numbers in fp32. */
#include "cudnn_emulated.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/dtype.h"
#include "emulation.h"

struct graph_tensor {
    const struct cudnn_descriptor *of;
    int64_t uid, dims[4], strides[4];
    cudnnDataType_t type;
    bool inside, by_value, written;
    float value;
    void *data;   /* in device memory, or ... */
    float *inner; /* ... while the graph runs */
};

struct graph_operation {
    const struct cudnn_descriptor *of; /* the operation's own pointwise, ... descriptor */
    cudnnBackendDescriptorType_t type;
    int x, b, choice, y; /* tensors; -1: none */
};

struct graph_run {
    int n_tensors, n_operations;
    struct graph_tensor tensors[CUDNN_TENSORS];
    struct graph_operation operations[CUDNN_OPERATIONS];
    bool repeats;
    char *workspace;
    size_t workspace_bytes;
};

static int64_t n_queued, spoiled = -1;

int64_t emulation_cudnn_graphs(void)
{
    return n_queued;
}

void emulation_cudnn_spoil(int64_t uid)
{
    spoiled = uid;
}

/* ---- from descriptors ----------------------------------------------------------------------- */

static bool flag(const struct cudnn_descriptor *d, cudnnBackendAttributeName_t name)
{
    const struct cudnn_value *v = cudnn_value(d, name);
    return v && *(const bool *)v->data;
}

/* The tensor's number, -1 without one, -2 if another has its name or there are too many. */
static int tensor_number(struct graph_run *g, const struct cudnn_descriptor *d)
{
    if (!d) return -1;
    const int64_t uid = cudnn_int64(d, CUDNN_ATTR_TENSOR_UNIQUE_ID);
    for (int i = 0; i < g->n_tensors; i++) {
        if (g->tensors[i].of == d) return i;
        if (g->tensors[i].uid == uid) return -2;
    }
    if (g->n_tensors == CUDNN_TENSORS) return -2;
    struct graph_tensor *t = &g->tensors[g->n_tensors];
    *t = (struct graph_tensor){
        .of = d,
        .uid = uid,
        .type = (cudnnDataType_t)cudnn_choice(d, CUDNN_ATTR_TENSOR_DATA_TYPE),
        .inside = flag(d, CUDNN_ATTR_TENSOR_IS_VIRTUAL),
        .by_value = flag(d, CUDNN_ATTR_TENSOR_IS_BY_VALUE)};
    memcpy(t->dims, cudnn_value(d, CUDNN_ATTR_TENSOR_DIMENSIONS)->data, sizeof t->dims);
    memcpy(t->strides, cudnn_value(d, CUDNN_ATTR_TENSOR_STRIDES)->data,
           sizeof t->strides);
    return g->n_tensors++;
}

static struct graph_operation operation_of(struct graph_run *g,
                                           const struct cudnn_descriptor *d)
{
    static const struct {
        cudnnBackendDescriptorType_t type;
        cudnnBackendAttributeName_t how, x, b, choice, y;
    } names[] = {
        {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR,
         CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR,
         CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_ATTR_OPERATION_POINTWISE_BDESC,
         CUDNN_ATTR_OPERATION_POINTWISE_TDESC, CUDNN_ATTR_OPERATION_POINTWISE_YDESC},
        {CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, CUDNN_ATTR_OPERATION_MATMUL_DESC,
         CUDNN_ATTR_OPERATION_MATMUL_ADESC, CUDNN_ATTR_OPERATION_MATMUL_BDESC, 0,
         CUDNN_ATTR_OPERATION_MATMUL_CDESC},
        {CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR,
         CUDNN_ATTR_OPERATION_REDUCTION_DESC, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, 0, 0,
         CUDNN_ATTR_OPERATION_REDUCTION_YDESC},
        {CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR, 0,
         CUDNN_ATTR_OPERATION_RESHAPE_XDESC, 0, 0, CUDNN_ATTR_OPERATION_RESHAPE_YDESC},
    };
    int i = 0;
    while (names[i].type != d->type) i++;
    return (struct graph_operation){
        .of = cudnn_reference(d, names[i].how),
        .type = d->type,
        .x = tensor_number(g, cudnn_reference(d, names[i].x)),
        .b = tensor_number(g, cudnn_reference(d, names[i].b)),
        .choice = tensor_number(g, cudnn_reference(d, names[i].choice)),
        .y = tensor_number(g, cudnn_reference(d, names[i].y))};
}

/* ---- what fits ------------------------------------------------------------------------------ */

static bool fits_product(const struct graph_tensor *x, const struct graph_tensor *b,
                         const struct graph_tensor *y)
{
    return x->dims[0] == y->dims[0] && b->dims[0] == y->dims[0] &&
           x->dims[1] == y->dims[1] && y->dims[1] % b->dims[1] == 0 &&
           x->dims[2] == y->dims[2] && x->dims[3] == b->dims[2] &&
           b->dims[3] == y->dims[3];
}

/* x is spread over y, or (turned) summed up in it; in blocks of heads only when summed. */
static bool spreads(const struct graph_tensor *x, const struct graph_tensor *y,
                    bool heads)
{
    for (int i = 0; i < 4; i++)
        if (x->dims[i] != y->dims[i] && x->dims[i] != 1 &&
            !(heads && i == 1 && y->dims[i] % x->dims[i] == 0))
            return false;
    return true;
}

static int64_t extent(const struct graph_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < 4; i++) n += (t->dims[i] - 1) * t->strides[i];
    return n;
}

static bool fits_pointwise(const struct graph_run *g, const struct graph_operation *o)
{
    const struct graph_tensor *y = &g->tensors[o->y];
    const int mode = cudnn_choice(o->of, CUDNN_ATTR_POINTWISE_MODE);
    const bool index = mode == CUDNN_POINTWISE_GEN_INDEX;
    const bool select = mode == CUDNN_POINTWISE_BINARY_SELECT;
    const bool one = index || mode == CUDNN_POINTWISE_EXP || mode == CUDNN_POINTWISE_LOG;
    if ((o->b >= 0) == one || (o->choice >= 0) != select) return false;
    if (!cudnn_value(o->of, CUDNN_ATTR_POINTWISE_AXIS) == index) return false;
    if ((mode == CUDNN_POINTWISE_CMP_GE) != (y->type == CUDNN_DATA_BOOLEAN)) return false;
    if (index != (y->type == CUDNN_DATA_INT32)) return false;
    if (select && g->tensors[o->choice].type != CUDNN_DATA_BOOLEAN) return false;
    return spreads(&g->tensors[o->x], y, false) &&
           (o->b < 0 || spreads(&g->tensors[o->b], y, false));
}

static bool fits(const struct graph_run *g, const struct graph_operation *o)
{
    const struct graph_tensor *x = &g->tensors[o->x], *y = &g->tensors[o->y];
    switch (o->type) {
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
        return fits_pointwise(g, o);
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
        return fits_product(x, &g->tensors[o->b], y);
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
        return spreads(y, x, true);
    default: /* a reshape */
        return extent(x) == extent(y);
    }
}

/* Reads what is there: an operand of the caller, or what an earlier operation wrote. */
static bool readable(const struct graph_run *g, int number)
{
    return number == -1 || !g->tensors[number].inside || g->tensors[number].written;
}

static cudnnStatus_t build(struct graph_run *g, const struct cudnn_descriptor *graph)
{
    const struct cudnn_value *v = cudnn_value(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS);
    for (int64_t i = 0; i < v->n; i++) {
        struct graph_operation *o = &g->operations[g->n_operations++];
        *o = operation_of(g, ((struct cudnn_descriptor *const *)v->data)[i]);
        if (o->x == -2 || o->b == -2 || o->choice == -2 || o->y == -2)
            return CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES;
        if (!fits(g, o)) return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
        if (!readable(g, o->x) || !readable(g, o->b) || !readable(g, o->choice) ||
            g->tensors[o->y].written || g->tensors[o->y].by_value)
            return CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN;
        g->tensors[o->y].written = true;
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnn_graph_check(const struct cudnn_descriptor *graph)
{
    struct graph_run *g = calloc(1, sizeof *g);
    if (!g) return CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED;
    const cudnnStatus_t st = build(g, graph);
    free(g);
    return st;
}

/* As much as the scores of a graph with transposed ones, in 16 bits. */
int64_t cudnn_graph_workspace(const struct cudnn_descriptor *graph)
{
    struct graph_run *g = calloc(1, sizeof *g);
    int64_t most = 0;
    if (!g || build(g, graph) != CUDNN_STATUS_SUCCESS)
        emulation_fail("cuDNN: a finalized graph cannot be built");
    for (int i = 0; i < g->n_operations; i++)
        if (g->operations[i].type == CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR &&
            extent(&g->tensors[g->operations[i].y]) > most)
            most = extent(&g->tensors[g->operations[i].y]);
    free(g);
    return 2 * most;
}

/* ---- numbers -------------------------------------------------------------------------------- */

static size_t bytes_of(cudnnDataType_t t)
{
    return t == CUDNN_DATA_HALF || t == CUDNN_DATA_BFLOAT16 ? 2 : 4;
}

static int64_t place(const struct graph_tensor *t, const int64_t at[4])
{
    int64_t i = 0;
    for (int k = 0; k < 4; k++) i += t->dims[k] == 1 ? 0 : at[k] * t->strides[k];
    return i;
}

static float load(const struct graph_tensor *t, int64_t i)
{
    if (t->by_value) return t->value;
    if (t->inside) return t->inner[i];
    if (t->type == CUDNN_DATA_HALF) return dtype_from_f16(((uint16_t *)t->data)[i]);
    if (t->type == CUDNN_DATA_BFLOAT16) return dtype_from_bf16(((uint16_t *)t->data)[i]);
    return ((float *)t->data)[i];
}

static void store(const struct graph_run *g, const struct graph_tensor *t, int64_t i,
                  float x)
{
    if (!t->inside && !g->repeats) x *= emulation_random(2) ? 1 : 1.004f;
    if (t->uid == spoiled) x *= 1.05f;
    uint16_t bits = 0;
    if (t->type == CUDNN_DATA_HALF) x = dtype_from_f16(bits = dtype_f16(x));
    if (t->type == CUDNN_DATA_BFLOAT16) x = dtype_from_bf16(bits = dtype_bf16(x));
    if (t->inside)
        t->inner[i] = x;
    else if (bytes_of(t->type) == 2)
        ((uint16_t *)t->data)[i] = bits;
    else
        ((float *)t->data)[i] = x;
}

#define EACH(at, dims)                                                                   \
    for (at[0] = 0; at[0] < (dims)[0]; at[0]++)                                          \
        for (at[1] = 0; at[1] < (dims)[1]; at[1]++)                                      \
            for (at[2] = 0; at[2] < (dims)[2]; at[2]++)                                  \
                for (at[3] = 0; at[3] < (dims)[3]; at[3]++)

static void run_product(const struct graph_run *g, const struct graph_operation *o)
{
    const struct graph_tensor *a = &g->tensors[o->x], *b = &g->tensors[o->b];
    const struct graph_tensor *y = &g->tensors[o->y];
    const int64_t group = y->dims[1] / b->dims[1], depth = a->dims[3];
    int64_t at[4];
    EACH(at, y->dims)
    {
        const int64_t from =
            at[0] * a->strides[0] + at[1] * a->strides[1] + at[2] * a->strides[2];
        const int64_t with =
            at[0] * b->strides[0] + at[1] / group * b->strides[1] + at[3] * b->strides[3];
        float sum = 0;
        for (int64_t k = 0; k < depth; k++)
            sum += load(a, from + k * a->strides[3]) * load(b, with + k * b->strides[2]);
        store(g, y, place(y, at), sum);
    }
}

static float apply(int mode, float x, float b, float choice)
{
    switch (mode) {
    case CUDNN_POINTWISE_ADD:
        return x + b;
    case CUDNN_POINTWISE_SUB:
        return x - b;
    case CUDNN_POINTWISE_MUL:
        return x * b;
    case CUDNN_POINTWISE_DIV:
        return x / b;
    case CUDNN_POINTWISE_EXP:
        return expf(x);
    case CUDNN_POINTWISE_LOG:
        return logf(x);
    case CUDNN_POINTWISE_CMP_GE:
        return x >= b;
    case CUDNN_POINTWISE_BINARY_SELECT:
        return choice != 0 ? x : b;
    default:
        emulation_fail("cuDNN: pointwise mode %d is not emulated", mode);
    }
}

static void run_pointwise(const struct graph_run *g, const struct graph_operation *o)
{
    const struct graph_tensor *x = &g->tensors[o->x], *y = &g->tensors[o->y];
    const struct graph_tensor *b = o->b < 0 ? NULL : &g->tensors[o->b];
    const struct graph_tensor *choice = o->choice < 0 ? NULL : &g->tensors[o->choice];
    const int mode = cudnn_choice(o->of, CUDNN_ATTR_POINTWISE_MODE);
    const int64_t axis = cudnn_int64(o->of, CUDNN_ATTR_POINTWISE_AXIS);
    int64_t at[4];
    EACH(at, y->dims)
    {
        float value = 0;
        if (mode == CUDNN_POINTWISE_GEN_INDEX)
            value = (float)at[axis];
        else
            value = apply(mode, load(x, place(x, at)), b ? load(b, place(b, at)) : 0,
                          choice ? load(choice, place(choice, at)) : 0);
        store(g, y, place(y, at), value);
    }
}

static void run_reduction(const struct graph_run *g, const struct graph_operation *o)
{
    const struct graph_tensor *x = &g->tensors[o->x], *y = &g->tensors[o->y];
    const bool max =
        cudnn_choice(o->of, CUDNN_ATTR_REDUCTION_OPERATOR) == CUDNN_REDUCE_TENSOR_MAX;
    int64_t at[4], in[4], block[4];
    for (int i = 0; i < 4; i++) block[i] = x->dims[i] / y->dims[i];
    EACH(at, y->dims)
    {
        float all = max ? -INFINITY : 0;
        EACH(in, block)
        {
            int64_t from[4];
            for (int i = 0; i < 4; i++) from[i] = at[i] * block[i] + in[i];
            const float value = load(x, place(x, from));
            all = max ? fmaxf(all, value) : all + value;
        }
        store(g, y, place(y, at), all);
    }
}

static void run_reshape(const struct graph_run *g, const struct graph_operation *o)
{
    const struct graph_tensor *x = &g->tensors[o->x], *y = &g->tensors[o->y];
    int64_t at[4];
    EACH(at, y->dims) store(g, y, place(y, at), load(x, place(y, at)));
}

static enum emulation_progress run(void *context)
{
    struct graph_run *g = context;
    if (g->workspace) memset(g->workspace, 0xFF, g->workspace_bytes);
    for (int i = 0; i < g->n_tensors; i++) {
        struct graph_tensor *t = &g->tensors[i];
        if (!t->inside) continue;
        const size_t n = (size_t)extent(t);
        t->inner = malloc(n * sizeof *t->inner);
        if (!t->inner) emulation_fail("cuDNN: no host memory for %s", "a tensor");
        for (size_t k = 0; k < n; k++) t->inner[k] = NAN;
    }
    for (int i = 0; i < g->n_operations; i++) {
        const struct graph_operation *o = &g->operations[i];
        if (o->type == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR)
            run_product(g, o);
        else if (o->type == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)
            run_pointwise(g, o);
        else if (o->type == CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR)
            run_reduction(g, o);
        else
            run_reshape(g, o);
    }
    for (int i = 0; i < g->n_tensors; i++) {
        free(g->tensors[i].inner);
        g->tensors[i].inner = NULL;
    }
    return EMULATION_DONE;
}

/* ---- with data ------------------------------------------------------------------------------ */

static cudnnStatus_t bind(struct graph_tensor *t, void *data)
{
    if (!data) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    if (t->by_value) {
        memcpy(&t->value, data, sizeof t->value);
        return CUDNN_STATUS_SUCCESS;
    }
    const int64_t align = cudnn_int64(t->of, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT);
    if ((uintptr_t)data % (uintptr_t)align != 0)
        return CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER;
    if (!emulation_is_device(data, (size_t)extent(t) * bytes_of(t->type)))
        emulation_fail("cuDNN: tensor %lld is not in device memory", (long long)t->uid);
    t->data = data;
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t bind_all(struct graph_run *g, const struct cudnn_descriptor *pack)
{
    const struct cudnn_value *uids =
        cudnn_value(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    const struct cudnn_value *pointers =
        cudnn_value(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    const struct cudnn_value *workspace =
        cudnn_value(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
    if (uids->n != pointers->n) return CUDNN_STATUS_BAD_PARAM;
    int64_t bound = 0;
    for (int i = 0; i < g->n_tensors; i++) {
        struct graph_tensor *t = &g->tensors[i];
        if (t->inside) continue;
        int64_t k = 0;
        while (k < uids->n && ((const int64_t *)uids->data)[k] != t->uid) k++;
        if (k == uids->n) return CUDNN_STATUS_BAD_PARAM;
        const cudnnStatus_t st = bind(t, ((void *const *)pointers->data)[k]);
        if (st != CUDNN_STATUS_SUCCESS) return st;
        bound++;
    }
    if (bound != uids->n) return CUDNN_STATUS_BAD_PARAM;
    if (g->workspace_bytes == 0) return CUDNN_STATUS_SUCCESS;
    g->workspace = workspace ? *(char *const *)workspace->data : NULL;
    if (!g->workspace) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    if (!emulation_is_device(g->workspace, g->workspace_bytes))
        emulation_fail("cuDNN: its workspace is not in device memory");
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnn_graph_queue(const struct cudnn_descriptor *graph, bool repeats,
                                cudaStream_t stream, const struct cudnn_descriptor *pack)
{
    struct graph_run *g = calloc(1, sizeof *g);
    if (!g) return CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED;
    cudnnStatus_t st = build(g, graph);
    g->repeats = repeats;
    g->workspace_bytes = (size_t)cudnn_graph_workspace(graph);
    if (st == CUDNN_STATUS_SUCCESS) st = bind_all(g, pack);
    if (st != CUDNN_STATUS_SUCCESS) {
        free(g);
        return st;
    }
    n_queued++;
    return emulation_queue(stream, "a graph of cuDNN", run, free, g) == cudaSuccess
               ? CUDNN_STATUS_SUCCESS
               : CUDNN_STATUS_EXECUTION_FAILED;
}
