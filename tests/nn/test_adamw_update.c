/* The AdamW update against plain loops in double. */
#include "each_nn.h"

#include <math.h>

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

/* three steps, compared after each from the same state; also the change of w by itself, which
 * is small against w */
static void three_steps(struct nn *nn, void *arg)
{
    (void)arg;
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        const int64_t n = sizes[k];
        struct state s = start(n);
        for (int t = 1; t <= 3; t++) {
            const struct nn_adamw p = rule(t);
            const struct tensor grad = randn_1d(10 + (uint64_t)t, n);
            struct state want = {copy_of(&s.w), copy_of(&s.m), copy_of(&s.v)};
            struct tensor moved = copy_of(&s.w), want_moved = copy_of(&s.w);
            expect(&want, grad.data, n, &p);
            nn_adamw_update(nn, s.w.data, s.m.data, s.v.data, grad.data, n, &p);
            CHECK_CLOSE(&s.w, &want.w, 1e-13);
            CHECK_CLOSE(&s.m, &want.m, 1e-12);
            CHECK_CLOSE(&s.v, &want.v, 1e-12);
            for (int64_t i = 0; i < n; i++) {
                tensor_f32(&moved)[i] -= tensor_f32(&s.w)[i];
                tensor_f32(&want_moved)[i] -= tensor_f32(&want.w)[i];
            }
            CHECK_CLOSE(&moved, &want_moved, 1e-8);
        }
    }
}

TEST(adamw_update_equals_plain_loops)
{
    each_nn(three_steps, NULL);
}

/* The first step of zero moments moves each weight by lr, against its gradient's sign. */
static void first_step(struct nn *nn, void *arg)
{
    (void)arg;
    struct tensor w = randn_1d(1, 129), m = randn_1d(2, 129), v = randn_1d(3, 129);
    const struct tensor before = copy_of(&w), grad = randn_1d(4, 129);
    memset(m.data, 0, tensor_bytes(&m));
    memset(v.data, 0, tensor_bytes(&v));
    struct nn_adamw p = rule(1);
    p.weight_decay = 0;
    nn_adamw_update(nn, w.data, m.data, v.data, grad.data, 129, &p);
    for (int64_t i = 0; i < 129; i++) {
        const float moved = tensor_f32(&w)[i] - tensor_f32(&before)[i];
        const float want = tensor_f32(&grad)[i] > 0 ? -p.lr : p.lr;
        assert_true(fabsf(moved - want) < 1e-4f * p.lr + 3e-7f);
    }
}

TEST(adamw_first_step_has_the_length_of_the_learning_rate)
{
    each_nn(first_step, NULL);
}

/* moments and weights that are all zero must not make NaN, and nothing lies past n */
static void zero_gradient(struct nn *nn, void *arg)
{
    (void)arg;
    enum { SIZE = 40, USED = 37 };
    float w[SIZE], m[SIZE], v[SIZE], grad[SIZE] = {0};
    for (int i = 0; i < SIZE; i++) w[i] = 2, m[i] = v[i] = i < USED ? 0 : 5;
    struct nn_adamw p = rule(1);
    p.weight_decay = 0;
    nn_adamw_update(nn, w, m, v, grad, USED, &p);
    for (int i = 0; i < SIZE; i++) {
        assert_true(w[i] == 2);
        assert_true(m[i] == (i < USED ? 0 : 5) && v[i] == m[i]);
    }
}

TEST(adamw_without_gradient_leaves_the_weight_alone_and_stays_inside_its_range)
{
    each_nn(zero_gradient, NULL);
}

struct first {
    const char *isa;
    struct state s;
};

static void same_for_any_threads(struct nn *nn, void *arg)
{
    struct first *first = arg;
    const struct nn_adamw p = rule(2);
    const struct tensor grad = randn_1d(10, 10007);
    struct first now = {.isa = nn_isa(nn), .s = start(10007)};
    nn_adamw_update(nn, now.s.w.data, now.s.m.data, now.s.v.data, grad.data, 10007, &p);
    if (!first->isa || strcmp(first->isa, now.isa) != 0) *first = now;
    assert_true(same_bits(&now.s.w, &first->s.w) && same_bits(&now.s.m, &first->s.m) &&
                same_bits(&now.s.v, &first->s.v));
}

TEST(adamw_update_does_not_depend_on_the_number_of_threads)
{
    struct first first = {0};
    each_nn(same_for_any_threads, &first);
}
