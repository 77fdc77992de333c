/* @devices cpu cuda    @amx
 * Norms of queries and keys: forward against plain loops in double, backward against central
 * differences of those loops; and the same from two ranks that hold a share of the heads each. */
#include "each_nn.h"

enum { N = 5, Q = 24, K = 12, BEHIND = 7, C = Q + K, W = C + BEHIND };
static const float EPS = 1e-5f;

/* One row at one time, in double: y of x. */
static void norm_row(double y[C], const double x[C], const double w[C])
{
    for (int part = 0; part < 2; part++) {
        const int first = part ? Q : 0, n = part ? K : Q;
        double sum = 0;
        for (int c = first; c < first + n; c++) sum += x[c] * x[c];
        for (int c = first; c < first + n; c++)
            y[c] = x[c] / sqrt(sum / n + (double)EPS) * w[c];
    }
}

static double loss_of(const double x[C], const double w[C], const float *dy)
{
    double y[C], loss = 0;
    norm_row(y, x, w);
    for (int c = 0; c < C; c++) loss += y[c] * (double)dy[c];
    return loss;
}

static double slope(double *at, const double x[C], const double w[C], const float *dy)
{
    const double h = 1e-6, value = *at;
    *at = value + h;
    const double above = loss_of(x, w, dy);
    *at = value - h;
    const double below = loss_of(x, w, dy);
    *at = value;
    return (above - below) / (2 * h);
}

struct wanted {
    struct tensor x, w, dy; /* [N,W], [C], [N,W] */
    struct tensor y, dx;    /* [N,W]: behind queries and keys as they were */
    struct tensor dw;       /* [C] */
};

static struct wanted make(enum dtype t)
{
    struct wanted k = {.x = rounded(randn_2d(1, N, W), t),
                       .w = rounded(randn_1d(2, C), t),
                       .dy = rounded(randn_2d(3, N, W), t)};
    k.y = rounded(randn_2d(1, N, W), t);
    k.dx = rounded(randn_2d(3, N, W), t);
    k.dw = randn_1d(4, C);
    memset(k.dw.data, 0, tensor_bytes(&k.dw));
    double w[C];
    for (int c = 0; c < C; c++) w[c] = (double)tensor_f32(&k.w)[c];
    for (int n = 0; n < N; n++) {
        double x[C], y[C];
        const float *dy = tensor_f32(&k.dy) + n * W;
        for (int c = 0; c < C; c++) x[c] = (double)tensor_f32(&k.x)[n * W + c];
        norm_row(y, x, w);
        for (int c = 0; c < C; c++) {
            tensor_f32(&k.y)[n * W + c] = (float)y[c];
            tensor_f32(&k.dx)[n * W + c] = (float)slope(&x[c], x, w, dy);
            tensor_f32(&k.dw)[c] += (float)slope(&w[c], x, w, dy);
        }
    }
    return k;
}

static void one_rank(const struct setting *s, void *arg)
{
    (void)arg;
    const struct wanted k = make(s->t);
    struct tensor w = sent(s, &k.w), qkv = sent(s, &k.x), d = sent(s, &k.dy);
    struct tensor zero = randn_1d(4, C);
    memset(zero.data, 0, tensor_bytes(&zero));
    struct tensor dw = sent_f32(s, &zero), raw = dirty(s, N, C);
    struct tensor sums = dirty_f32(s, N, 2), dots = dirty_f32(s, N, 2);
    const struct nn_qk_norm p = {
        .q = Q, .k = K, .q_width = Q, .k_width = K, .eps = EPS, .w = &w, .dw = &dw};
    nn_qk_norm_sums(s->nn, &sums, &raw, &qkv, &p);
    nn_qk_norm_fwd(s->nn, &qkv, &raw, &sums, &p);
    nn_qk_norm_dots(s->nn, &dots, &d, &raw, &p);
    nn_qk_norm_bwd(s->nn, &d, &raw, &sums, &dots, &p);
    if (nn_is_measuring(s->nn)) return;
    check_close(s, "y", &qkv, &k.y, 1e-12);
    check_close(s, "dx", &d, &k.dx, 1e-11);
    dw = to_host(s->dev, &dw);
    assert_true(nmse(tensor_f32(&dw), tensor_f32(&k.dw), C) < 1e-11);
}

TEST(qk_norm_equals_plain_loops_and_central_differences)
{
    each_nn(one_rank, NULL);
}

/* Rank r of two: half of the queries; the first third of the keys is on both. */
struct share {
    int64_t q_first, q, k_first, k, others;
};
static const struct share shares[2] = {{0, Q / 2, 0, K / 3, 0},
                                       {Q / 2, Q / 2, 0, K, K / 3}};

/* The columns of a rank's share, side by side. */
static struct tensor cut(const struct tensor *x, const struct share *h)
{
    const int64_t rows = x->n_dims == 2 ? x->shape[0] : 1;
    const int64_t width = tensor_elements(x) / rows, n = h->q + h->k;
    float *y = test_alloc((size_t)(rows * n) * sizeof *y);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < n; c++)
            y[r * n + c] = tensor_f32(
                x)[r * width + (c < h->q ? h->q_first + c : Q + h->k_first + c - h->q)];
    return x->n_dims == 2 ? tensor_2d(y, DTYPE_F32, rows, n) : tensor_1d(y, DTYPE_F32, n);
}

/* sum[c] += x[c] of the share, each in its column of the whole */
static void add_share(float *sum, const struct tensor *x, const struct share *h)
{
    const int64_t rows = x->n_dims == 2 ? x->shape[0] : 1, n = h->q + h->k;
    const int64_t width = x->n_dims == 2 ? W : C;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < n; c++)
            sum[r * width + (c < h->q ? h->q_first + c : Q + h->k_first + c - h->q)] +=
                tensor_f32(x)[r * n + c];
}

static void add_floats(struct tensor *x, const struct tensor *y)
{
    for (int64_t i = 0; i < tensor_elements(x); i++) tensor_f32(x)[i] += tensor_f32(y)[i];
}

/* dy of keys on both ranks is there in two terms, a quarter and three of it. */
static void two_ranks(const struct setting *s, void *arg)
{
    (void)arg;
    const struct wanted k = make(DTYPE_F32);
    struct tensor x[2], d[2], w[2], raw[2], dw[2], sums[2], dots[2];
    struct nn_qk_norm p[2];
    float sum_dx[N * W] = {0}, sum_dw[C] = {0};
    for (int r = 0; r < 2; r++) {
        const struct share *h = &shares[r];
        const int64_t n = h->q + h->k;
        x[r] = cut(&k.x, h), d[r] = cut(&k.dy, h), w[r] = cut(&k.w, h);
        for (int64_t i = 0; i < N; i++)
            for (int64_t c = 0; c < K / 3; c++)
                tensor_f32(&d[r])[i * n + h->q + c] *= r ? 0.75f : 0.25f;
        raw[r] = randn_2d(7, N, n), dw[r] = randn_1d(8, n);
        sums[r] = randn_2d(9, N, 2), dots[r] = randn_2d(10, N, 2);
        memset(dw[r].data, 0, tensor_bytes(&dw[r]));
        p[r] = (struct nn_qk_norm){.q = h->q,
                                   .k = h->k,
                                   .k_others = h->others,
                                   .q_width = Q,
                                   .k_width = K,
                                   .eps = EPS,
                                   .w = &w[r],
                                   .dw = &dw[r]};
        nn_qk_norm_sums(s->nn, &sums[r], &raw[r], &x[r], &p[r]);
    }
    if (!nn_is_measuring(s->nn)) add_floats(&sums[0], &sums[1]);
    for (int r = 0; r < 2; r++) {
        nn_qk_norm_fwd(s->nn, &x[r], &raw[r], &sums[0], &p[r]);
        nn_qk_norm_dots(s->nn, &dots[r], &d[r], &raw[r], &p[r]);
        if (nn_is_measuring(s->nn)) continue;
        const struct tensor y = cut(&k.y, &shares[r]);
        assert_true(nmse(tensor_f32(&x[r]), tensor_f32(&y), tensor_elements(&y)) < 1e-12);
    }
    add_floats(&dots[0], &dots[1]);
    for (int r = 0; r < 2; r++) {
        nn_qk_norm_bwd(s->nn, &d[r], &raw[r], &sums[0], &dots[0], &p[r]);
        add_share(sum_dx, &d[r], &shares[r]);
        add_share(sum_dw, &dw[r], &shares[r]);
    }
    if (nn_is_measuring(s->nn)) return;
    for (int64_t n = 0; n < N; n++)
        assert_true(nmse(sum_dx + n * W, tensor_f32(&k.dx) + n * W, C) < 1e-11);
    assert_true(nmse(sum_dw, tensor_f32(&k.dw), C) < 1e-11);
}

TEST(shares_of_the_heads_add_up_to_the_whole)
{
    each_cpu_nn(DTYPE_F32, two_ranks, NULL);
}
