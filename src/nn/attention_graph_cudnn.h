/* attention_graph_cudnn - attention as cuDNN's graphs of operations, and the plans made of them. */
#pragma once

#include <cudnn.h>
#include <stdbool.h>

#include "core/dtype.h"
#include "nn/nn.h"

/* The functions of cuDNN that are used, each found by name. */
#define CUDNN_FUNCTIONS(X)                                                               \
    X(Create)                                                                            \
    X(SetStream)                                                                         \
    X(GetErrorString)                                                                    \
    X(BackendCreateDescriptor)                                                           \
    X(BackendDestroyDescriptor)                                                          \
    X(BackendSetAttribute)                                                               \
    X(BackendGetAttribute)                                                               \
    X(BackendFinalize)                                                                   \
    X(BackendExecute)

#define CUDNN_POINTER(name) __typeof__(cudnn##name) *name;
struct cudnn_library {
    CUDNN_FUNCTIONS(CUDNN_POINTER)
};

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

/* Of every operand: what 16-byte accesses need. */
enum { CUDNN_OPERAND_ALIGN_BYTES = 16, CUDNN_GRAPH_DESCRIPTORS = 128 };

/* A plan and the descriptors it was made of, which live as long as it does. */
struct cudnn_plan {
    cudnnBackendDescriptor_t plan; /* NULL: there is none */
    int64_t workspace_bytes;
    int n_descriptors;
    cudnnBackendDescriptor_t descriptors[CUDNN_GRAPH_DESCRIPTORS];
};

/* Make *p, for q, k, v (and their gradients) packed as nn.h says.  False, with one line in
 * why[bytes], if cuDNN refuses or has nothing whose results repeat bit by bit. */
bool cudnn_plan_fwd(struct cudnn_plan *p, const struct cudnn_library *lib,
                    cudnnHandle_t handle, enum dtype t, const struct nn_attention *a,
                    char *why, size_t bytes);
bool cudnn_plan_bwd(struct cudnn_plan *p, const struct cudnn_library *lib,
                    cudnnHandle_t handle, enum dtype t, const struct nn_attention *a,
                    char *why, size_t bytes);
void cudnn_plan_release(struct cudnn_plan *p, const struct cudnn_library *lib);

/* Queue p on the handle's stream; data[CUDNN_OPERAND_...], NULL for what p does not use. */
cudnnStatus_t cudnn_plan_run(const struct cudnn_plan *p, const struct cudnn_library *lib,
                             cudnnHandle_t handle, void *const data[CUDNN_OPERANDS],
                             void *workspace);
