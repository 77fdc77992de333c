/* each_nn - what the tests of src/nn share: every table this machine runs, 1 to 3 threads. */
#pragma once

#include "harness/harness.h"

#include "device/device.h"
#include "nn/nn_impl.h"

enum { EACH_NN_SCRATCH_BYTES = 1 << 20, EACH_NN_THREADS = 3 };

/* body(nn, arg) for every instruction set and number of threads. */
static inline void each_nn(void (*body)(struct nn *nn, void *arg), void *arg)
{
    static const char *const isas[] = {"base", "avx2", "avx512"};
    struct device *dev = NULL;
    ASSERT_OK(device_open(&dev, "cpu"));
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        for (int threads = 1; threads <= EACH_NN_THREADS; threads++) {
            struct nn *nn = NULL;
            ASSERT_OK(nn_create(&nn, dev, threads, EACH_NN_SCRATCH_BYTES));
            if (nn_force_isa(nn, isas[i])) body(nn, arg);
            nn_destroy(&nn);
        }
    }
    device_close(&dev);
}

/* body(nn) once, with an nn that measures; returns the scratch it asked for. */
static inline size_t measured_scratch(int threads, void (*body)(struct nn *nn, void *arg),
                                      void *arg)
{
    struct device *dev = NULL;
    struct nn *nn = NULL;
    ASSERT_OK(device_open(&dev, "cpu"));
    ASSERT_OK(nn_create_measuring(&nn, dev, threads));
    body(nn, arg);
    const size_t bytes = nn_scratch_peak_bytes(nn);
    nn_destroy(&nn);
    device_close(&dev);
    return bytes;
}

/* A copy of x that test_release_all frees. */
static inline struct tensor copy_of(const struct tensor *x)
{
    struct tensor y = *x;
    y.data = test_alloc(tensor_bytes(x));
    memcpy(y.data, x->data, tensor_bytes(x));
    return y;
}

static inline bool same_bits(const struct tensor *a, const struct tensor *b)
{
    return memcmp(a->data, b->data, tensor_bytes(a)) == 0;
}
