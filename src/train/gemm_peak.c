#include "train/gemm_peak.h"

#include "core/clock.h"
#include "device/device.h"

enum { SIZE = 1024, REPEATS = 5 };

status_t gemm_peak_measure(struct nn *nn, double *flops_per_second)
{
    struct device *dev = nn_device(nn);
    const size_t one = (size_t)SIZE * SIZE * sizeof(float), bytes = 3 * one;
    void *memory = NULL;
    TRY(device_alloc(dev, bytes, "measuring the GEMM peak", &memory));
    struct tensor y = tensor_2d(memory, DTYPE_F32, SIZE, SIZE);
    struct tensor x = tensor_2d((char *)memory + one, DTYPE_F32, SIZE, SIZE);
    struct tensor w = tensor_2d((char *)memory + 2 * one, DTYPE_F32, SIZE, SIZE);
    double best = 0;
    for (int i = 0; i < REPEATS; i++) {
        const double start = clock_seconds();
        nn_matmul_nt(nn, &y, &x, &w, NN_ASSIGN);
        device_wait(dev);
        const double rate = 2.0 * SIZE * SIZE * SIZE / (clock_seconds() - start);
        if (rate > best) best = rate;
    }
    device_free(dev, &memory, bytes);
    *flops_per_second = best;
    return STATUS_OK;
}
