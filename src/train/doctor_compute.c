/* Does the GPU compute?  A kernel that cannot run, or runs and gives wrong numbers, is better seen
 * here than in the first step. */
#include <stdlib.h>

#include "nn/nn.h"
#include "train/doctor_impl.h"

enum { NUMBERS = 1 << 20 };

static float number(int64_t i)
{
    return (float)(i % 4099) / 64 - 30;
}

static status_t compare(const uint16_t *y, const struct device_info *info)
{
    for (int64_t i = 0; i < NUMBERS; i++)
        if (y[i] != dtype_bf16(number(i)))
            return status_set(
                STATUS_DEVICE,
                "cuda: %s at %s computes wrongly: %g became %g in bf16: take it out "
                "of use",
                info->model, info->id, (double)number(i), (double)dtype_from_bf16(y[i]));
    return STATUS_OK;
}

status_t doctor_compute(struct device *gpu, const struct device_info *info)
{
    const size_t x_bytes = NUMBERS * sizeof(float), y_bytes = NUMBERS * sizeof(uint16_t);
    struct nn *nn = NULL;
    float *host = malloc(x_bytes);
    uint16_t *result = malloc(y_bytes);
    void *x = NULL, *y = NULL;
    status_t st = host && result ? STATUS_OK
                                 : status_set(STATUS_NOMEM, "no memory to try a kernel");
    if (st == STATUS_OK) st = nn_create(&nn, gpu, 1, 0);
    if (st == STATUS_OK) st = device_alloc(gpu, x_bytes, "trying a kernel", &x);
    if (st == STATUS_OK) st = device_alloc(gpu, y_bytes, "trying a kernel", &y);
    if (st == STATUS_OK) {
        const struct tensor from = tensor_1d(x, DTYPE_F32, NUMBERS);
        struct tensor to = tensor_1d(y, DTYPE_BF16, NUMBERS);
        for (int64_t i = 0; i < NUMBERS; i++) host[i] = number(i);
        device_copy_in(gpu, x, host, x_bytes);
        nn_cast(nn, &to, &from);
        device_copy_out(gpu, result, y, y_bytes);
        st = compare(result, info);
    }
    nn_destroy(&nn);
    device_free(gpu, &x, x_bytes);
    device_free(gpu, &y, y_bytes);
    free(result);
    free(host);
    return st;
}
