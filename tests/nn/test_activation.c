/* GELU and SwiGLU: forward against plain loops in double, backward against central
 * differences of those loops. */
#include "each_nn.h"

#include <math.h>

static const int64_t rows[] = {1, 5, 33}, cols[] = {1, 7, 129, 768};
static const double H = 1e-5;

#define EACH_SHAPE(N, F)                                                                 \
    for (int i_ = 0; i_ < 12; i_++)                                                      \
        for (int64_t N = rows[i_ / 4], F = cols[i_ % 4], once_ = 1; once_; once_ = 0)

static double gelu(double x)
{
    return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

static double silu(double x)
{
    return x / (1 + exp(-x));
}

static double slope(double (*f)(double), double x)
{
    return (f(x + H) - f(x - H)) / (2 * H);
}

/* normal numbers, wide enough to reach both flat ends */
static struct tensor wide(uint64_t key, int64_t N, int64_t F)
{
    struct tensor x = randn_2d(key, N, F);
    for (int64_t i = 0; i < N * F; i++) tensor_f32(&x)[i] *= i % 3 ? 1.0f : 6.0f;
    return x;
}

static void gelu_case(struct nn *nn, void *arg)
{
    (void)arg;
    EACH_SHAPE(N, F)
    {
        const struct tensor x = wide(1, N, F), dy = randn_2d(2, N, F);
        struct tensor y = randn_2d(3, N, F), dx = randn_2d(4, N, F);
        struct tensor want_y = randn_2d(5, N, F), want_dx = randn_2d(6, N, F);
        for (int64_t i = 0; i < N * F; i++) {
            const double xi = tensor_f32(&x)[i], dyi = tensor_f32(&dy)[i];
            tensor_f32(&want_y)[i] = (float)gelu(xi);
            tensor_f32(&want_dx)[i] = (float)(dyi * slope(gelu, xi));
        }
        nn_gelu_fwd(nn, &y, &x);
        nn_gelu_bwd(nn, &dx, &dy, &x);
        CHECK_CLOSE(&y, &want_y, 1e-12);
        CHECK_CLOSE(&dx, &want_dx, 1e-12);

        struct tensor in_place = copy_of(&dy);
        nn_gelu_bwd(nn, &in_place, &in_place, &x);
        assert_true(same_bits(&in_place, &dx));
    }
}

TEST(gelu_equals_plain_loops_and_central_differences)
{
    each_nn(gelu_case, NULL);
}

static void swiglu_case(struct nn *nn, void *arg)
{
    (void)arg;
    EACH_SHAPE(N, F)
    {
        const struct tensor gu = wide(1, N, 2 * F), dy = randn_2d(2, N, F);
        struct tensor y = randn_2d(3, N, F), dgu = randn_2d(4, N, 2 * F);
        struct tensor want_y = randn_2d(5, N, F), want = randn_2d(6, N, 2 * F);
        for (int64_t i = 0; i < N * F; i++) {
            const int64_t g = i / F * 2 * F + i % F, u = g + F;
            const double gate = tensor_f32(&gu)[g], up = tensor_f32(&gu)[u];
            const double dyi = tensor_f32(&dy)[i];
            tensor_f32(&want_y)[i] = (float)(silu(gate) * up);
            tensor_f32(&want)[g] = (float)(dyi * up * slope(silu, gate));
            tensor_f32(&want)[u] = (float)(dyi * silu(gate));
        }
        nn_swiglu_fwd(nn, &y, &gu);
        nn_swiglu_bwd(nn, &dgu, &dy, &gu);
        CHECK_CLOSE(&y, &want_y, 1e-12);
        CHECK_CLOSE(&dgu, &want, 1e-12);
    }
}

TEST(swiglu_equals_plain_loops_and_central_differences)
{
    each_nn(swiglu_case, NULL);
}

/* Far out both are the identity or zero, and their slopes one or zero; no inf - inf, 0 * inf */
static void far_out(struct nn *nn, void *arg)
{
    (void)arg;
    static const float far[] = {-1e6f, -1e4f, -200, -95,  -88.5f, 0,
                                88.5f, 95,    200,  1e4f, 1e6f};
    enum { N_FAR = sizeof far / sizeof *far };
    struct tensor x = randn_2d(1, 1, N_FAR), gu = randn_2d(2, 1, 2 * N_FAR);
    struct tensor y = randn_2d(3, 1, N_FAR), dx = randn_2d(4, 1, N_FAR);
    struct tensor dy = randn_2d(5, 1, N_FAR), dgu = randn_2d(6, 1, 2 * N_FAR);
    for (int i = 0; i < N_FAR; i++) {
        tensor_f32(&x)[i] = tensor_f32(&gu)[i] = far[i];
        tensor_f32(&dy)[i] = tensor_f32(&gu)[N_FAR + i] = 1;
    }
    nn_gelu_fwd(nn, &y, &x);
    nn_gelu_bwd(nn, &dx, &dy, &x);
    for (int i = 0; i < N_FAR; i++) {
        assert_true(tensor_f32(&y)[i] == (far[i] > 0 ? far[i] : 0));
        assert_true(tensor_f32(&dx)[i] == (far[i] > 0 ? 1.0f : far[i] < 0 ? 0.0f : 0.5f));
    }
    nn_swiglu_fwd(nn, &y, &gu);
    nn_swiglu_bwd(nn, &dgu, &dy, &gu);
    for (int i = 0; i < N_FAR; i++) {
        const double gate = far[i];
        assert_true(fabs((double)tensor_f32(&y)[i] - silu(gate)) <= 1e-6 * fabs(gate));
        assert_true(fabs((double)tensor_f32(&dgu)[i] - slope(silu, gate)) < 1e-4);
    }
}

TEST(activations_are_finite_and_right_far_out)
{
    each_nn(far_out, NULL);
}

struct outputs {
    const char *isa;
    struct tensor y, dx, dgu;
};

static void same_for_any_threads(struct nn *nn, void *arg)
{
    struct outputs *first = arg;
    const struct tensor x = wide(1, 33, 2 * 129), dy = randn_2d(2, 33, 2 * 129);
    const struct tensor half_dy = randn_2d(2, 33, 129);
    struct outputs now = {.isa = nn_isa(nn),
                          .y = randn_2d(3, 33, 2 * 129),
                          .dx = randn_2d(4, 33, 2 * 129),
                          .dgu = randn_2d(5, 33, 2 * 129)};
    nn_gelu_fwd(nn, &now.y, &x);
    nn_gelu_bwd(nn, &now.dx, &dy, &x);
    nn_swiglu_bwd(nn, &now.dgu, &half_dy, &x);
    if (!first->isa || strcmp(first->isa, now.isa) != 0) *first = now;
    assert_true(same_bits(&now.y, &first->y) && same_bits(&now.dx, &first->dx) &&
                same_bits(&now.dgu, &first->dgu));
}

TEST(activations_do_not_depend_on_the_number_of_threads)
{
    struct outputs first = {0};
    each_nn(same_for_any_threads, &first);
}
