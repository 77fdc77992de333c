/* graph_cudnn - cuDNN's graphs of operations, and the plans made of them.
 *
 * Nothing is checked from call to call: the first that fails is remembered, nothing happens behind
 * it, and graph_plan says what it was. */
#pragma once

#include <cudnn.h>
#include <stdbool.h>

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

typedef cudnnBackendDescriptor_t descriptor_t;

enum { GRAPH_DESCRIPTORS = 128, GRAPH_OPERATIONS = 32 };
enum { GRAPH_ALIGN_BYTES = 16 }; /* of every tensor that is not inside */

/* A plan and the descriptors it was made of, which live as long as it does. */
struct cudnn_plan {
    descriptor_t plan; /* NULL: there is none */
    int64_t workspace_bytes;
    int n_descriptors;
    descriptor_t descriptors[GRAPH_DESCRIPTORS];
};

struct graph {
    struct cudnn_plan *plan;
    const struct cudnn_library *lib;
    cudnnHandle_t handle;
    int n_operations;
    descriptor_t operations[GRAPH_OPERATIONS];
    cudnnStatus_t status;
    const char *failed; /* the call */
};

struct graph_shape {
    int64_t dims[4], strides[4];
};

enum graph_place { GRAPH_IN_MEMORY, GRAPH_INSIDE, GRAPH_BY_VALUE };

descriptor_t graph_tensor(struct graph *g, int64_t uid, cudnnDataType_t type,
                          struct graph_shape s, enum graph_place where);

/* Operations; each returns y, which it writes.  All compute in fp32. */
descriptor_t graph_product(struct graph *g, descriptor_t a, descriptor_t b,
                           descriptor_t y);
/* y = mode(x, b, choice); b and choice may be NULL, axis is GEN_INDEX's. */
descriptor_t graph_pointwise(struct graph *g, cudnnPointwiseMode_t mode, int64_t axis,
                             descriptor_t x, descriptor_t b, descriptor_t choice,
                             descriptor_t y);
descriptor_t graph_reduction(struct graph *g, cudnnReduceTensorOp_t how, descriptor_t x,
                             descriptor_t y);
/* The same numbers in the same places, under y's dimensions and strides. */
descriptor_t graph_reshape(struct graph *g, descriptor_t x, descriptor_t y);

/* Make g->plan of the operations.  False, with one line in why[bytes] and nothing left, if cuDNN
 * refuses or has no engine that gives the same bits each time. */
bool graph_plan(struct graph *g, char *why, size_t bytes);
void cudnn_plan_release(struct cudnn_plan *p, const struct cudnn_library *lib);

/* Queue p on the handle's stream; the data of tensor i is at data[i], NULL: p has no such one. */
cudnnStatus_t cudnn_plan_run(const struct cudnn_plan *p, const struct cudnn_library *lib,
                             cudnnHandle_t handle, void *const *data, int n_data,
                             void *workspace);
