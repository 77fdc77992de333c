/* each_nn - what the tests of src/nn share: an operation in every setting of the device under
 * test, each with exactly the scratch that a measuring run of the same calls asked for.
 *
 * On the CPU a setting is a type, an instruction set this machine runs and 1 to 3 threads; on cuda
 * it is a type.  A test makes host tensors of the setting's type (fp32 numbers that are
 * rounded to it), computes what it expects from them in double, and compares on the host. */
#pragma once

#include <math.h>
#include <stdio.h>

#include "harness/harness.h"

#include "nn/nn_impl.h"

enum { EACH_NN_THREADS = 3 };

#ifndef EACH_NN_ISAS
#define EACH_NN_ISAS "base", "avx2", "avx512", "avx512bf16", "amx"
#endif

struct setting {
    struct nn *nn;
    struct device *dev;
    enum dtype t; /* of activations and weights */
};

/* Called twice: with an nn that measures, when it calls the operations and returns, and with one
 * that computes. */
typedef void setting_body(const struct setting *s, void *arg);

/* A call that takes more scratch than it measured dies in the arena; one that takes less fails
 * here.  isa: NULL on cuda. */
static inline void measured_nn(struct device *dev, const char *isa, int threads,
                               enum dtype t, setting_body *body, void *arg)
{
    struct setting s = {.dev = dev, .t = t};
    ASSERT_OK(nn_create_measuring(&s.nn, dev, threads));
    const bool runs = !isa || nn_force_isa(s.nn, isa);
    if (runs) body(&s, arg);
    const size_t bytes = nn_scratch_peak_bytes(s.nn);
    nn_destroy(&s.nn);
    if (!runs) return;
    ASSERT_OK(nn_create(&s.nn, dev, threads, bytes));
    if (isa) assert_true(nn_force_isa(s.nn, isa));
    body(&s, arg);
    device_wait(dev);
    assert_int_equal(nn_scratch_peak_bytes(s.nn), bytes);
    nn_destroy(&s.nn);
}

/* The CPU, whatever the device under test. */
static inline void each_cpu_nn(enum dtype t, setting_body *body, void *arg)
{
    static const char *const isas[] = {EACH_NN_ISAS};
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        if (t == DTYPE_F32 && !strcmp(isas[i], "avx512bf16")) continue; /* avx512's */
        for (int threads = 1; threads <= EACH_NN_THREADS; threads++) {
            struct device *dev = NULL;
            ASSERT_OK(test_named_device_open(&dev, "cpu"));
            measured_nn(dev, isas[i], threads, t, body, arg);
            test_device_close(&dev);
        }
    }
}

static inline bool tests_on_cpu(void)
{
    return strcmp(test_device_name(), "cpu") == 0;
}

/* The settings of one type. */
static inline void each_nn_of_type(enum dtype t, setting_body *body, void *arg)
{
    struct device *dev = NULL;
    if (tests_on_cpu()) {
        each_cpu_nn(t, body, arg);
        return;
    }
    ASSERT_OK(test_device_open(&dev));
    measured_nn(dev, NULL, 1, t, body, arg);
    test_device_close(&dev);
}

/* The first type that the device under test computes in from `t` on, DTYPE_I32 behind the last. */
static inline enum dtype type_from(enum dtype t)
{
    static bool asked, supported[DTYPE_I32];
    if (!asked) {
        struct device *dev = NULL;
        ASSERT_OK(test_device_open(&dev));
        for (enum dtype i = DTYPE_F32; i < DTYPE_I32; i++)
            supported[i] = device_supports(dev, i);
        test_device_close(&dev);
        asked = true;
    }
    while (t < DTYPE_I32 && !supported[t]) t++;
    return t;
}

#define EACH_TYPE(t)                                                                     \
    for (enum dtype t = type_from(DTYPE_F32); t < DTYPE_I32; t = type_from(t + 1))

static inline void each_nn(setting_body *body, void *arg)
{
    EACH_TYPE(t) each_nn_of_type(t, body, arg);
}

/* ---- tensors ------------------------------------------------------------------------------ */

static inline struct tensor copied(const struct tensor *x)
{
    struct tensor y = *x;
    y.data = test_alloc(tensor_bytes(x));
    memcpy(y.data, x->data, tensor_bytes(x));
    return y;
}

/* Host tensors to the device: in the setting's type, or in fp32 (parameter gradients, statistics,
 * what the optimizer keeps). */
static inline struct tensor sent(const struct setting *s, const struct tensor *x)
{
    return on_device(s->dev, x, s->t);
}

static inline struct tensor sent_f32(const struct setting *s, const struct tensor *x)
{
    return on_device(s->dev, x, DTYPE_F32);
}

/* Outputs on the device before the call. */
static inline struct tensor dirty(const struct setting *s, int64_t rows, int64_t cols)
{
    return dirty_on_device(s->dev, s->t, rows, cols);
}

static inline struct tensor dirty_f32(const struct setting *s, int64_t rows, int64_t cols)
{
    return dirty_on_device(s->dev, DTYPE_F32, rows, cols);
}

static inline double *in_double(const struct tensor *x)
{
    const int64_t n = tensor_elements(x);
    double *d = test_alloc((size_t)n * sizeof *d);
    for (int64_t i = 0; i < n; i++) d[i] = (double)tensor_f32(x)[i];
    return d;
}

/* ---- comparison --------------------------------------------------------------------------- */

/* The normalised squared error allowed to numbers that were rounded to `t` on their way.  One
 * rounding costs a third of the square of half a unit in the last place at most: 1.3e-6 in bf16,
 * 8e-8 in fp16. */
static inline double limit_of(const struct setting *s, enum dtype t, double on_cpu)
{
    if (device_is_host(s->dev) && s->t == DTYPE_F32) return on_cpu;
    return t == DTYPE_BF16 ? 1e-5 : t == DTYPE_F16 ? 1e-6 : 1e-10;
}

static inline void check_error(const char *what, const struct tensor *got,
                               const double *want, double limit)
{
    double error = 0, size = 0;
    for (int64_t i = 0; i < tensor_elements(got); i++) {
        const double g = (double)tensor_f32(got)[i];
        error += (g - want[i]) * (g - want[i]);
        size += want[i] * want[i];
    }
    const double nmse = size > 0 ? error / size : error;
    if (!(nmse <= limit)) fail_msg("%s: NMSE %.3g > %.3g", what, nmse, limit);
}

/* A tensor of the device, made from numbers of type `through`, against doubles. */
static inline void check_through(const struct setting *s, enum dtype through,
                                 const char *what, const struct tensor *got,
                                 const double *want, double on_cpu)
{
    const struct tensor host = to_host(s->dev, got);
    char named[64];
    snprintf(named, sizeof named, "%s in %s", what, dtype_name(s->t));
    check_error(named, &host, want, limit_of(s, through, on_cpu));
}

/* One that was rounded once, at the end, to its own type. */
static inline void check_near(const struct setting *s, const char *what,
                              const struct tensor *got, const double *want, double on_cpu)
{
    check_through(s, got->dtype, what, got, want, on_cpu);
}

static inline void check_close(const struct setting *s, const char *what,
                               const struct tensor *got, const struct tensor *want,
                               double on_cpu)
{
    check_near(s, what, got, in_double(want), on_cpu);
}

/* Bit for bit what the host's numbers become in the type of `got`. */
static inline void check_exact(const struct setting *s, const char *what,
                               const struct tensor *got, const struct tensor *want)
{
    const struct tensor host = to_host(s->dev, got);
    const struct tensor expected = rounded(copied(want), got->dtype);
    for (int64_t i = 0; i < tensor_elements(got); i++)
        if (memcmp(tensor_f32(&host) + i, tensor_f32(&expected) + i, sizeof(float)) != 0)
            fail_msg("%s in %s: element %lld is %.9g, not %.9g", what, dtype_name(s->t),
                     (long long)i, (double)tensor_f32(&host)[i],
                     (double)tensor_f32(&expected)[i]);
}

/* Two tensors of the device. */
static inline void check_same_bits(const struct setting *s, const char *what,
                                   const struct tensor *a, const struct tensor *b)
{
    const struct tensor x = to_host(s->dev, a), y = to_host(s->dev, b);
    if (memcmp(x.data, y.data, tensor_bytes(&x)) != 0)
        fail_msg("%s in %s: not the same bits the second time", what, dtype_name(s->t));
}

static inline void check_within(double a, double b, double limit)
{
    if (!(fabs(a - b) <= limit))
        fail_msg("%.17g is not within %.3g of %.17g", a, limit, b);
}
