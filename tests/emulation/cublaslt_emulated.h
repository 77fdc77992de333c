/* cublaslt_emulated - the objects of the emulated cuBLASLt, and the product itself.
 *
 * It is strict: an attribute it does not know or of another size, types and shapes that do not fit
 * each other, an algorithm that was named for another problem, operands less aligned than was
 * promised to the heuristic, too small a workspace, are refused with the status the library
 * documents.  What the library cannot notice (operands that overlap or are no device memory) ends
 * the process.  And it is hostile: the workspace is overwritten, and where the preference allows
 * it to add partial sums in place, their order is random. */
#pragma once

#include <cublasLt.h>

struct emulation_layout {
    cudaDataType_t type;
    int64_t rows, cols, ld;
};

struct emulation_matmul {
    int32_t trans_a, trans_b;
    uint32_t epilogue;
    const void *bias;
    void *aux; /* what gelu is applied to */
    int64_t aux_ld;
};

struct emulation_preference {
    uint64_t workspace_bytes;
    uint32_t reductions;
    uint32_t align[4]; /* of a, b, c, d */
};

/* D[M,N] = alpha op(A)[M,K] op(B)[K,N] + beta C, in host or opened device memory. */
struct product {
    struct emulation_matmul op;
    struct emulation_layout a, b, d; /* c is laid out like d */
    const void *a_data, *b_data, *c_data;
    void *d_data;
    float alpha, beta;
    void *workspace;
    size_t workspace_bytes; /* that the algorithm uses */
    uint32_t first_part;    /* of the partial sums along K: where to begin */
};

size_t type_bytes(cudaDataType_t t);
int64_t product_depth(const struct product *p); /* K */
uint32_t product_parts(int64_t depth);          /* partial sums there are along K */
void product_compute(const struct product *p);
