/* @devices cpu cuda    @amx
 * GELU and SwiGLU: forward against plain loops in double, backward against central
 * differences of those loops. */
#include "each_nn.h"

static const int64_t rows[] = {1, 5, 33}, cols[] = {1, 7, 129, 768};
static const double H = 1e-5;

#define EACH_SHAPE(N, F)                                                                 \
    for (int i_ = 0; i_ < 12; i_++)                                                      \
        for (int64_t N = rows[i_ / 4], F = cols[i_ % 4], once_ = 1; once_; once_ = 0)

static double gelu(double x)
{
    return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

static double gelu_erf(double x)
{
    return 0.5 * x * erfc(-x / sqrt(2));
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
static struct tensor wide(uint64_t key, int64_t N, int64_t F, enum dtype t)
{
    struct tensor x = randn_2d(key, N, F);
    for (int64_t i = 0; i < N * F; i++) tensor_f32(&x)[i] *= i % 3 ? 1.0f : 6.0f;
    return rounded(x, t);
}

/* A form of GELU, and what it should give. */
struct form {
    const char *name;
    double (*value)(double x);
    void (*fwd)(struct nn *nn, struct tensor *y, const struct tensor *x);
    void (*bwd)(struct nn *nn, struct tensor *dx, struct tensor *y, struct tensor *db,
                const struct tensor *dy, const struct tensor *x);
};
static const struct form forms[] = {
    {"gelu", gelu, nn_gelu_fwd, nn_gelu_bwd},
    {"gelu_erf", gelu_erf, nn_gelu_erf_fwd, nn_gelu_erf_bwd}};

/* db, which was `before`, has the sums of columns of dx in it too. */
static void check_bias(const struct setting *s, const struct tensor *db,
                       const struct tensor *before, const struct tensor *dx)
{
    const int64_t F = db->shape[0];
    double *want = in_double(before);
    for (int64_t i = 0; i < tensor_elements(dx); i++)
        want[i % F] += (double)tensor_f32(dx)[i];
    check_through(s, s->t, "the bias's gradient", db, want, 1e-12);
}

static void gelu_case(const struct setting *s, const struct form *form, int64_t N,
                      int64_t F)
{
    const struct tensor x = wide(1, N, F, s->t), dy = rounded(randn_2d(2, N, F), s->t);
    const struct tensor dev_x = sent(s, &x), dev_dy = sent(s, &dy);
    const struct tensor before = randn_1d(7, F);
    struct tensor y = dirty(s, N, F), dx = dirty(s, N, F), in_place = sent(s, &dy);
    struct tensor again = dirty(s, N, F), db = sent_f32(s, &before);
    form->fwd(s->nn, &y, &dev_x);
    form->bwd(s->nn, &dx, NULL, NULL, &dev_dy, &dev_x);
    form->bwd(s->nn, &in_place, &again, &db, &in_place, &dev_x);
    if (nn_is_measuring(s->nn)) return;

    struct tensor want_y = randn_2d(5, N, F), want_dx = randn_2d(6, N, F);
    for (int64_t i = 0; i < N * F; i++) {
        const double xi = tensor_f32(&x)[i], dyi = tensor_f32(&dy)[i];
        tensor_f32(&want_y)[i] = (float)form->value(xi);
        tensor_f32(&want_dx)[i] = (float)(dyi * slope(form->value, xi));
    }
    check_close(s, form->name, &y, &want_y, 1e-12);
    check_close(s, "its gradient", &dx, &want_dx, 1e-12);
    check_same_bits(s, "its gradient in place", &in_place, &dx);
    check_same_bits(s, "its value in backward", &again, &y);
    check_bias(s, &db, &before, &want_dx);
}

static void gelu_cases(const struct setting *s, void *arg)
{
    (void)arg;
    for (int f = 0; f < 2; f++) EACH_SHAPE(N, F) gelu_case(s, &forms[f], N, F);
}

TEST(both_forms_of_gelu_equal_plain_loops_and_central_differences)
{
    each_nn(gelu_cases, NULL);
}

static void swiglu_case(const struct setting *s, int64_t N, int64_t F)
{
    const struct tensor gu = wide(1, N, 2 * F, s->t);
    const struct tensor dy = rounded(randn_2d(2, N, F), s->t);
    const struct tensor dev_gu = sent(s, &gu), dev_dy = sent(s, &dy);
    const struct tensor before = randn_1d(7, 2 * F);
    struct tensor y = dirty(s, N, F), dgu = dirty(s, N, 2 * F),
                  alone = dirty(s, N, 2 * F);
    struct tensor again = dirty(s, N, F), db = sent_f32(s, &before);
    nn_swiglu_fwd(s->nn, &y, &dev_gu);
    nn_swiglu_bwd(s->nn, &dgu, &again, &db, &dev_dy, &dev_gu);
    nn_swiglu_bwd(s->nn, &alone, NULL, NULL, &dev_dy, &dev_gu);
    if (nn_is_measuring(s->nn)) return;

    struct tensor want_y = randn_2d(5, N, F), want = randn_2d(6, N, 2 * F);
    for (int64_t i = 0; i < N * F; i++) {
        const int64_t g = i / F * 2 * F + i % F, u = g + F;
        const double gate = tensor_f32(&gu)[g], up = tensor_f32(&gu)[u];
        const double dyi = tensor_f32(&dy)[i];
        tensor_f32(&want_y)[i] = (float)(silu(gate) * up);
        tensor_f32(&want)[g] = (float)(dyi * up * slope(silu, gate));
        tensor_f32(&want)[u] = (float)(dyi * silu(gate));
    }
    check_close(s, "swiglu", &y, &want_y, 1e-12);
    check_close(s, "its gradient", &dgu, &want, 1e-12);
    check_same_bits(s, "its gradient alone", &alone, &dgu);
    check_close(s, "its value in backward", &again, &want_y, 1e-12);
    check_bias(s, &db, &before, &want);
}

static void swiglu_cases(const struct setting *s, void *arg)
{
    (void)arg;
    EACH_SHAPE(N, F) swiglu_case(s, N, F);
}

TEST(swiglu_equals_plain_loops_and_central_differences)
{
    each_nn(swiglu_cases, NULL);
}

/* Far out both are the identity or zero, and their slopes one or zero; no inf - inf, 0 * inf */
static void far_out(const struct setting *s, void *arg)
{
    (void)arg;
    static const float far[] = {-1e6f, -1e4f, -200, -95,  -88.5f, 0,
                                88.5f, 95,    200,  1e4f, 1e6f};
    enum { N_FAR = sizeof far / sizeof *far };
    struct tensor x = randn_2d(1, 1, N_FAR), gu = randn_2d(2, 1, 2 * N_FAR);
    struct tensor dy = randn_2d(5, 1, N_FAR);
    for (int i = 0; i < N_FAR; i++) {
        /* the largest of fp16 is 65504 */
        const float limit = s->t == DTYPE_F16 ? 6e4f : 1e6f;
        tensor_f32(&x)[i] = tensor_f32(&gu)[i] = fminf(fmaxf(far[i], -limit), limit);
        tensor_f32(&dy)[i] = tensor_f32(&gu)[N_FAR + i] = 1;
    }
    rounded(x, s->t), rounded(gu, s->t);
    const struct tensor dev_x = sent(s, &x), dev_gu = sent(s, &gu), dev_dy = sent(s, &dy);
    struct tensor silu_y = dirty(s, 1, N_FAR), dgu = dirty(s, 1, 2 * N_FAR);
    nn_swiglu_fwd(s->nn, &silu_y, &dev_gu);
    nn_swiglu_bwd(s->nn, &dgu, NULL, NULL, &dev_dy, &dev_gu);
    for (int f = 0; f < 2; f++) {
        struct tensor y = dirty(s, 1, N_FAR), dx = dirty(s, 1, N_FAR);
        forms[f].fwd(s->nn, &y, &dev_x);
        forms[f].bwd(s->nn, &dx, NULL, NULL, &dev_dy, &dev_x);
        if (nn_is_measuring(s->nn)) continue;
        y = to_host(s->dev, &y), dx = to_host(s->dev, &dx);
        for (int i = 0; i < N_FAR; i++) {
            const float at = tensor_f32(&x)[i];
            assert_true(tensor_f32(&y)[i] == (at > 0 ? at : 0));
            check_within((double)tensor_f32(&dx)[i],
                         at > 0   ? 1
                         : at < 0 ? 0
                                  : 0.5,
                         f == 0 ? 0 : 1e-7);
        }
    }
    if (nn_is_measuring(s->nn)) return;
    silu_y = to_host(s->dev, &silu_y), dgu = to_host(s->dev, &dgu);
    const double ulp = s->t == DTYPE_F32 ? 1e-6 : 1.0 / 128;
    for (int i = 0; i < N_FAR; i++) {
        const float at = tensor_f32(&x)[i];
        check_within((double)tensor_f32(&silu_y)[i], silu((double)at),
                     ulp * fabs((double)at));
        check_within((double)tensor_f32(&dgu)[i], slope(silu, (double)at), 1e-4);
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

static void same_for_any_threads(const struct setting *s, void *arg)
{
    struct outputs *first = arg;
    const struct tensor x = wide(1, 33, 2 * 129, s->t), dy = randn_2d(2, 33, 2 * 129);
    const struct tensor half_dy = randn_2d(2, 33, 129);
    struct outputs now = {.isa = nn_isa(s->nn, s->t),
                          .y = randn_2d(3, 33, 2 * 129),
                          .dx = randn_2d(4, 33, 2 * 129),
                          .dgu = randn_2d(5, 33, 2 * 129)};
    if (nn_is_measuring(s->nn)) return;
    nn_gelu_fwd(s->nn, &now.y, &x);
    nn_gelu_bwd(s->nn, &now.dx, NULL, NULL, &dy, &x);
    nn_swiglu_bwd(s->nn, &now.dgu, NULL, NULL, &half_dy, &x);
    if (!first->isa || strcmp(first->isa, now.isa) != 0) *first = now;
    check_same_bits(s, "gelu", &now.y, &first->y);
    check_same_bits(s, "its gradient", &now.dx, &first->dx);
    check_same_bits(s, "swiglu's gradient", &now.dgu, &first->dgu);
}

TEST(activations_on_the_cpu_do_not_depend_on_the_number_of_threads)
{
    struct outputs first = {0};
    each_cpu_nn(DTYPE_F32, same_for_any_threads, &first);
}
