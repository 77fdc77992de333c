/* @devices cpu cuda    @amx
 * @timeout 120
 * Attention to keys in parts: whatever the parts, all of them together are attention; and what
 * brings keys together and takes gradients apart. */
#include "attention_reference.h"

#include "core/rng.h"
#include "parallel/cp/cp.h"

struct part_case {
    struct nn_attention a; /* of all keys at once */
    int parts;
    struct tensor qkv, dy;
    struct attention_reference expected;
};

static struct part_case make(enum dtype t, struct nn_attention a, int parts, bool packed)
{
    a.scale = 1.0f / sqrtf((float)a.D);
    int32_t *start = test_alloc((size_t)(a.B * a.T) * sizeof *start);
    for (int64_t n = 0; n < a.B * a.T; n++) {
        const int64_t i = n % a.T;
        start[n] = (int32_t)(packed ? i - i % (5 + n / a.T) : 0);
    }
    a.doc_start = start;
    struct part_case c = {.a = a, .parts = parts};
    c.qkv = rounded(randn_2d(1, a.B * a.T, (a.H + 2 * a.K) * a.D), t);
    c.dy = rounded(randn_2d(2, a.B * a.T, a.H * a.D), t);
    c.expected = attention_expected(&c.a, in_double(&c.qkv), in_double(&c.dy));
    return c;
}

/* How many of part r's rows lie in front of `row`. */
static int32_t rows_before(const struct part_case *c, int r, int64_t row)
{
    int32_t n = 0;
    for (int64_t i = 0; i < cp_rows(c->a.T, c->parts, r); i++)
        n += cp_row(c->a.T, c->parts, r, i) < row;
    return n;
}

/* Every query row against part r. */
static struct nn_attention_part part_of(const struct setting *s,
                                        const struct part_case *c, int r)
{
    const struct nn_attention *a = &c->a;
    const int64_t N = a->B * a->T;
    int32_t *low = test_alloc((size_t)N * sizeof *low);
    int32_t *high = test_alloc((size_t)N * sizeof *high);
    for (int64_t n = 0; n < N; n++) {
        low[n] = rows_before(c, r, a->doc_start[n]);
        high[n] = rows_before(c, r, n % a->T + 1);
    }
    return (struct nn_attention_part){.B = a->B,
                                      .H = a->H,
                                      .K = a->K,
                                      .D = a->D,
                                      .group = a->group,
                                      .first = a->first,
                                      .Tq = a->T,
                                      .Tk = cp_rows(a->T, c->parts, r),
                                      .scale = a->scale,
                                      .low = ints_on_device(s->dev, low, N),
                                      .high = ints_on_device(s->dev, high, N)};
}

/* Keys and values of part r, on the host: rows of qkv from the first key on. */
static struct tensor keys_of(const struct part_case *c, int r)
{
    const struct nn_attention *a = &c->a;
    const int64_t n = cp_rows(a->T, c->parts, r), W = (a->H + 2 * a->K) * a->D;
    const int64_t KV = 2 * a->K * a->D;
    struct tensor kv = randn_2d(9, a->B * n, KV);
    for (int64_t b = 0; b < a->B; b++)
        for (int64_t i = 0; i < n; i++)
            memcpy(tensor_f32(&kv) + (b * n + i) * KV,
                   tensor_f32(&c->qkv) + (b * a->T + cp_row(a->T, c->parts, r, i)) * W +
                       a->H * a->D,
                   (size_t)KV * sizeof(float));
    return kv;
}

static void compare(const struct setting *s, void *arg)
{
    const struct part_case *c = arg;
    const struct nn_attention *a = &c->a;
    const int64_t N = a->B * a->T, HD = a->H * a->D, KV = 2 * a->K * a->D, W = HD + KV;
    const struct tensor qkv = sent(s, &c->qkv), dy = sent(s, &c->dy);
    struct tensor sum = dirty_f32(s, N, HD), lse = dirty_f32(s, a->B * a->H, a->T);
    struct tensor y = dirty(s, N, HD), dq = dirty_f32(s, N, HD);
    struct tensor dqkv = dirty_f32(s, N, W);
    for (int r = 0; r < c->parts; r++) {
        const struct nn_attention_part p = part_of(s, c, r);
        const struct tensor host = keys_of(c, r), kv = sent(s, &host);
        nn_attention_part_fwd(s->nn, &sum, &lse, &qkv, &kv, &p, r == 0);
    }
    nn_cast(s->nn, &y, &sum);
    device_zero(s->dev, dq.data, tensor_bytes(&dq));
    for (int r = 0; r < c->parts; r++) {
        const struct nn_attention_part p = part_of(s, c, r);
        const struct tensor host = keys_of(c, r), kv = sent(s, &host);
        struct tensor dkv = dirty_f32(s, a->B * p.Tk, KV);
        nn_attention_part_bwd(s->nn, &dq, &dkv, &dy, &y, &lse, &qkv, &kv, &p);
        for (int64_t b = 0; b < a->B && !nn_is_measuring(s->nn); b++)
            for (int64_t i = 0; i < p.Tk; i++) {
                const int64_t row = b * a->T + cp_row(a->T, c->parts, r, i);
                struct tensor to = tensor_rows(&dqkv, row, 1);
                const struct tensor from = tensor_rows(&dkv, b * p.Tk + i, 1);
                nn_copy_columns(s->nn, &to, HD, &from, 0, KV);
            }
    }
    nn_copy_columns(s->nn, &dqkv, 0, &dq, 0, HD);
    if (nn_is_measuring(s->nn)) return;
    check_through(s, s->t, "y", &y, c->expected.y, 1e-12);
    check_through(s, s->t, "lse", &lse, c->expected.lse, 1e-12);
    check_through(s, s->t, "dqkv", &dqkv, c->expected.dqkv, 1e-12);
}

TEST(parts_together_are_attention)
{
    static const struct nn_attention shapes[] = {
        {.B = 1, .T = 6, .H = 1, .K = 1, .D = 3, .group = 1},
        {.B = 2, .T = 37, .H = 6, .K = 3, .D = 8, .group = 2},
        {.B = 2, .T = 37, .H = 3, .K = 2, .D = 16, .group = 2, .first = 1},
        {.B = 1, .T = 150, .H = 2, .K = 2, .D = 24, .group = 1},
    };
    EACH_TYPE(t)
    {
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            for (int parts = 1; parts <= 3; parts++) {
                struct part_case c = make(t, shapes[i], parts, parts != 2);
                each_nn_of_type(t, compare, &c);
            }
    }
}

static void check_seen_nothing(const struct setting *s, void *arg)
{
    (void)arg;
    const struct tensor q = randn_2d(1, 3, 3 * 4), k = randn_2d(2, 2, 2 * 4);
    const struct tensor qkv = sent(s, &q), kv = sent(s, &k);
    struct tensor y = dirty_f32(s, 3, 4), lse = dirty_f32(s, 1, 3);
    const struct nn_attention_part p = {
        .B = 1,
        .H = 1,
        .K = 1,
        .D = 4,
        .group = 1,
        .Tq = 3,
        .Tk = 2,
        .scale = 1,
        .low = ints_on_device(s->dev, (const int32_t[]){0, 0, 1}, 3),
        .high = ints_on_device(s->dev, (const int32_t[]){0, 1, 1}, 3)};
    nn_attention_part_fwd(s->nn, &y, &lse, &qkv, &kv, &p, true);
    if (nn_is_measuring(s->nn)) return;
    const struct tensor rows = to_host(s->dev, &y), sums = to_host(s->dev, &lse);
    for (int d = 0; d < 4; d++) {
        assert_true(tensor_f32(&rows)[d] == 0);
        assert_true(tensor_f32(&rows)[8 + d] == 0);
    }
    assert_true(tensor_f32(&sums)[0] == -HUGE_VALF);
    assert_true(isfinite(tensor_f32(&sums)[1]));
    assert_true(tensor_f32(&sums)[2] == -HUGE_VALF);
}

TEST(a_row_that_sees_nothing_is_zero)
{
    each_nn(check_seen_nothing, NULL);
}

/* ---- columns and sums -------------------------------------------------------------------- */

static void copy_and_add(const struct setting *s, void *arg)
{
    (void)arg;
    const struct tensor a = rounded(randn_2d(1, 37, 13), s->t), b = randn_2d(2, 37, 9);
    const struct tensor x = sent(s, &a), z = sent_f32(s, &b);
    struct tensor y = sent_f32(s, &b), back = dirty(s, 37, 5);
    nn_copy_columns(s->nn, &y, 2, &x, 6, 5);
    nn_copy_columns(s->nn, &back, 0, &y, 2, 5);
    struct tensor sum = sent_f32(s, &b);
    nn_add(s->nn, &sum, &z);
    if (nn_is_measuring(s->nn)) return;
    const struct tensor got = to_host(s->dev, &y), there = to_host(s->dev, &back),
                        twice = to_host(s->dev, &sum);
    for (int64_t n = 0; n < 37; n++)
        for (int64_t c = 0; c < 9; c++) {
            const float kept = tensor_f32(&b)[n * 9 + c];
            const float want = c >= 2 && c < 7 ? tensor_f32(&a)[n * 13 + 4 + c] : kept;
            assert_true(tensor_f32(&got)[n * 9 + c] == want);
            assert_true(tensor_f32(&twice)[n * 9 + c] == kept + kept);
            if (c < 5)
                assert_true(tensor_f32(&there)[n * 5 + c] ==
                            tensor_f32(&a)[n * 13 + 6 + c]);
        }
}

TEST(columns_are_copied_and_sums_are_sums)
{
    each_nn(copy_and_add, NULL);
}
