/* @devices cpu cuda    @amx
 * @timeout 120
 * @capability 75 86
 * Tiled attention against plain loops in double, whose gradient is checked against central
 * differences of their forward. */
#include "attention_reference.h"

#include "core/rng.h"

struct attention_case {
    struct nn_attention a;
    struct tensor qkv, dy;
    struct attention_reference expected;
};

/* Documents of one row up to a third of T. */
static const int32_t *documents(int64_t B, int64_t T)
{
    int32_t *start = test_alloc((size_t)(B * T) * sizeof *start);
    const uint64_t longest = (uint64_t)(T / 3 + 1);
    for (int64_t b = 0; b < B; b++) {
        for (int64_t i = 0, first = 0, next = 0; i < T; i++) {
            if (i == next) {
                first = i;
                next = i + 1 + (int64_t)(rng_u64(7, (uint64_t)(b * T + i)) % longest);
            }
            start[b * T + i] = (int32_t)first;
        }
    }
    return start;
}

static struct attention_case make(enum dtype t, struct nn_attention a, bool packed)
{
    a.scale = 1.0f / sqrtf((float)a.D);
    if (packed) a.doc_start = documents(a.B, a.T);
    struct attention_case c = {.a = a};
    c.qkv = rounded(randn_2d(1, a.B * a.T, (a.H + 2 * a.K) * a.D), t);
    c.dy = rounded(randn_2d(2, a.B * a.T, a.H * a.D), t);
    c.expected = attention_expected(&c.a, in_double(&c.qkv), in_double(&c.dy));
    return c;
}

/* The same with the documents in the device's memory. */
static struct nn_attention sent_attention(const struct setting *s,
                                          const struct nn_attention *a)
{
    struct nn_attention b = *a;
    if (a->doc_start) b.doc_start = ints_on_device(s->dev, a->doc_start, a->B * a->T);
    return b;
}

static void compare(const struct setting *s, void *arg)
{
    const struct attention_case *c = arg;
    const struct nn_attention a = sent_attention(s, &c->a);
    const int64_t N = a.B * a.T, HD = a.H * a.D, W = (a.H + 2 * a.K) * a.D;
    const struct tensor qkv = sent(s, &c->qkv), dy = sent(s, &c->dy);
    struct tensor y[2], lse[2], dqkv[2];
    for (int i = 0; i < 2; i++) {
        y[i] = dirty(s, N, HD);
        lse[i] = dirty_f32(s, a.B * a.H, a.T);
        dqkv[i] = dirty(s, N, W);
        nn_attention_fwd(s->nn, &y[i], &lse[i], &qkv, &a);
        nn_attention_bwd(s->nn, &dqkv[i], &dy, &y[i], &lse[i], &qkv, &a);
    }
    if (nn_is_measuring(s->nn)) return;
    check_near(s, "y", &y[0], c->expected.y, 1e-12);
    check_near(s, "lse", &lse[0], c->expected.lse, 1e-12);
    check_near(s, "dqkv", &dqkv[0], c->expected.dqkv, 1e-12);
    check_same_bits(s, "y", &y[0], &y[1]);
    check_same_bits(s, "lse", &lse[0], &lse[1]);
    check_same_bits(s, "dqkv", &dqkv[0], &dqkv[1]);
}

static const struct nn_attention shapes[] = {
    {.B = 1, .T = 1, .H = 1, .K = 1, .D = 1},
    {.B = 2, .T = 5, .H = 2, .K = 1, .D = 3},
    {.B = 2, .T = 64, .H = 2, .K = 2, .D = 8},
    {.B = 1, .T = 65, .H = 9, .K = 3, .D = 24},
    /* query heads 1 to 3 and 3 to 7 of a model with groups of 2 and 4 */
    {.B = 2, .T = 37, .H = 3, .K = 2, .D = 16, .group = 2, .first = 1},
    {.B = 1, .T = 70, .H = 5, .K = 2, .D = 8, .group = 4, .first = 3},
    {.B = 1, .T = 257, .H = 3, .K = 1, .D = 16},
    {.B = 3, .T = 131, .H = 2, .K = 2, .D = 64},
    {.B = 1, .T = 800, .H = 2, .K = 1, .D = 5},  /* several key tiles, dealt to threads */
    {.B = 1, .T = 545, .H = 2, .K = 1, .D = 64}, /* whole panels, the last row alone */
    {.B = 1, .T = 161, .H = 2, .K = 1, .D = 96},
    {.B = 1, .T = 300, .H = 3, .K = 1, .D = 128},
};

/* What the kernels have code for: head sizes up to 32, 64, 96, 128 and 256, multiples of 8 and
 * others; tiles that are full, begun, and one row long. */
static const struct nn_attention cuda_shapes[] = {
    {.B = 1, .T = 1, .H = 1, .K = 1, .D = 1},
    {.B = 2, .T = 5, .H = 2, .K = 1, .D = 3},
    {.B = 2, .T = 64, .H = 2, .K = 2, .D = 8},
    {.B = 1, .T = 65, .H = 6, .K = 2, .D = 24},
    {.B = 1, .T = 300, .H = 2, .K = 1, .D = 32},
    {.B = 2, .T = 129, .H = 4, .K = 2, .D = 64},
    {.B = 1, .T = 257, .H = 1, .K = 1, .D = 64},
    {.B = 1, .T = 70, .H = 2, .K = 1, .D = 80},
    {.B = 2, .T = 131, .H = 2, .K = 1, .D = 128},
    {.B = 1, .T = 97, .H = 2, .K = 2, .D = 100},
    {.B = 1, .T = 33, .H = 1, .K = 1, .D = 256},
};

static void every_shape(bool packed)
{
    const bool cpu = tests_on_cpu();
    const struct nn_attention *list = cpu ? shapes : cuda_shapes;
    const size_t n =
        cpu ? sizeof shapes / sizeof *shapes : sizeof cuda_shapes / sizeof *cuda_shapes;
    EACH_TYPE(t)
    {
        for (size_t i = 0; i < n; i++) {
            struct attention_case c = make(t, list[i], packed);
            each_nn_of_type(t, compare, &c);
        }
    }
}

TEST(tiled_attention_and_gradient_equal_double_loops)
{
    every_shape(false);
}

TEST(packed_documents_do_not_see_each_other)
{
    every_shape(true);
}

static void large_scores(const struct setting *s, void *arg)
{
    const struct attention_case *c = arg;
    const int64_t T = c->a.T, D = c->a.D;
    const struct tensor qkv = sent(s, &c->qkv);
    struct tensor y = dirty(s, T, D), lse = dirty_f32(s, 1, T);
    nn_attention_fwd(s->nn, &y, &lse, &qkv, &c->a);
    if (nn_is_measuring(s->nn)) return;
    /* scores of 400 have ulp 3e-5 */
    check_near(s, "y", &y, c->expected.y, 1e-10);
    check_near(s, "lse", &lse, c->expected.lse, 1e-10);
}

/* exp would overflow or vanish without the running maximum */
TEST(large_scores_stay_exact)
{
    EACH_TYPE(t)
    {
        const struct nn_attention a = {.B = 1, .T = 300, .H = 1, .K = 1, .D = 8};
        struct attention_case c = make(t, a, false);
        float *x = tensor_f32(&c.qkv);
        for (int64_t i = 0; i < tensor_elements(&c.qkv); i++) x[i] *= i % 24 < 16 ? 8 : 1;
        c.expected = attention_expected(&c.a, in_double(&c.qkv), in_double(&c.dy));
        double largest = 0;
        for (int64_t i = 0; i < a.T; i++) largest = fmax(largest, c.expected.lse[i]);
        assert_true(largest > 200);
        each_nn_of_type(t, large_scores, &c);
    }
}

TEST(reference_gradient_equals_central_differences)
{
    struct attention_case c = make(
        DTYPE_F32, (struct nn_attention){.B = 2, .T = 7, .H = 4, .K = 2, .D = 3}, true);
    double *qkv = in_double(&c.qkv), *dy = in_double(&c.dy);
    const double h = 1e-5;
    for (int64_t i = 0; i < tensor_elements(&c.qkv); i++) {
        const double value = qkv[i];
        double loss[2];
        for (int side = 0; side < 2; side++) {
            qkv[i] = value + (side ? h : -h);
            const struct attention_reference r = attention_expected(&c.a, qkv, NULL);
            loss[side] = dot(r.y, dy, tensor_elements(&c.dy));
        }
        qkv[i] = value;
        check_within((loss[1] - loss[0]) / (2 * h), c.expected.dqkv[i], 1e-8);
    }
}

/* Row t of forward is what decoding gives for token t. */
static void decode_all(const struct setting *s, void *arg)
{
    const struct attention_case *c = arg;
    const struct nn_attention *a = &c->a;
    const int64_t W = (a->H + 2 * a->K) * a->D, HD = a->H * a->D;
    struct tensor ck = dirty(s, a->B * a->T, a->K * a->D);
    struct tensor cv = dirty(s, a->B * a->T, a->K * a->D);
    struct tensor x = randn_2d(3, a->B, W), got = randn_2d(4, a->B * a->T, HD);
    for (int64_t t = 0; t < a->T; t++) {
        for (int64_t b = 0; b < a->B; b++)
            memcpy(tensor_f32(&x) + b * W, tensor_f32(&c->qkv) + (b * a->T + t) * W,
                   (size_t)W * sizeof(float));
        const struct tensor dev_x = sent(s, &x);
        struct tensor y = dirty(s, a->B, HD);
        nn_attention_decode(s->nn, &y, &ck, &cv, &dev_x, t, a);
        if (nn_is_measuring(s->nn)) continue;
        y = to_host(s->dev, &y);
        for (int64_t b = 0; b < a->B; b++)
            memcpy(tensor_f32(&got) + (b * a->T + t) * HD, tensor_f32(&y) + b * HD,
                   (size_t)HD * sizeof(float));
    }
    if (nn_is_measuring(s->nn)) return;
    for (int64_t n = 0; n < a->B * a->T; n++) {
        const struct tensor row = tensor_rows(&got, n, 1);
        check_error("decoded row", &row, c->expected.y + n * HD,
                    limit_of(s, s->t, 1e-12));
    }
}

TEST(decoding_token_by_token_equals_forward)
{
    static const struct nn_attention small[] = {
        {.B = 1, .T = 1, .H = 1, .K = 1, .D = 1},
        {.B = 3, .T = 37, .H = 9, .K = 3, .D = 24},
        {.B = 2, .T = 70, .H = 4, .K = 4, .D = 64},
        {.B = 1, .T = 263, .H = 2, .K = 1, .D = 40}, /* more keys than a part on cuda */
    };
    EACH_TYPE(t)
    {
        for (size_t i = 0; i < sizeof small / sizeof *small; i++) {
            struct attention_case c = make(t, small[i], false);
            each_nn_of_type(t, decode_all, &c);
        }
    }
}
