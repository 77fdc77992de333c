/* The matrix product of the emulated cuBLASLt: plain loops over copies in fp32.  The sum along K is
 * made of parts, as a GPU's is. */
#include "cublaslt_emulated.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/dtype.h"
#include "emulation.h"

enum { PART = 64 }; /* terms of one partial sum */

static enum dtype dtype_of(cudaDataType_t t)
{
    return t == CUDA_R_16BF ? DTYPE_BF16 : t == CUDA_R_16F ? DTYPE_F16 : DTYPE_F32;
}

size_t type_bytes(cudaDataType_t t)
{
    if (t != CUDA_R_32F && t != CUDA_R_16F && t != CUDA_R_16BF) return 0;
    return dtype_bytes(dtype_of(t));
}

int64_t product_depth(const struct product *p)
{
    return p->op.trans_a == CUBLAS_OP_T ? p->a.rows : p->a.cols;
}

uint32_t product_parts(int64_t depth)
{
    return (uint32_t)((depth + PART - 1) / PART);
}

static float *floats(int64_t n)
{
    float *x = malloc((size_t)n * sizeof *x);
    if (!x) emulation_fail("no host memory for a matrix product");
    return x;
}

/* A matrix in fp32: [cols, rows] in C's order, or [rows, cols] if transposed. */
static float *unpack(const struct emulation_layout *l, const void *data, bool transposed)
{
    float *x = floats(l->rows * l->cols), *column = floats(l->rows);
    for (int64_t j = 0; j < l->cols; j++) {
        const char *from = (const char *)data + (size_t)(j * l->ld) * type_bytes(l->type);
        float *to = transposed ? column : x + j * l->rows;
        dtype_convert(to, DTYPE_F32, from, dtype_of(l->type), l->rows);
        for (int64_t i = 0; transposed && i < l->rows; i++)
            x[i * l->cols + j] = column[i];
    }
    free(column);
    return x;
}

/* sum[M] = alpha A b for one column b of op(B), in parts from first_part on, round and round. */
static void multiply_column(const struct product *p, const float *a, const float *b,
                            float *sum, float *part)
{
    const int64_t M = p->d.rows, K = product_depth(p);
    const uint32_t parts = product_parts(K);
    for (int64_t i = 0; i < M; i++) sum[i] = 0;
    for (uint32_t n = 0; n < parts; n++) {
        const int64_t first = (int64_t)((p->first_part + n) % parts) * PART;
        const int64_t end = K - first < PART ? K : first + PART;
        for (int64_t i = 0; i < M; i++) part[i] = 0;
        for (int64_t k = first; k < end; k++)
            for (int64_t i = 0; i < M; i++) part[i] += a[k * M + i] * b[k];
        for (int64_t i = 0; i < M; i++) sum[i] += p->alpha * part[i];
    }
}

static float gelu(float x)
{
    const float cubic = 0.7978845608028654f * (x + 0.044715f * x * x * x);
    return 0.5f * x * (1.0f + tanhf(cubic));
}

/* Column j of D, from sums without C: C and bias are added, aux is kept, gelu applied. */
static void finish_column(const struct product *p, float *sum, const float *bias,
                          float *c, int64_t j)
{
    const int64_t M = p->d.rows;
    const enum dtype t = dtype_of(p->d.type);
    const size_t skip = (size_t)(j * p->d.ld) * type_bytes(p->d.type);
    if (p->beta != 0) {
        dtype_convert(c, DTYPE_F32, (const char *)p->c_data + skip, t, M);
        for (int64_t i = 0; i < M; i++) sum[i] += p->beta * c[i];
    }
    for (int64_t i = 0; bias && i < M; i++) sum[i] += bias[i];
    if (p->op.aux) {
        const size_t aux_skip = (size_t)(j * p->op.aux_ld) * type_bytes(p->d.type);
        dtype_convert((char *)p->op.aux + aux_skip, t, sum, DTYPE_F32, M);
        for (int64_t i = 0; i < M; i++) sum[i] = gelu(sum[i]);
    }
    dtype_convert((char *)p->d_data + skip, t, sum, DTYPE_F32, M);
}

void product_compute(const struct product *p)
{
    const int64_t M = p->d.rows, K = product_depth(p);
    float *a = unpack(&p->a, p->a_data, p->op.trans_a == CUBLAS_OP_T); /* [K, M] */
    float *b = unpack(&p->b, p->b_data, p->op.trans_b == CUBLAS_OP_T); /* [N, K] */
    float *room = floats(4 * M), *bias = NULL;
    if (p->op.bias) {
        bias = room + 3 * M;
        dtype_convert(bias, DTYPE_F32, p->op.bias, dtype_of(p->d.type), M);
    }
    if (p->workspace_bytes) memset(p->workspace, 0xFF, p->workspace_bytes);
    for (int64_t j = 0; j < p->d.cols; j++) {
        multiply_column(p, a, b + j * K, room, room + M);
        finish_column(p, room, bias, room + 2 * M, j);
    }
    free(room);
    free(b);
    free(a);
}
