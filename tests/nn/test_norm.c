/* @devices cpu cuda    @amx
 * RMSNorm and LayerNorm: forward against plain loops in double, backward against central
 * differences of those loops. */
#include "each_nn.h"

static const int64_t rows[] = {1, 5, 33}, cols[] = {1, 7, 129, 768};
static const float EPS = 1e-5f;

/* One layer at one shape, with what it must give. */
struct norm_case {
    bool center; /* LayerNorm */
    int64_t N, C;
    struct tensor x, w, b, dy, y, stats; /* stats: [N] rstd or [N,2] mean, rstd */
    struct tensor dx, dw, db;            /* gradients, to be added */
};

/* y and stats of one row; returns sum(dy * y) */
static double row_fwd(const struct norm_case *k, const double *x, const double *w,
                      const double *b, const float *dy, double *y, double stats[2])
{
    double mean = 0, squares = 0, loss = 0;
    for (int64_t c = 0; c < k->C; c++) mean += k->center ? x[c] / (double)k->C : 0;
    for (int64_t c = 0; c < k->C; c++) squares += (x[c] - mean) * (x[c] - mean);
    const double rstd = 1 / sqrt(squares / (double)k->C + (double)EPS);
    for (int64_t c = 0; c < k->C; c++) {
        y[c] = (x[c] - mean) * rstd * w[c] + b[c];
        loss += y[c] * (double)dy[c];
    }
    stats[0] = mean;
    stats[1] = rstd;
    return loss;
}

/* dL/d(*at) for the loss of one row */
static double slope(const struct norm_case *k, double *at, const double *x,
                    const double *w, const double *b, const float *dy, double *y)
{
    const double h = 1e-6, value = *at; /* far below sqrt(EPS), which bends 1/rms */
    double stats[2];
    *at = value + h;
    const double above = row_fwd(k, x, w, b, dy, y, stats);
    *at = value - h;
    const double below = row_fwd(k, x, w, b, dy, y, stats);
    *at = value;
    return (above - below) / (2 * h);
}

static void expect_row(struct norm_case *k, int64_t n, double *w, double *b, double *dw,
                       double *db)
{
    const int64_t C = k->C;
    const struct tensor row = tensor_rows(&k->x, n, 1);
    double *x = in_double(&row), s[2];
    double *y = test_alloc((size_t)C * sizeof *y);
    const float *dy = tensor_f32(&k->dy) + n * C;
    row_fwd(k, x, w, b, dy, y, s);
    for (int64_t c = 0; c < C; c++) tensor_f32(&k->y)[n * C + c] = (float)y[c];
    if (k->center) tensor_f32(&k->stats)[2 * n] = (float)s[0];
    tensor_f32(&k->stats)[k->center ? 2 * n + 1 : n] = (float)s[1];
    for (int64_t c = 0; c < C; c++) {
        tensor_f32(&k->dx)[n * C + c] = (float)slope(k, x + c, x, w, b, dy, y);
        dw[c] += slope(k, w + c, x, w, b, dy, y);
        db[c] += slope(k, b + c, x, w, b, dy, y);
    }
}

static void expect_all(struct norm_case *k)
{
    double *w = in_double(&k->w), *b = in_double(&k->b);
    double *dw = test_alloc((size_t)k->C * sizeof *dw);
    double *db = test_alloc((size_t)k->C * sizeof *db);
    for (int64_t n = 0; n < k->N; n++) expect_row(k, n, w, b, dw, db);
    for (int64_t c = 0; c < k->C; c++) {
        tensor_f32(&k->dw)[c] = (float)dw[c];
        tensor_f32(&k->db)[c] = (float)db[c];
    }
}

static struct norm_case make(enum dtype t, bool center, int64_t N, int64_t C, float mean)
{
    struct norm_case k = {.center = center, .N = N, .C = C};
    k.x = randn_2d(1, N, C), k.dy = rounded(randn_2d(2, N, C), t);
    k.y = randn_2d(3, N, C);
    k.w = rounded(randn_1d(4, C), t), k.b = rounded(randn_1d(5, C), t);
    k.dx = randn_2d(6, N, C), k.dw = randn_1d(7, C), k.db = randn_1d(8, C);
    k.stats = center ? randn_2d(9, N, 2) : randn_1d(9, N);
    if (!center) memset(k.b.data, 0, tensor_bytes(&k.b));
    for (int64_t i = 0; i < N * C; i++) tensor_f32(&k.x)[i] += mean;
    rounded(k.x, t);
    expect_all(&k);
    return k;
}

/* stats of k's shape, dirty */
static struct tensor dirty_stats(const struct setting *s, const struct norm_case *k)
{
    struct tensor t = dirty_f32(s, k->N, k->center ? 2 : 1);
    return k->center ? t : tensor_1d(t.data, DTYPE_F32, k->N);
}

static void run_forward(const struct setting *s, const struct norm_case *k,
                        struct tensor *y, struct tensor *stats,
                        const struct tensor *residual)
{
    struct tensor x = sent(s, &k->x), w = sent(s, &k->w), b = sent(s, &k->b);
    const struct nn_norm p = {.eps = EPS, .w = &w, .b = k->center ? &b : NULL};
    *y = dirty(s, k->N, k->C), *stats = dirty_stats(s, k);
    if (k->center)
        nn_layernorm_fwd(s->nn, y, stats, &x, residual, &p);
    else
        nn_rmsnorm_fwd(s->nn, y, stats, &x, residual, &p);
}

static void check_added(const struct setting *s, const char *what,
                        const struct tensor *sum, const struct tensor *before,
                        const struct tensor *more)
{
    double *want = in_double(before);
    for (int64_t i = 0; i < tensor_elements(more); i++)
        want[i] += (double)tensor_f32(more)[i];
    check_near(s, what, sum, want, 1e-12);
}

static void forward(const struct setting *s, void *arg)
{
    const struct norm_case *k = arg;
    const struct tensor residual = rounded(randn_2d(24, k->N, k->C), s->t);
    const struct tensor dev_residual = sent(s, &residual);
    struct tensor y, stats, sum;
    run_forward(s, k, &y, &stats, NULL);
    run_forward(s, k, &sum, &stats, &dev_residual);
    if (nn_is_measuring(s->nn)) {
        assert_int_equal(nn_scratch_peak_bytes(s->nn), 0);
        return;
    }
    check_close(s, "y", &y, &k->y, 1e-12);
    check_close(s, "statistics", &stats, &k->stats, 1e-12);
    check_added(s, "y and a residual", &sum, &residual, &k->y);
}

struct gradients {
    struct tensor dx, dw, db;
};

/* They start from `before`: what backward adds is the difference. */
static struct gradients run_backward(const struct setting *s, const struct norm_case *k,
                                     const struct gradients *before, enum nn_accum mode)
{
    struct tensor w = sent(s, &k->w), b = sent(s, &k->b);
    struct tensor x = sent(s, &k->x), dy = sent(s, &k->dy),
                  stats = sent_f32(s, &k->stats);
    struct gradients g = {.dx = sent(s, &before->dx),
                          .dw = sent_f32(s, &before->dw),
                          .db = sent_f32(s, &before->db)};
    struct nn_norm p = {.eps = EPS, .w = &w, .dw = &g.dw};
    if (k->center) {
        p.b = &b;
        p.db = &g.db;
        nn_layernorm_bwd(s->nn, &g.dx, &dy, &x, &stats, &p, mode);
    } else {
        nn_rmsnorm_bwd(s->nn, &g.dx, &dy, &x, &stats, &p, mode);
    }
    return g;
}

static void backward(const struct setting *s, void *arg)
{
    const struct norm_case *k = arg;
    const struct gradients before = {.dx = rounded(randn_2d(21, k->N, k->C), s->t),
                                     .dw = randn_1d(22, k->C),
                                     .db = randn_1d(23, k->C)};
    const struct gradients g = run_backward(s, k, &before, NN_ACCUM);
    if (nn_is_measuring(s->nn)) return;
    check_added(s, "dx", &g.dx, &before.dx, &k->dx);
    check_added(s, "dw", &g.dw, &before.dw, &k->dw);
    if (k->center)
        check_added(s, "db", &g.db, &before.db, &k->db);
    else
        check_exact(s, "db", &g.db, &before.db);

    const struct gradients again = run_backward(s, k, &before, NN_ACCUM);
    check_same_bits(s, "dx", &g.dx, &again.dx);
    check_same_bits(s, "dw", &g.dw, &again.dw);
    check_same_bits(s, "db", &g.db, &again.db);

    const struct gradients set = run_backward(s, k, &before, NN_ASSIGN);
    struct gradients from_zero = before;
    from_zero.dx = copied(&before.dx);
    memset(from_zero.dx.data, 0, tensor_bytes(&from_zero.dx));
    from_zero = run_backward(s, k, &from_zero, NN_ACCUM);
    check_same_bits(s, "dx alone", &set.dx, &from_zero.dx);
    check_same_bits(s, "dw", &g.dw, &set.dw);
}

static void every_shape(bool center, setting_body *body)
{
    EACH_TYPE(t)
    {
        for (int i = 0; i < 12; i++) {
            struct norm_case k =
                make(t, center, rows[i / 4], cols[i % 4], center ? 3 : 0);
            each_nn_of_type(t, body, &k);
        }
    }
}

TEST(rmsnorm_fwd_equals_plain_loops)
{
    every_shape(false, forward);
}

TEST(layernorm_fwd_equals_plain_loops)
{
    every_shape(true, forward);
}

TEST(rmsnorm_bwd_adds_the_central_differences_and_repeats_bitwise)
{
    every_shape(false, backward);
}

TEST(layernorm_bwd_adds_the_central_differences_and_repeats_bitwise)
{
    every_shape(true, backward);
}

static void large_mean(const struct setting *s, void *arg)
{
    const struct norm_case *k = arg;
    struct tensor y, stats;
    run_forward(s, k, &y, &stats, NULL);
    if (nn_is_measuring(s->nn)) return;
    y = to_host(s->dev, &y);
    CHECK_CLOSE(&y, &k->y, 1e-8); /* the mean itself is rounded to 1000 * 2^-24 */
}

TEST(layernorm_keeps_its_digits_when_the_mean_is_large)
{
    struct norm_case k = make(DTYPE_F32, true, 5, 129, 1003);
    each_nn_of_type(DTYPE_F32, large_mean, &k);
}
