/* @devices cpu cuda    @amx
 * Rotary positions against plain loops in double. */
#include "each_nn.h"

enum { POSITIONS = 40 };

/* n_heads of head_size, the first 2 * half dims turned, in rows `extra` wider than the heads */
struct rope_case {
    int64_t N, n_heads, head_size, half, extra;
};

static const struct rope_case cases[] = {
    {.N = 1, .n_heads = 1, .head_size = 2, .half = 1, .extra = 0},
    {.N = 5, .n_heads = 3, .head_size = 6, .half = 3, .extra = 18},
    {.N = 33, .n_heads = 2, .head_size = 7, .half = 3, .extra = 1},
    {.N = 5, .n_heads = 12, .head_size = 64, .half = 32, .extra = 64},
    {.N = 33, .n_heads = 3, .head_size = 80, .half = 10, .extra = 5}, /* partial */
    {.N = 5, .n_heads = 2, .head_size = 260, .half = 129, .extra = 0},
    {.N = 5, .n_heads = 2, .head_size = 8, .half = 0, .extra = 0}, /* turns nothing */
};

enum { N_CASES = sizeof cases / sizeof *cases };

static struct nn_rope make(const struct rope_case *k, double theta)
{
    float *table = test_alloc((size_t)(POSITIONS * k->half * 2) * sizeof *table);
    double frequencies[256];
    nn_rope_frequencies(frequencies, k->half, theta);
    nn_rope_table(table, POSITIONS, k->half, frequencies, 1);
    int32_t *positions = test_alloc((size_t)k->N * sizeof *positions);
    for (int64_t n = 0; n < k->N; n++) positions[n] = (int32_t)((n * 17 + 3) % POSITIONS);
    return (struct nn_rope){.n_heads = k->n_heads,
                            .head_size = k->head_size,
                            .half = k->half,
                            .table = table,
                            .n_positions = POSITIONS,
                            .positions = positions};
}

/* The same with table and positions in the device's memory. */
static struct nn_rope sent_rope(const struct setting *s, const struct rope_case *k,
                                const struct nn_rope *host)
{
    struct nn_rope r = *host;
    const size_t bytes = (size_t)(POSITIONS * k->half * 2) * sizeof(float);
    r.table = bytes_on_device(s->dev, host->table, bytes);
    r.positions = ints_on_device(s->dev, host->positions, k->N);
    return r;
}

static int64_t width(const struct rope_case *k)
{
    return k->n_heads * k->head_size + k->extra;
}

static struct tensor expect(const struct rope_case *k, const struct nn_rope *r,
                            const struct tensor *x, double theta)
{
    struct tensor y = copied(x);
    const int64_t W = x->shape[1];
    for (int64_t n = 0; n < k->N; n++) {
        for (int64_t h = 0; h < k->n_heads; h++) {
            for (int64_t i = 0; i < k->half; i++) {
                const double angle =
                    r->positions[n] * pow(theta, -(double)i / (double)k->half);
                const int64_t a = n * W + h * k->head_size + i, b = a + k->half;
                const double xa = tensor_f32(x)[a], xb = tensor_f32(x)[b];
                tensor_f32(&y)[a] = (float)(xa * cos(angle) - xb * sin(angle));
                tensor_f32(&y)[b] = (float)(xb * cos(angle) + xa * sin(angle));
            }
        }
    }
    return y;
}

static void turn(const struct setting *s, void *arg)
{
    const double theta = *(const double *)arg;
    for (int i = 0; i < N_CASES; i++) {
        const struct rope_case *k = &cases[i];
        const struct nn_rope host = make(k, theta), r = sent_rope(s, k, &host);
        const struct tensor x = rounded(randn_2d(1, k->N, width(k)), s->t);
        struct tensor y = sent(s, &x), back = sent(s, &x);
        nn_rope_fwd(s->nn, &y, &r);
        if (nn_is_measuring(s->nn)) continue;
        const struct tensor want = expect(k, &host, &x, theta);
        check_close(s, "turned", &y, &want, 1e-12);
        nn_rope_fwd(s->nn, &back, &r);
        nn_rope_bwd(s->nn, &back, &r);
        check_close(s, "turned back", &back, &x, 1e-12);
    }
}

TEST(rope_fwd_turns_each_pair_and_bwd_turns_it_back)
{
    double thetas[] = {10000, 500000};
    each_nn(turn, &thetas[0]);
    each_nn(turn, &thetas[1]);
}

static void leaves_rest(const struct setting *s, void *arg)
{
    (void)arg;
    for (int i = 0; i < N_CASES; i++) {
        const struct rope_case *k = &cases[i];
        const struct nn_rope host = make(k, 10000), r = sent_rope(s, k, &host);
        const struct tensor x = rounded(randn_2d(1, k->N, width(k)), s->t);
        struct tensor y = sent(s, &x);
        nn_rope_fwd(s->nn, &y, &r);
        if (nn_is_measuring(s->nn)) continue;
        y = to_host(s->dev, &y);
        for (int64_t j = 0; j < k->N * width(k); j++) {
            const int64_t c = j % width(k);
            const bool turned =
                c < k->n_heads * k->head_size && c % k->head_size < 2 * k->half;
            if (!turned) assert_true(tensor_f32(&y)[j] == tensor_f32(&x)[j]);
        }
    }
}

TEST(rope_leaves_the_rest_of_a_row_alone)
{
    each_nn(leaves_rest, NULL);
}

/* <turn(x), dy> = <x, turn back(dy)>: backward is the transpose of forward, which is linear */
static void transpose(const struct setting *s, void *arg)
{
    (void)arg;
    const struct rope_case *k = &cases[4];
    const struct nn_rope host = make(k, 10000), r = sent_rope(s, k, &host);
    const struct tensor x = randn_2d(1, k->N, width(k)), dy = randn_2d(2, k->N, width(k));
    struct tensor y = sent(s, &x), dx = sent(s, &dy);
    nn_rope_fwd(s->nn, &y, &r);
    nn_rope_bwd(s->nn, &dx, &r);
    if (nn_is_measuring(s->nn)) return;
    y = to_host(s->dev, &y), dx = to_host(s->dev, &dx);
    double left = 0, right = 0, size = 0;
    for (int64_t i = 0; i < tensor_elements(&x); i++) {
        left += (double)tensor_f32(&y)[i] * (double)tensor_f32(&dy)[i];
        right += (double)tensor_f32(&x)[i] * (double)tensor_f32(&dx)[i];
        size += fabs((double)tensor_f32(&x)[i] * (double)tensor_f32(&dx)[i]);
    }
    assert_true(fabs(left - right) < 1e-7 * size);
}

TEST(rope_bwd_is_the_transpose_of_fwd)
{
    each_nn_of_type(DTYPE_F32, transpose, NULL);
}

TEST(rope_position_zero_turns_nothing)
{
    float table[2 * 2 * 4];
    double frequencies[4];
    nn_rope_frequencies(frequencies, 4, 10000);
    nn_rope_table(table, 2, 4, frequencies, 1);
    for (int i = 0; i < 4; i++) {
        assert_true(table[2 * i] == 1.0f && table[2 * i + 1] == 0.0f);
        const double angle = pow(10000, -i / 4.0);
        assert_true(table[8 + 2 * i] == (float)cos(angle));
        assert_true(table[8 + 2 * i + 1] == (float)sin(angle));
    }
}
