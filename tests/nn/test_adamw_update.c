/* @devices cpu cuda
 * The AdamW update against plain loops in double, and its rounded copy of the weights bit for
 * bit. */
#include "each_nn.h"

#include "core/rng.h"

static const int64_t sizes[] = {1, 7, 33, 129, 768, 10007};

struct state {
    struct tensor w, m, v;
};

static struct state start(int64_t n)
{
    struct state s = {.w = randn_1d(1, n), .m = randn_1d(2, n), .v = randn_1d(3, n)};
    for (int64_t i = 0; i < n; i++) tensor_f32(&s.v)[i] *= tensor_f32(&s.v)[i];
    return s;
}

static struct state state_on_device(const struct setting *s, const struct state *x)
{
    return (struct state){sent_f32(s, &x->w), sent_f32(s, &x->m), sent_f32(s, &x->v)};
}

static struct state state_to_host(const struct setting *s, const struct state *x)
{
    return (struct state){to_host(s->dev, &x->w), to_host(s->dev, &x->m),
                          to_host(s->dev, &x->v)};
}

static struct nn_adamw_range range_of(const struct state *dev, const struct tensor *grad)
{
    return (struct nn_adamw_range){.w = tensor_f32(&dev->w),
                                   .m = tensor_f32(&dev->m),
                                   .v = tensor_f32(&dev->v),
                                   .grad = tensor_f32(grad),
                                   .n = tensor_elements(grad)};
}

static struct nn_adamw rule(int t)
{
    return (struct nn_adamw){.lr = 3e-3f,
                             .beta1 = 0.9f,
                             .beta2 = 0.95f,
                             .eps = 1e-8f,
                             .weight_decay = 0.1f,
                             .c1 = (float)(1 - pow(0.9, t)),
                             .c2 = (float)(1 - pow(0.95, t)),
                             .grad_scale = 0.37f};
}

static void expect(struct state *s, const float *grad, int64_t n,
                   const struct nn_adamw *p)
{
    const double b1 = p->beta1, b2 = p->beta2, scale = p->grad_scale;
    for (int64_t i = 0; i < n; i++) {
        const double g = scale * grad[i], w = tensor_f32(&s->w)[i];
        const double m = b1 * tensor_f32(&s->m)[i] + (1 - b1) * g;
        const double v = b2 * tensor_f32(&s->v)[i] + (1 - b2) * g * g;
        const double step =
            (m / p->c1) / (sqrt(v / p->c2) + p->eps) + p->weight_decay * w;
        tensor_f32(&s->w)[i] = (float)(w - p->lr * step);
        tensor_f32(&s->m)[i] = (float)m;
        tensor_f32(&s->v)[i] = (float)v;
    }
}

/* One step from `before` (device), compared; also the change of w by itself, which is small
 * against w. */
static void compare_step(const struct setting *s, const struct state *dev, int64_t n,
                         int t)
{
    const struct nn_adamw p = rule(t);
    const struct tensor grad = randn_1d(10 + (uint64_t)t, n),
                        dev_grad = sent_f32(s, &grad);
    const struct nn_adamw_range r = range_of(dev, &dev_grad);
    const struct state before = state_to_host(s, dev);
    struct state want = {copied(&before.w), copied(&before.m), copied(&before.v)};
    nn_adamw_update(s->nn, &r, &p);
    if (nn_is_measuring(s->nn)) return;
    expect(&want, grad.data, n, &p);
    check_close(s, "w", &dev->w, &want.w, 1e-13);
    check_close(s, "m", &dev->m, &want.m, 1e-12);
    check_close(s, "v", &dev->v, &want.v, 1e-12);
    const struct tensor left = to_host(s->dev, &dev_grad);
    for (int64_t i = 0; i < n; i++) assert_true(tensor_f32(&left)[i] == 0);
    struct tensor moved = to_host(s->dev, &dev->w), want_moved = want.w;
    for (int64_t i = 0; i < n; i++) {
        tensor_f32(&moved)[i] -= tensor_f32(&before.w)[i];
        tensor_f32(&want_moved)[i] -= tensor_f32(&before.w)[i];
    }
    CHECK_CLOSE(&moved, &want_moved, 1e-8);
}

static void three_steps(const struct setting *s, void *arg)
{
    (void)arg;
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        const struct state host = start(sizes[k]), dev = state_on_device(s, &host);
        for (int t = 1; t <= 3; t++) compare_step(s, &dev, sizes[k], t);
    }
}

TEST(adamw_update_equals_plain_loops)
{
    each_nn_of_type(DTYPE_F32, three_steps, NULL);
}

/* The first step of zero moments moves each weight by lr, against its gradient's sign. */
static void first_step(const struct setting *s, void *arg)
{
    (void)arg;
    struct state host = start(129);
    memset(host.m.data, 0, tensor_bytes(&host.m));
    memset(host.v.data, 0, tensor_bytes(&host.v));
    const struct state dev = state_on_device(s, &host);
    const struct tensor grad = randn_1d(4, 129), dev_grad = sent_f32(s, &grad);
    const struct nn_adamw_range r = range_of(&dev, &dev_grad);
    struct nn_adamw p = rule(1);
    p.weight_decay = 0;
    nn_adamw_update(s->nn, &r, &p);
    if (nn_is_measuring(s->nn)) return;
    const struct state after = state_to_host(s, &dev);
    for (int64_t i = 0; i < 129; i++) {
        const float moved = tensor_f32(&after.w)[i] - tensor_f32(&host.w)[i];
        const float want = tensor_f32(&grad)[i] > 0 ? -p.lr : p.lr;
        assert_true(fabsf(moved - want) < 1e-4f * p.lr + 3e-7f);
    }
}

TEST(adamw_first_step_has_the_length_of_the_learning_rate)
{
    each_nn_of_type(DTYPE_F32, first_step, NULL);
}

/* moments and weights that are all zero must not make NaN, and nothing lies past n */
static void zero_gradient(const struct setting *s, void *arg)
{
    (void)arg;
    enum { SIZE = 40, USED = 37 };
    struct state host = start(SIZE);
    struct tensor grad = randn_1d(4, SIZE);
    for (int i = 0; i < SIZE; i++) {
        tensor_f32(&host.w)[i] = 2;
        tensor_f32(&host.m)[i] = tensor_f32(&host.v)[i] = i < USED ? 0 : 5;
        tensor_f32(&grad)[i] = 0;
    }
    const struct state dev = state_on_device(s, &host);
    grad = sent_f32(s, &grad);
    struct nn_adamw_range r = range_of(&dev, &grad);
    r.n = USED;
    struct nn_adamw p = rule(1);
    p.weight_decay = 0;
    nn_adamw_update(s->nn, &r, &p);
    if (nn_is_measuring(s->nn)) return;
    check_exact(s, "w", &dev.w, &host.w);
    check_exact(s, "m", &dev.m, &host.m);
    check_exact(s, "v", &dev.v, &host.v);
}

TEST(adamw_without_gradient_leaves_the_weight_alone_and_stays_inside_its_range)
{
    each_nn_of_type(DTYPE_F32, zero_gradient, NULL);
}

struct first {
    const char *isa;
    struct state s;
};

static void same_for_any_threads(const struct setting *s, void *arg)
{
    struct first *first = arg;
    const struct nn_adamw p = rule(2);
    const struct tensor grad = randn_1d(10, 10007);
    const struct first now = {.isa = nn_isa(s->nn, s->t), .s = start(10007)};
    const struct nn_adamw_range r = range_of(&now.s, &grad);
    nn_adamw_update(s->nn, &r, &p);
    if (nn_is_measuring(s->nn)) return;
    if (!first->isa || strcmp(first->isa, now.isa) != 0) *first = now;
    check_same_bits(s, "w", &now.s.w, &first->s.w);
    check_same_bits(s, "m", &now.s.m, &first->s.m);
    check_same_bits(s, "v", &now.s.v, &first->s.v);
}

TEST(adamw_update_on_the_cpu_does_not_depend_on_the_number_of_threads)
{
    struct first first = {0};
    each_cpu_nn(DTYPE_F32, same_for_any_threads, &first);
}

/* ---- the rounded copy --------------------------------------------------------------------- */

struct rounding_case {
    enum dtype type;
    enum nn_rounding rounding;
    uint64_t key;
    int64_t start, n;
};

/* w in bf16 by nn.h's definition: 16 random bits added below the kept ones, then cut */
static uint16_t stochastic(float w, uint64_t key, int64_t at)
{
    const uint64_t draws = rng_u64(key, (uint64_t)at / 4);
    uint32_t bits;
    memcpy(&bits, &w, sizeof bits);
    bits += (uint32_t)(draws >> (16 * (at % 4))) & 0xffff;
    return (uint16_t)(bits >> 16);
}

/* Weights of all sizes, so that fp16 overflows and has subnormals. */
static struct state wide_start(int64_t n)
{
    struct state s = start(n);
    for (int64_t i = 0; i < n; i++)
        tensor_f32(&s.w)[i] = ldexpf(tensor_f32(&s.w)[i], (int)(i % 61) - 35);
    return s;
}

/* low begins inside memory that must stay as it is around it */
static void round_copy(const struct setting *s, void *arg)
{
    const struct rounding_case *c = arg;
    enum { BEFORE = 8, BEHIND = 5 };
    const struct state host = wide_start(c->n), dev = state_on_device(s, &host);
    const struct tensor grad = randn_1d(4, c->n), dev_grad = sent_f32(s, &grad);
    const size_t total = (size_t)c->n + BEFORE + BEHIND;
    uint16_t *low = test_alloc(total * sizeof *low);
    memset(low, 0xa5, total * sizeof *low);
    uint16_t *dev_low = bytes_on_device(s->dev, low, total * sizeof *low);
    struct nn_adamw_range r = range_of(&dev, &dev_grad);
    r.low = dev_low + BEFORE;
    r.low_type = c->type;
    r.rounding = c->rounding;
    r.key = c->key;
    r.start = c->start;
    const struct nn_adamw p = rule(2);
    nn_adamw_update(s->nn, &r, &p);
    if (nn_is_measuring(s->nn)) return;
    const struct state after = state_to_host(s, &dev);
    device_copy_out(s->dev, low, dev_low, total * sizeof *low);
    for (int64_t i = -BEFORE; i < c->n + BEHIND; i++) {
        uint16_t want = 0xa5a5;
        if (i >= 0 && i < c->n && c->rounding == NN_ROUND_STOCHASTIC)
            want = stochastic(tensor_f32(&after.w)[i], c->key, c->start + i);
        else if (i >= 0 && i < c->n)
            dtype_convert(&want, c->type, tensor_f32(&after.w) + i, DTYPE_F32, 1);
        if (low[BEFORE + i] != want)
            fail_msg("low[%lld] of %lld is %04x, not %04x", (long long)i, (long long)c->n,
                     low[BEFORE + i], want);
    }
}

TEST(the_nearest_copy_is_bit_for_bit_that_of_the_host)
{
    for (enum dtype t = DTYPE_BF16; t <= DTYPE_F16; t++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            struct rounding_case c = {.type = t, .n = sizes[i]};
            each_nn_of_type(DTYPE_F32, round_copy, &c);
        }
    }
}

/* start: one number in four has its bits at the beginning of a random number; past 2^32 */
TEST(the_stochastic_copy_is_bit_for_bit_that_of_its_definition)
{
    static const int64_t starts[] = {0, 1, 2, 7, (1LL << 34) + 3};
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
            struct rounding_case c = {.type = DTYPE_BF16,
                                      .rounding = NN_ROUND_STOCHASTIC,
                                      .key = 0x123456789abcdef0u + i,
                                      .start = starts[i],
                                      .n = sizes[k]};
            each_nn_of_type(DTYPE_F32, round_copy, &c);
        }
    }
}

/* The mean of many roundings of one number is that number: with n draws its standard deviation is
 * at most half a unit in the last place over sqrt(n). */
static void mean_is_the_number(const struct setting *s, void *arg)
{
    (void)arg;
    enum { N = 40000 };
    const float values[] = {1.0f, 1.00390625f - 0x1p-14f, -1.001953125f, 1.0000001f};
    for (int k = 0; k < 4; k++) {
        struct state host = start(N);
        struct tensor grad = randn_1d(4, N);
        for (int64_t i = 0; i < N; i++) tensor_f32(&host.w)[i] = values[k];
        grad = sent_f32(s, &grad);
        const struct state dev = state_on_device(s, &host);
        struct nn_adamw p = rule(2);
        p.lr = 0;
        struct nn_adamw_range r = range_of(&dev, &grad);
        struct tensor low = dirty_on_device(s->dev, DTYPE_BF16, 1, N);
        r.low = low.data;
        r.low_type = DTYPE_BF16;
        r.rounding = NN_ROUND_STOCHASTIC;
        r.key = 99;
        nn_adamw_update(s->nn, &r, &p);
        if (nn_is_measuring(s->nn)) continue;
        low = to_host(s->dev, &low);
        double mean = 0;
        for (int64_t i = 0; i < N; i++) mean += (double)tensor_f32(&low)[i] / N;
        check_within(mean, (double)values[k], 5 * 0x1p-8 / sqrt(N));
    }
}

TEST(stochastic_rounding_is_unbiased)
{
    each_nn_of_type(DTYPE_F32, mean_is_the_number, NULL);
}

/* A NaN in the weights must not turn into a number: of this one, which GPUs make, every bit below
 * the sign is set, so that adding random bits carries into the sign. */
static void not_a_number(const struct setting *s, void *arg)
{
    const struct rounding_case *c = arg;
    enum { N = 64 };
    static const uint32_t nan_bits = 0x7fffffff;
    struct state host = start(N);
    struct tensor grad = randn_1d(4, N), low = dirty_on_device(s->dev, c->type, 1, N);
    for (int64_t i = 0; i < N; i++)
        memcpy(tensor_f32(&host.w) + i, &nan_bits, sizeof nan_bits);
    grad = sent_f32(s, &grad);
    device_zero(s->dev, low.data, tensor_bytes(&low));
    const struct state dev = state_on_device(s, &host);
    const struct nn_adamw p = rule(2);
    struct nn_adamw_range r = range_of(&dev, &grad);
    r.low = low.data;
    r.low_type = c->type;
    r.rounding = c->rounding;
    nn_adamw_update(s->nn, &r, &p);
    if (nn_is_measuring(s->nn)) return;
    low = to_host(s->dev, &low);
    for (int64_t i = 0; i < N; i++) assert_true(isnan(tensor_f32(&low)[i]));
}

TEST(the_copy_of_a_nan_is_a_nan)
{
    struct rounding_case cases[] = {
        {.type = DTYPE_BF16, .rounding = NN_ROUND_NEAREST},
        {.type = DTYPE_F16, .rounding = NN_ROUND_NEAREST},
        {.type = DTYPE_BF16, .rounding = NN_ROUND_STOCHASTIC},
    };
    for (int i = 0; i < 3; i++) each_nn_of_type(DTYPE_F32, not_a_number, &cases[i]);
}
