/* attention_graph_cudnn - attention as graphs of cuDNN's. */
#pragma once

#include "core/dtype.h"
#include "nn/graph_cudnn.h"
#include "nn/nn.h"

/* The tensors that a caller hands over, each [B, heads, T, D or 1]. */
enum cudnn_operand {
    CUDNN_OPERAND_Q = 1,
    CUDNN_OPERAND_K,
    CUDNN_OPERAND_V,
    CUDNN_OPERAND_Y,
    CUDNN_OPERAND_LSE,
    CUDNN_OPERAND_DQ,
    CUDNN_OPERAND_DK,
    CUDNN_OPERAND_DV,
    CUDNN_OPERAND_DY,
    CUDNN_OPERAND_DELTA, /* fp32, one a row and head, written and read by backward */
    CUDNN_OPERAND_SCALE, /* from here on: floats in host memory, read during the call */
    CUDNN_OPERAND_MASKED,
    CUDNN_OPERAND_ONE,
    CUDNN_OPERANDS
};

/* One shape of attention on one device. */
struct cudnn_attention {
    const struct cudnn_library *lib;
    cudnnHandle_t handle;
    enum dtype t;
    struct nn_attention a;
    struct cudnn_plan fwd, bwd; /* not there: the kernels' */
};

/* Make c->fwd, or c->bwd, for q, k, v (and their gradients) packed as nn.h says; as graph_plan. */
bool cudnn_attention_plan_fwd(struct cudnn_attention *c, char *why, size_t bytes);
bool cudnn_attention_plan_bwd(struct cudnn_attention *c, char *why, size_t bytes);

/* Device memory, aligned to GRAPH_ALIGN_BYTES; forward needs no dy and dqkv. */
struct attention_arrays {
    const char *qkv, *dy;
    char *y, *dqkv;
    float *lse;
};

/* Queue c->fwd or c->bwd. */
cudnnStatus_t cudnn_attention_run(const struct cudnn_attention *c,
                                  const struct cudnn_plan *p, cudaStream_t stream,
                                  const struct attention_arrays *x, char *scratch);
size_t cudnn_attention_scratch_bytes(const struct cudnn_attention *c,
                                     const struct cudnn_plan *p);
