/* @devices cpu cuda
 * AdamW over a table of parameters against plain loops in double. */
#include "harness/harness.h"

#include <math.h>

#include "core/rng.h"
#include "optim/optim.h"

enum { N_PARAMS = 7, N = 96 };

/* Kinds in an order that makes runs of one and of several; gaps behind some, as alignment
 * makes them. */
#define PARAM(of, at, size)                                                              \
    {                                                                                    \
        .kind = of, .offset = at, .n = size, .shape = {size, 1}, .local = {size, 1},     \
        .slices = {{.rows = size, .owned = true}}, .n_slices = 1, .global_offset = at    \
    }
static struct param params[N_PARAMS] = {
    PARAM(PARAM_EMBEDDING, 0, 20), PARAM(PARAM_NORM, 20, 5), PARAM(PARAM_MATRIX, 32, 16),
    PARAM(PARAM_MATRIX, 48, 7),    PARAM(PARAM_BIAS, 55, 3), PARAM(PARAM_NORM, 64, 2),
    PARAM(PARAM_MATRIX, 72, 20),
};
static const struct param_table table = {
    .params = params, .n_params = N_PARAMS, .n_elements = N};

static const struct optim_options options = {
    .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1};

struct state {
    float w[N], m[N], v[N], grad[N];
    uint16_t low[N]; /* w in bf16 */
};

/* Index of the parameter that holds element i, -1 in a gap. */
static int owner(int64_t i)
{
    for (int k = 0; k < N_PARAMS; k++)
        if (i >= params[k].offset && i < params[k].offset + params[k].n) return k;
    return -1;
}

static void fill(struct state *s)
{
    float x[4 * N];
    rng_normal(7, 0, x, 4 * N);
    *s = (struct state){0};
    for (int64_t i = 0; i < N; i++) {
        if (owner(i) < 0) continue;
        s->w[i] = x[i];
        s->m[i] = 0.1f * x[N + i];
        s->v[i] = 0.01f * x[2 * N + i] * x[2 * N + i];
        s->grad[i] = x[3 * N + i];
    }
}

static struct device *dev;

static struct nn *open_nn(void)
{
    struct nn *nn = NULL;
    ASSERT_OK(test_device_open(&dev));
    ASSERT_OK(nn_create(&nn, dev, 2, 0));
    return nn;
}

static void close_nn(struct nn **nn)
{
    nn_destroy(nn);
    test_device_close(&dev);
}

/* The whole state in device memory, which is made once and filled again and again. */
static struct nn_adamw_range send(struct state **on, const struct state *s)
{
    if (*on)
        device_copy_in(dev, *on, s, sizeof *s);
    else
        *on = bytes_on_device(dev, s, sizeof *s);
    return (struct nn_adamw_range){.w = (*on)->w,
                                   .m = (*on)->m,
                                   .v = (*on)->v,
                                   .grad = (*on)->grad,
                                   .low = (*on)->low,
                                   .low_type = DTYPE_BF16,
                                   .rounding = NN_ROUND_STOCHASTIC,
                                   .key = 5,
                                   .n = N};
}

static struct nn_adamw_range part(struct nn_adamw_range r, int64_t start, int64_t n)
{
    r.w += start, r.m += start, r.v += start, r.grad += start;
    r.low = (uint16_t *)r.low + start;
    r.start = start, r.n = n;
    return r;
}

static void reference(struct state *s, const struct optim_options *o, int64_t start,
                      int64_t n, int64_t t, double lr, double grad_scale)
{
    for (int64_t i = start; i < start + n; i++) {
        if (owner(i) < 0) continue;
        const enum param_kind kind = params[owner(i)].kind;
        const bool decays = kind == PARAM_MATRIX ||
                            (kind == PARAM_EMBEDDING && o->decay_embeddings) ||
                            (kind == PARAM_NORM && o->decay_norms) ||
                            (kind == PARAM_BIAS && o->decay_biases);
        const double g = grad_scale * (double)s->grad[i];
        const double m = o->beta1 * (double)s->m[i] + (1 - o->beta1) * g;
        const double v = o->beta2 * (double)s->v[i] + (1 - o->beta2) * g * g;
        const double m_hat = m / (1 - pow(o->beta1, (double)t));
        const double v_hat = v / (1 - pow(o->beta2, (double)t));
        const double w = (double)s->w[i];
        s->w[i] = (float)(w - lr * (m_hat / (sqrt(v_hat) + o->eps) +
                                    (decays ? o->weight_decay : 0) * w));
        s->m[i] = (float)m;
        s->v[i] = (float)v;
    }
}

static void assert_equal(const struct state *got, const struct state *want)
{
    for (int64_t i = 0; i < N; i++) {
        const double tolerance = 1e-5 * (fabs((double)want->w[i]) + 1e-2);
        if (!(fabs((double)got->w[i] - (double)want->w[i]) <= tolerance))
            fail_msg("w[%d]: got %.9g, want %.9g", (int)i, (double)got->w[i],
                     (double)want->w[i]);
    }
    assert_true(nmse(got->m, want->m, N) < 1e-12);
    assert_true(nmse(got->v, want->v, N) < 1e-12);
}

/* One step on [start, start + n) of both. */
static void compare(struct nn *nn, const struct optim_options *o, struct state **on,
                    int64_t start, int64_t n, int64_t t)
{
    struct state got, want;
    fill(&got);
    want = got;
    struct nn_adamw_range r = part(send(on, &got), start, n);
    r.low = NULL;
    optim_adamw(nn, o, &table, &r, t, 3e-2, 0.5);
    device_copy_out(dev, &got, *on, sizeof got);
    reference(&want, o, start, n, t, 3e-2, 0.5);
    assert_equal(&got, &want);
}

TEST(every_combination_of_decay_rules_equals_plain_loops)
{
    struct nn *nn = open_nn();
    struct state *on = NULL;
    for (int rules = 0; rules < 8; rules++) {
        struct optim_options o = options;
        o.decay_embeddings = rules & 1;
        o.decay_norms = rules & 2;
        o.decay_biases = rules & 4;
        compare(nn, &o, &on, 0, N, 1);
        compare(nn, &o, &on, 0, N, 1000);
    }
    close_nn(&nn);
}

TEST(ranges_that_cut_parameters_equal_plain_loops)
{
    struct optim_options o = options;
    o.decay_embeddings = true;
    struct nn *nn = open_nn();
    struct state *on = NULL;
    const int64_t stride = device_is_host(dev) ? 1 : 3; /* each is several launches */
    for (int64_t start = 0; start < N; start += stride)
        for (int64_t n = 0; n <= N - start; n += stride)
            compare(nn, &o, &on, start, n, 3);
    close_nn(&nn);
}

/* Also the rounded copy, whose random bits follow from flat indices. */
TEST(two_parts_are_bitwise_the_whole)
{
    struct nn *nn = open_nn();
    for (int64_t cut = 1; cut < N; cut += 12) {
        struct state *on_whole = NULL, *on_parts = NULL, whole, parts;
        fill(&whole);
        parts = whole;
        const struct nn_adamw_range r = send(&on_whole, &whole);
        const struct nn_adamw_range q = send(&on_parts, &parts);
        const struct nn_adamw_range first = part(q, 0, cut), rest = part(q, cut, N - cut);
        optim_adamw(nn, &options, &table, &r, 2, 0.1, 1);
        optim_adamw(nn, &options, &table, &first, 2, 0.1, 1);
        optim_adamw(nn, &options, &table, &rest, 2, 0.1, 1);
        device_copy_out(dev, &whole, on_whole, sizeof whole);
        device_copy_out(dev, &parts, on_parts, sizeof parts);
        assert_memory_equal(&whole, &parts, sizeof whole);
        for (int64_t i = 0; i < N; i++) {
            const float low = dtype_from_bf16(whole.low[i]), w = whole.w[i];
            assert_true(fabsf(low - w) <= 0x1p-7f * fabsf(w));
        }
    }
    close_nn(&nn);
}

TEST(gaps_stay_zero)
{
    struct state s, *on = NULL;
    fill(&s);
    struct nn *nn = open_nn();
    memset(s.low, 0xff, sizeof s.low);
    const struct nn_adamw_range r = send(&on, &s);
    for (int64_t t = 1; t <= 3; t++) optim_adamw(nn, &options, &table, &r, t, 0.1, 1);
    device_copy_out(dev, &s, on, sizeof s);
    close_nn(&nn);
    for (int64_t i = 0; i < N; i++)
        if (owner(i) < 0)
            assert_true(s.w[i] == 0 && s.m[i] == 0 && s.v[i] == 0 && s.low[i] == 0);
}
