/* measured_nn - every table this machine runs, 1 to 3 threads, each with exactly the scratch that
 * a measuring run of the same calls asked for. */
#pragma once

#include <math.h>

#include "harness/harness.h"

#include "device/device.h"
#include "nn/nn_impl.h"

enum { MEASURED_NN_THREADS = 3 };

/* body(nn, arg) measures, then computes.  A call that takes more than it measured dies in the
 * arena; one that takes less fails here. */
static inline void measured_nn(const char *isa, int threads,
                               void (*body)(struct nn *nn, void *arg), void *arg)
{
    struct device *dev = NULL;
    struct nn *nn = NULL;
    ASSERT_OK(device_open(&dev, "cpu"));
    ASSERT_OK(nn_create_measuring(&nn, dev, threads));
    const bool runs = nn_force_isa(nn, isa);
    if (runs) body(nn, arg);
    const size_t bytes = nn_scratch_peak_bytes(nn);
    nn_destroy(&nn);
    if (runs) {
        ASSERT_OK(nn_create(&nn, dev, threads, bytes));
        assert_true(nn_force_isa(nn, isa));
        body(nn, arg);
        assert_int_equal(nn_scratch_peak_bytes(nn), bytes);
        nn_destroy(&nn);
    }
    device_close(&dev);
}

static inline void measured_each_nn(void (*body)(struct nn *nn, void *arg), void *arg)
{
    static const char *const isas[] = {"base", "avx2", "avx512"};
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++)
        for (int threads = 1; threads <= MEASURED_NN_THREADS; threads++)
            measured_nn(isas[i], threads, body, arg);
}

/* An output before the call: what is not assigned shows. */
static inline struct tensor dirty_2d(int64_t rows, int64_t cols)
{
    float *x = test_alloc((size_t)(rows * cols) * sizeof *x);
    for (int64_t i = 0; i < rows * cols; i++) x[i] = NAN;
    return tensor_2d(x, DTYPE_F32, rows, cols);
}

static inline struct tensor copied(const struct tensor *x)
{
    struct tensor y = *x;
    y.data = test_alloc(tensor_bytes(x));
    memcpy(y.data, x->data, tensor_bytes(x));
    return y;
}

static inline double *in_double(const struct tensor *x)
{
    const int64_t n = tensor_elements(x);
    double *d = test_alloc((size_t)n * sizeof *d);
    for (int64_t i = 0; i < n; i++) d[i] = (double)tensor_f32(x)[i];
    return d;
}

/* Like CHECK_CLOSE, against doubles. */
static inline void check_near(const char *what, const float *a, const double *b,
                              int64_t n, double limit)
{
    double error = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        error += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        size += b[i] * b[i];
    }
    const double got = size > 0 ? error / size : error;
    if (!(got <= limit)) fail_msg("%s: NMSE %.3g > %.3g", what, got, limit);
}

static inline void check_within(double a, double b, double limit)
{
    if (!(fabs(a - b) <= limit))
        fail_msg("%.17g is not within %.3g of %.17g", a, limit, b);
}

static inline void check_same_bits(const char *what, const struct tensor *a,
                                   const struct tensor *b)
{
    if (memcmp(a->data, b->data, tensor_bytes(a)) != 0)
        fail_msg("%s: not the same bits the second time", what);
}
