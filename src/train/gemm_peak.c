#include "train/gemm_peak.h"

#include <stdlib.h>

#include "core/clock.h"
#include "core/rng.h"
#include "device/device.h"

enum { FIRST_SIZE = 256, LAST_SIZE = 8192, REPEATS = 6, MOST_CALLS = 100 };

/* Seconds below which a product is not the fastest there is: it is too small. */
static const double TOO_SHORT = 2e-3;
/* A timing takes as many products as fill this, or one: against it, what it costs a device to
 * start, and the host to see the end, is little. */
static const double LONG_ENOUGH = 10e-3;

/* Random numbers all over `bytes` at p: a product of zeros draws less power and runs faster. */
static status_t fill(struct device *dev, void *p, size_t bytes, enum dtype t)
{
    enum { PERIOD = 1 << 16 };
    const size_t most = PERIOD * dtype_bytes(t);
    float *values = malloc(PERIOD * sizeof *values);
    char *rounded = malloc(most);
    if (values && rounded) {
        rng_normal(rng_key(1, "gemm", "peak"), 0, values, PERIOD);
        dtype_convert(rounded, t, values, DTYPE_F32, PERIOD);
        for (size_t at = 0; at < bytes; at += most)
            device_copy_in(dev, (char *)p + at, rounded,
                           bytes - at < most ? bytes - at : most);
    }
    const bool ok = values && rounded;
    free(values);
    free(rounded);
    return ok ? STATUS_OK : status_set(STATUS_NOMEM, "no memory to fill two matrices");
}

static double time_products(struct nn *nn, struct tensor *y, const struct tensor *x,
                            const struct tensor *w, int calls)
{
    const double start = clock_seconds();
    for (int c = 0; c < calls; c++) nn_matmul_nt(nn, y, x, w, NN_ASSIGN);
    device_wait(nn_device(nn));
    return (clock_seconds() - start) / calls;
}

/* Best seconds of a product of size^3. */
static status_t measure(struct nn *nn, enum dtype t, int64_t size, double *seconds)
{
    struct device *dev = nn_device(nn);
    const size_t one = (size_t)(size * size) * dtype_bytes(t), bytes = 3 * one;
    void *memory = NULL;
    TRY(device_alloc(dev, bytes, "measuring the GEMM peak", &memory));
    struct tensor y = tensor_2d(memory, t, size, size);
    struct tensor x = tensor_2d((char *)memory + one, t, size, size);
    struct tensor w = tensor_2d((char *)memory + 2 * one, t, size, size);
    *seconds = 1e30;
    const status_t st = fill(dev, x.data, 2 * one, t); /* x and w */
    for (int i = 0; st == STATUS_OK && i < REPEATS; i++) {
        const int calls = *seconds * MOST_CALLS < LONG_ENOUGH ? MOST_CALLS
                          : *seconds < LONG_ENOUGH ? (int)(LONG_ENOUGH / *seconds)
                                                   : 1;
        const double now = time_products(nn, &y, &x, &w, calls);
        if (now < *seconds) *seconds = now;
    }
    device_free(dev, &memory, bytes);
    return st;
}

status_t gemm_peak_measure(struct nn *nn, enum dtype t, double *flops_per_second)
{
    double seconds = 0, larger;
    int64_t size = FIRST_SIZE;
    TRY(measure(nn, t, size, &seconds));
    while (seconds < TOO_SHORT && size < LAST_SIZE) {
        /* what a model leaves free may not hold the largest, and need not */
        if (measure(nn, t, 2 * size, &larger) != STATUS_OK) break;
        seconds = larger;
        size *= 2;
    }
    *flops_per_second = 2.0 * (double)size * (double)size * (double)size / seconds;
    return STATUS_OK;
}
