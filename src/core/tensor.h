/* tensor - a view: where numbers lie, of which type, in which shape.
 *
 * Row-major and contiguous; it owns nothing and is passed by pointer or copied by value. */
#pragma once

#include "core/dtype.h"

enum { TENSOR_MAX_DIMS = 4 };

struct tensor {
    void *data;
    enum dtype dtype;
    int n_dims;
    int64_t shape[TENSOR_MAX_DIMS];
};

struct tensor tensor_1d(void *data, enum dtype t, int64_t n);
struct tensor tensor_2d(void *data, enum dtype t, int64_t rows, int64_t cols);

int64_t tensor_elements(const struct tensor *x);
size_t tensor_bytes(const struct tensor *x);

/* Rows [row, row + n) of a 2-d tensor. */
struct tensor tensor_rows(const struct tensor *x, int64_t row, int64_t n);

/* The fp32 elements; checks the type. */
float *tensor_f32(const struct tensor *x);
