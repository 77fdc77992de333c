#include "train/gemm_peak.h"

#include "core/clock.h"
#include "device/device.h"

enum { FIRST_SIZE = 256, LAST_SIZE = 8192, REPEATS = 5 };

/* Seconds below which a product is too short to be timed from the host. */
static const double TOO_SHORT = 2e-3;

/* Best seconds of a product of size^3; numbers do not matter, but are not all zero: products of
 * zeros draw less power and run faster. */
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
    for (int i = 0; i < REPEATS; i++) {
        const double start = clock_seconds();
        nn_matmul_nt(nn, &y, &x, &w, NN_ASSIGN);
        device_wait(dev);
        const double now = clock_seconds() - start;
        if (now < *seconds) *seconds = now;
    }
    device_free(dev, &memory, bytes);
    return STATUS_OK;
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
