/* backend_cuda - what an nn on a CUDA device keeps in nn->backend. */
#pragma once

#include <cuda_runtime_api.h>

#include "nn/nn_impl.h"

struct matmul_cuda;

extern const struct nn_ops nn_cuda_ops;

struct backend_cuda {
    struct nn_ops ops; /* a copy of the table, whose isa is ... */
    char isa[16];      /* ... "sm_90" */
    int capability;    /* 90 */
    cudaStream_t stream;
    struct matmul_cuda *matmul; /* NULL while measuring */
};

static inline struct backend_cuda *backend_cuda(const struct nn *nn)
{
    return nn->backend;
}
