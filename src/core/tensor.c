#include "core/tensor.h"

#include "core/log.h"

struct tensor tensor_1d(void *data, enum dtype t, int64_t n)
{
    return (struct tensor){.data = data, .dtype = t, .n_dims = 1, .shape = {n}};
}

struct tensor tensor_2d(void *data, enum dtype t, int64_t rows, int64_t cols)
{
    return (struct tensor){.data = data, .dtype = t, .n_dims = 2, .shape = {rows, cols}};
}

int64_t tensor_elements(const struct tensor *x)
{
    int64_t n = 1;
    for (int d = 0; d < x->n_dims; d++) n *= x->shape[d];
    return n;
}

size_t tensor_bytes(const struct tensor *x)
{
    return (size_t)tensor_elements(x) * dtype_bytes(x->dtype);
}

struct tensor tensor_rows(const struct tensor *x, int64_t row, int64_t n)
{
    CHECK(x->n_dims == 2 && row >= 0 && n >= 0 && row + n <= x->shape[0]);
    const size_t skip = (size_t)(row * x->shape[1]) * dtype_bytes(x->dtype);
    void *first = x->data ? (char *)x->data + skip : NULL; /* measuring: no data */
    return tensor_2d(first, x->dtype, n, x->shape[1]);
}

float *tensor_f32(const struct tensor *x)
{
    CHECK(x->dtype == DTYPE_F32);
    return x->data;
}
