#include "nn/ops_cpu.h"
#include "nn/stripe.h"
#include "nn/vec.h"

/* A form's value and slope at x. */
struct gelu_point {
    vec y, slope;
};
typedef struct gelu_point gelu_form(vec x);

/* (1 + tanh(u)) / 2 = sigmoid(2u) =: s, which needs one exp and does not cancel for x << 0:
 *   y = x s      dy/dx = s + x s (1 - s) 2 du/dx
 * with 2u = a (x + b x^3), a = 2 sqrt(2/pi), b = 0.044715. */
static inline struct gelu_point gelu_tanh(vec x)
{
    const float a = 1.5957691216057308f, b = 0.044715f;
    const vec xx = x * x, s = vec_sigmoid(a * x * (1.0f + b * xx)), y = x * s;
    return (struct gelu_point){y, s + y * (1.0f - s) * (a + 3.0f * a * b * xx)};
}

/* Phi(x) = erfc(-x / sqrt(2)) / 2, relative error below 2e-7: Press et al., Numerical Recipes in
 * Fortran 77, section 6.2, erfcc. */
static inline float normal_cdf(float x)
{
    const float z = fabsf(x) * 0.70710678118654752f, t = 1.0f / (1.0f + 0.5f * z);
    float p = 0.17087277f;
    p = -0.82215223f + t * p;
    p = 1.48851587f + t * p;
    p = -1.13520398f + t * p;
    p = 0.27886807f + t * p;
    p = -0.18628806f + t * p;
    p = 0.09678418f + t * p;
    p = 0.37409196f + t * p;
    p = 1.00002368f + t * p;
    p = -1.26551223f + t * p;
    const float tail = 0.5f * t * nn_exp(p - z * z);
    return x < 0 ? tail : 1.0f - tail;
}

/* y = x Phi(x)      dy/dx = Phi(x) + x phi(x), phi(x) = exp(-x^2/2) / sqrt(2 pi) */
static inline struct gelu_point gelu_exact(vec x)
{
    float cdf[VEC];
    memcpy(cdf, &x, sizeof cdf);
    for (int i = 0; i < VEC; i++) cdf[i] = normal_cdf(cdf[i]);
    vec Phi;
    memcpy(&Phi, cdf, sizeof Phi);
    const vec phi = 0.39894228040143268f * vec_exp(-0.5f * x * x);
    return (struct gelu_point){x * Phi, Phi + x * phi};
}

static inline void row_fwd(gelu_form *form, elem *y, const elem *x, int64_t F)
{
    EACH_VEC(f, k, F) vec_store(y + f, form(vec_load(x + f, k)).y, k);
}

/* y, db: NULL, or to be made again and added to */
static inline void row_bwd(gelu_form *form, elem *dx, elem *y, float *db, const elem *dy,
                           const elem *x, int64_t F)
{
    EACH_VEC(f, k, F)
    {
        const struct gelu_point p = form(vec_load(x + f, k));
        const vec d = vec_load(dy + f, k) * p.slope;
        vec_store(dx + f, d, k);
        if (y) vec_store(y + f, p.y, k);
        if (db) vec_add_to(db + f, d, k);
    }
}

void NN_CPU(gelu_row)(elem *y, const elem *x, int64_t n)
{
    row_fwd(gelu_tanh, y, x, n);
}

/* Both functions of a form, which a team would call through a pointer if they were given it.  Each thread
 * sums its rows' share of db on its own. */
/* clang-format off */
#define FORM(name, form)                                                                 \
    void NN_CPU(name##_fwd)(int threads, elem *y, const elem *x, int64_t N, int64_t F)   \
    {                                                                                    \
        _Pragma("omp parallel for num_threads(threads) schedule(static)")                \
        for (int64_t n = 0; n < N; n++) row_fwd(form, y + n * F, x + n * F, F);          \
    }                                                                                    \
    void NN_CPU(name##_bwd)(int threads, elem *dx, elem *y, float *db, float *partial,   \
                            const elem *dy, const elem *x, int64_t N, int64_t F)         \
    {                                                                                    \
        _Pragma("omp parallel num_threads(threads)")                                     \
        {                                                                                \
            float *mine = db ? stripe_partial(partial, F) : NULL;                        \
            _Pragma("omp for schedule(static)")                                          \
            for (int64_t n = 0; n < N; n++)                                              \
                row_bwd(form, dx + n * F, y ? y + n * F : NULL, mine, dy + n * F,        \
                        x + n * F, F);                                                   \
            if (db) stripe_add_partials(db, partial, F);                                 \
        }                                                                                \
    }
/* clang-format on */

FORM(gelu, gelu_tanh)
FORM(gelu_erf, gelu_exact)
