/* @timeout 120
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

static struct attention_case make(struct nn_attention a, bool packed)
{
    a.scale = 1.0f / sqrtf((float)a.D);
    if (packed) a.doc_start = documents(a.B, a.T);
    struct attention_case c = {.a = a};
    c.qkv = randn_2d(1, a.B * a.T, (a.H + 2 * a.K) * a.D);
    c.dy = randn_2d(2, a.B * a.T, a.H * a.D);
    c.expected = attention_expected(&c.a, in_double(&c.qkv), in_double(&c.dy));
    return c;
}

static void compare(struct nn *nn, void *arg)
{
    const struct attention_case *c = arg;
    const struct nn_attention *a = &c->a;
    const int64_t N = a->B * a->T, HD = a->H * a->D, W = (a->H + 2 * a->K) * a->D;
    struct tensor y[2], lse[2], dqkv[2];
    for (int i = 0; i < 2; i++) {
        y[i] = dirty_2d(N, HD);
        lse[i] = dirty_2d(a->B * a->H, a->T);
        dqkv[i] = dirty_2d(N, W);
        nn_attention_fwd(nn, &y[i], &lse[i], &c->qkv, a);
        nn_attention_bwd(nn, &dqkv[i], &c->dy, &y[i], &lse[i], &c->qkv, a);
    }
    if (nn_is_measuring(nn)) return;
    check_near("y", tensor_f32(&y[0]), c->expected.y, N * HD, 1e-12);
    check_near("lse", tensor_f32(&lse[0]), c->expected.lse, N * a->H, 1e-12);
    check_near("dqkv", tensor_f32(&dqkv[0]), c->expected.dqkv, N * W, 1e-12);
    check_same_bits("y", &y[0], &y[1]);
    check_same_bits("lse", &lse[0], &lse[1]);
    check_same_bits("dqkv", &dqkv[0], &dqkv[1]);
}

static const struct nn_attention shapes[] = {
    {.B = 1, .T = 1, .H = 1, .K = 1, .D = 1},
    {.B = 2, .T = 5, .H = 2, .K = 1, .D = 3},
    {.B = 2, .T = 64, .H = 2, .K = 2, .D = 8},
    {.B = 1, .T = 65, .H = 9, .K = 3, .D = 24},
    {.B = 1, .T = 257, .H = 3, .K = 1, .D = 16},
    {.B = 3, .T = 131, .H = 2, .K = 2, .D = 64},
    {.B = 1, .T = 800, .H = 2, .K = 1, .D = 5}, /* several key tiles, dealt to threads */
};

TEST(tiled_attention_and_gradient_equal_double_loops)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct attention_case c = make(shapes[i], false);
        measured_each_nn(compare, &c);
    }
}

TEST(packed_documents_do_not_see_each_other)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct attention_case c = make(shapes[i], true);
        measured_each_nn(compare, &c);
    }
}

/* exp would overflow or vanish without the running maximum */
TEST(large_scores_stay_exact)
{
    struct attention_case c =
        make((struct nn_attention){.B = 1, .T = 300, .H = 1, .K = 1, .D = 8}, false);
    float *x = tensor_f32(&c.qkv);
    for (int64_t i = 0; i < tensor_elements(&c.qkv); i++) x[i] *= i % 24 < 16 ? 8 : 1;
    c.expected = attention_expected(&c.a, in_double(&c.qkv), in_double(&c.dy));
    const struct attention_reference *e = &c.expected;
    double largest = 0;
    for (int64_t i = 0; i < 300; i++) largest = fmax(largest, e->lse[i]);
    assert_true(largest > 200);
    struct device *dev = NULL;
    struct nn *nn = NULL;
    ASSERT_OK(device_open(&dev, "cpu"));
    ASSERT_OK(nn_create(&nn, dev, 2, 1 << 20));
    struct tensor y = dirty_2d(300, 8), lse = dirty_2d(1, 300);
    nn_attention_fwd(nn, &y, &lse, &c.qkv, &c.a);
    check_near("y", tensor_f32(&y), e->y, 300 * 8,
               1e-10); /* scores of 400 have ulp 3e-5 */
    nn_destroy(&nn);
    device_close(&dev);
}

TEST(reference_gradient_equals_central_differences)
{
    struct attention_case c =
        make((struct nn_attention){.B = 2, .T = 7, .H = 4, .K = 2, .D = 3}, true);
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
static void decode_all(struct nn *nn, void *arg)
{
    const struct attention_case *c = arg;
    const struct nn_attention *a = &c->a;
    const int64_t W = (a->H + 2 * a->K) * a->D, HD = a->H * a->D;
    struct tensor ck = dirty_2d(a->B * a->T, a->K * a->D), cv = copied(&ck);
    struct tensor y = dirty_2d(a->B, HD), x = dirty_2d(a->B, W);
    for (int64_t t = 0; t < a->T; t++) {
        for (int64_t b = 0; b < a->B; b++)
            memcpy(tensor_f32(&x) + b * W, tensor_f32(&c->qkv) + (b * a->T + t) * W,
                   (size_t)W * sizeof(float));
        nn_attention_decode(nn, &y, &ck, &cv, &x, t, a);
        if (nn_is_measuring(nn)) continue;
        for (int64_t b = 0; b < a->B; b++)
            check_near("decoded row", tensor_f32(&y) + b * HD,
                       c->expected.y + (b * a->T + t) * HD, HD, 1e-12);
    }
}

TEST(decoding_token_by_token_equals_forward)
{
    static const struct nn_attention small[] = {
        {.B = 1, .T = 1, .H = 1, .K = 1, .D = 1},
        {.B = 3, .T = 37, .H = 9, .K = 3, .D = 24},
        {.B = 2, .T = 70, .H = 4, .K = 4, .D = 64},
    };
    for (size_t i = 0; i < sizeof small / sizeof *small; i++) {
        struct attention_case c = make(small[i], false);
        measured_each_nn(decode_all, &c);
    }
}
