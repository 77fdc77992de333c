#include "train/gemm_peak.h"

#include <stdlib.h>

#include "core/clock.h"
#include "core/rng.h"
#include "device/device.h"

enum { FIRST_SIZE = 256, LAST_SIZE = 8192, REPEATS = 5 };

/* Seconds below which a product is too short to be timed from the host. */
static const double TOO_SHORT = 2e-3;

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
        const double start = clock_seconds();
        nn_matmul_nt(nn, &y, &x, &w, NN_ASSIGN);
        device_wait(dev);
        const double now = clock_seconds() - start;
        if (now < *seconds) *seconds = now;
    }
    device_free(dev, &memory, bytes);
    return st;
}

status_t gemm_peak_measure(struct nn *nn, enum dtype t, double *flops_per_second)
{
    double seconds = 0;
    int64_t size = FIRST_SIZE;
    TRY(measure(nn, t, size, &seconds));
    while (seconds < TOO_SHORT && size < LAST_SIZE) {
        size *= 2;
        TRY(measure(nn, t, size, &seconds));
    }
    *flops_per_second = 2.0 * (double)size * (double)size * (double)size / seconds;
    return STATUS_OK;
}
