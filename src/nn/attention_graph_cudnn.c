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

#include "core/arena.h"

enum { WORKSPACE_ALIGN_BYTES = 256 };

struct attention_graph {
    struct graph g;
    cudnnDataType_t type;
    const struct nn_attention *a;
    int64_t next_uid; /* of tensors that exist only inside */
};

/* ---- tensors --------------------------------------------------------------------------------- */

/* Contiguous [B,H,rows,cols]. */
static struct graph_shape contiguous(const struct attention_graph *g, int64_t rows,
                                     int64_t cols)
{
    const int64_t H = g->a->H;
    return (struct graph_shape){{g->a->B, H, rows, cols},
                                {H * rows * cols, rows * cols, cols, 1}};
}

/* [B,heads,T,D] in rows of `width` numbers, whose heads are neighbours. */
static struct graph_shape in_rows(const struct attention_graph *g, int64_t heads,
                                  int64_t width)
{
    const int64_t T = g->a->T, D = g->a->D;
    return (struct graph_shape){{g->a->B, heads, T, D}, {T * width, D, width, 1}};
}

static struct graph_shape transposed(struct graph_shape s)
{
    return (struct graph_shape){{s.dims[0], s.dims[1], s.dims[3], s.dims[2]},
                                {s.strides[0], s.strides[1], s.strides[3], s.strides[2]}};
}

static int64_t packed_width(const struct attention_graph *g)
{
    return (g->a->H + 2 * g->a->K) * g->a->D;
}

static descriptor_t packed(struct attention_graph *g, enum cudnn_operand uid,
                           int64_t heads)
{
    const struct graph_shape s = in_rows(g, heads, packed_width(g));
    return graph_tensor(&g->g, uid, g->type, s, GRAPH_IN_MEMORY);
}

static descriptor_t packed_transposed(struct attention_graph *g, enum cudnn_operand uid)
{
    const struct graph_shape s = transposed(in_rows(g, g->a->K, packed_width(g)));
    return graph_tensor(&g->g, uid, g->type, s, GRAPH_IN_MEMORY);
}

static descriptor_t output(struct attention_graph *g, enum cudnn_operand uid)
{
    const struct graph_shape s = in_rows(g, g->a->H, g->a->H * g->a->D);
    return graph_tensor(&g->g, uid, g->type, s, GRAPH_IN_MEMORY);
}

/* One fp32 number for each row and head. */
static descriptor_t row_numbers(struct attention_graph *g, enum cudnn_operand uid)
{
    const struct graph_shape s = contiguous(g, g->a->T, 1);
    return graph_tensor(&g->g, uid, CUDNN_DATA_FLOAT, s, GRAPH_IN_MEMORY);
}

static descriptor_t constant(struct attention_graph *g, enum cudnn_operand uid)
{
    const struct graph_shape s = {{1, 1, 1, 1}, {1, 1, 1, 1}};
    return graph_tensor(&g->g, uid, CUDNN_DATA_FLOAT, s, GRAPH_BY_VALUE);
}

static descriptor_t inside(struct attention_graph *g, cudnnDataType_t type,
                           struct graph_shape s)
{
    return graph_tensor(&g->g, g->next_uid++, type, s, GRAPH_INSIDE);
}

static descriptor_t scores(struct attention_graph *g, cudnnDataType_t type)
{
    return inside(g, type, contiguous(g, g->a->T, g->a->T));
}

static descriptor_t row_inside(struct attention_graph *g)
{
    return inside(g, CUDNN_DATA_FLOAT, contiguous(g, g->a->T, 1));
}

/* ---- operations ------------------------------------------------------------------------------ */

static descriptor_t of_two(struct attention_graph *g, cudnnPointwiseMode_t mode,
                           descriptor_t x, descriptor_t b, descriptor_t y)
{
    return graph_pointwise(&g->g, mode, 0, x, b, NULL, y);
}

static descriptor_t of_one(struct attention_graph *g, cudnnPointwiseMode_t mode,
                           descriptor_t x, descriptor_t y)
{
    return graph_pointwise(&g->g, mode, 0, x, NULL, NULL, y);
}

static descriptor_t causal(struct attention_graph *g, descriptor_t s)
{
    descriptor_t row = graph_pointwise(&g->g, CUDNN_POINTWISE_GEN_INDEX, 2, s, NULL, NULL,
                                       scores(g, CUDNN_DATA_INT32));
    descriptor_t col = graph_pointwise(&g->g, CUDNN_POINTWISE_GEN_INDEX, 3, s, NULL, NULL,
                                       scores(g, CUDNN_DATA_INT32));
    descriptor_t seen =
        of_two(g, CUDNN_POINTWISE_CMP_GE, row, col, scores(g, CUDNN_DATA_BOOLEAN));
    return graph_pointwise(&g->g, CUDNN_POINTWISE_BINARY_SELECT, 0, s,
                           constant(g, CUDNN_OPERAND_MASKED), seen,
                           scores(g, CUDNN_DATA_FLOAT));
}

/* ---- plans ----------------------------------------------------------------------------------- */

static struct attention_graph begin(const struct cudnn_attention *c, struct cudnn_plan *p)
{
    return (struct attention_graph){.g = {.plan = p, .lib = c->lib, .handle = c->handle},
                                    .type = c->t == DTYPE_BF16 ? CUDNN_DATA_BFLOAT16
                                                               : CUDNN_DATA_HALF,
                                    .a = &c->a,
                                    .next_uid = 100};
}

bool cudnn_attention_plan_fwd(struct cudnn_attention *c, char *why, size_t bytes)
{
    struct attention_graph all = begin(c, &c->fwd), *g = &all;
    const struct nn_attention *a = &c->a;
    const cudnnDataType_t f32 = CUDNN_DATA_FLOAT;

    descriptor_t s = graph_product(&g->g, packed(g, CUDNN_OPERAND_Q, a->H),
                                   packed_transposed(g, CUDNN_OPERAND_K), scores(g, f32));
    s = of_two(g, CUDNN_POINTWISE_MUL, s, constant(g, CUDNN_OPERAND_SCALE),
               scores(g, f32));
    s = causal(g, s);
    descriptor_t max = graph_reduction(&g->g, CUDNN_REDUCE_TENSOR_MAX, s, row_inside(g));
    s = of_two(g, CUDNN_POINTWISE_SUB, s, max, scores(g, f32));
    descriptor_t e = of_one(g, CUDNN_POINTWISE_EXP, s, scores(g, f32));
    descriptor_t sum = graph_reduction(&g->g, CUDNN_REDUCE_TENSOR_ADD, e, row_inside(g));
    descriptor_t log = of_one(g, CUDNN_POINTWISE_LOG, sum, row_inside(g));
    of_two(g, CUDNN_POINTWISE_ADD, max, log, row_numbers(g, CUDNN_OPERAND_LSE));
    descriptor_t p_of_v = of_two(g, CUDNN_POINTWISE_DIV, e, sum, scores(g, g->type));
    graph_product(&g->g, p_of_v, packed(g, CUDNN_OPERAND_V, a->K),
                  output(g, CUDNN_OPERAND_Y));
    return graph_plan(&g->g, why, bytes);
}

/* The gradient of keys or values: x^T y, summed over the heads that share one. */
static void key_gradient(struct attention_graph *g, descriptor_t x, descriptor_t y,
                         enum cudnn_operand uid)
{
    const int64_t T = g->a->T;
    descriptor_t xt =
        graph_reshape(&g->g, x, inside(g, g->type, transposed(contiguous(g, T, T))));
    descriptor_t to = packed(g, uid, g->a->K);
    if (g->a->H == g->a->K) {
        graph_product(&g->g, xt, y, to);
        return;
    }
    descriptor_t each = inside(g, g->type, contiguous(g, T, g->a->D));
    graph_reduction(&g->g, CUDNN_REDUCE_TENSOR_ADD, graph_product(&g->g, xt, y, each),
                    to);
}

bool cudnn_attention_plan_bwd(struct cudnn_attention *c, char *why, size_t bytes)
{
    struct attention_graph all = begin(c, &c->bwd), *g = &all;
    const struct nn_attention *a = &c->a;
    const cudnnDataType_t f32 = CUDNN_DATA_FLOAT;
    descriptor_t q = packed(g, CUDNN_OPERAND_Q, a->H);
    descriptor_t kt = packed_transposed(g, CUDNN_OPERAND_K);
    descriptor_t dy = output(g, CUDNN_OPERAND_DY);
    descriptor_t scale = constant(g, CUDNN_OPERAND_SCALE);

    descriptor_t both = of_two(g, CUDNN_POINTWISE_MUL, dy, output(g, CUDNN_OPERAND_Y),
                               inside(g, f32, contiguous(g, a->T, a->D)));
    descriptor_t sum =
        graph_reduction(&g->g, CUDNN_REDUCE_TENSOR_ADD, both, row_inside(g));
    descriptor_t delta =
        of_two(g, CUDNN_POINTWISE_MUL, sum, constant(g, CUDNN_OPERAND_ONE),
               row_numbers(g, CUDNN_OPERAND_DELTA)); /* the pattern has dropout here */

    descriptor_t s = graph_product(&g->g, q, kt, scores(g, f32));
    s = of_two(g, CUDNN_POINTWISE_MUL, s, scale, scores(g, f32));
    s = of_two(g, CUDNN_POINTWISE_SUB, s, row_numbers(g, CUDNN_OPERAND_LSE),
               scores(g, f32));
    s = causal(g, s);
    descriptor_t e = of_one(g, CUDNN_POINTWISE_EXP, s, scores(g, f32));
    key_gradient(g, e, dy, CUDNN_OPERAND_DV);

    descriptor_t ds =
        graph_product(&g->g, dy, packed_transposed(g, CUDNN_OPERAND_V), scores(g, f32));
    ds = of_two(g, CUDNN_POINTWISE_SUB, ds, delta, scores(g, f32));
    ds = of_two(g, CUDNN_POINTWISE_MUL, ds, e, scores(g, f32));
    ds = of_two(g, CUDNN_POINTWISE_MUL, ds, scale, scores(g, f32));
    key_gradient(g, ds, q, CUDNN_OPERAND_DK);

    descriptor_t k =
        graph_reshape(&g->g, kt, inside(g, g->type, in_rows(g, a->K, packed_width(g))));
    graph_product(&g->g, ds, k, packed(g, CUDNN_OPERAND_DQ, a->H));
    return graph_plan(&g->g, why, bytes);
}

/* ---- running them ---------------------------------------------------------------------------- */

/* delta, and then the workspace */
static size_t delta_bytes(const struct nn_attention *a)
{
    return arena_align((size_t)(a->B * a->H * a->T) * sizeof(float));
}

size_t cudnn_attention_scratch_bytes(const struct cudnn_attention *c,
                                     const struct cudnn_plan *p)
{
    return delta_bytes(&c->a) + WORKSPACE_ALIGN_BYTES + (size_t)p->workspace_bytes;
}

cudnnStatus_t cudnn_attention_run(const struct cudnn_attention *c,
                                  const struct cudnn_plan *p, cudaStream_t stream,
                                  const struct attention_arrays *x, char *scratch)
{
    const struct nn_attention *a = &c->a;
    _Alignas(GRAPH_ALIGN_BYTES) float scale = a->scale;
    _Alignas(GRAPH_ALIGN_BYTES) float masked = -INFINITY;
    _Alignas(GRAPH_ALIGN_BYTES) float one = 1;
    const int64_t bytes = (int64_t)dtype_bytes(c->t);
    const int64_t to_k = a->H * a->D * bytes, to_v = to_k + a->K * a->D * bytes;
    char *const qkv = (char *)(uintptr_t)x->qkv; /* cuDNN's pointers are not const */
    void *data[CUDNN_OPERANDS] = {
        [CUDNN_OPERAND_Q] = qkv,          [CUDNN_OPERAND_K] = qkv + to_k,
        [CUDNN_OPERAND_V] = qkv + to_v,   [CUDNN_OPERAND_Y] = x->y,
        [CUDNN_OPERAND_LSE] = x->lse,     [CUDNN_OPERAND_SCALE] = &scale,
        [CUDNN_OPERAND_MASKED] = &masked,
    };
    if (p == &c->bwd) {
        data[CUDNN_OPERAND_DQ] = x->dqkv;
        data[CUDNN_OPERAND_DK] = x->dqkv + to_k;
        data[CUDNN_OPERAND_DV] = x->dqkv + to_v;
        data[CUDNN_OPERAND_DY] = (char *)(uintptr_t)x->dy;
        data[CUDNN_OPERAND_DELTA] = scratch;
        data[CUDNN_OPERAND_ONE] = &one;
    }
    uintptr_t workspace = (uintptr_t)scratch + delta_bytes(a) + WORKSPACE_ALIGN_BYTES - 1;
    workspace -= workspace % WORKSPACE_ALIGN_BYTES;
    const cudnnStatus_t st = c->lib->SetStream(c->handle, stream);
    if (st != CUDNN_STATUS_SUCCESS) return st;
    return cudnn_plan_run(p, c->lib, c->handle, data, CUDNN_OPERANDS, (void *)workspace);
}
