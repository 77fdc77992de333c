/* RMSNorm and LayerNorm: forward against plain loops in double, backward against central
 * differences of those loops. */
#include "each_nn.h"

#include <math.h>

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

static double *in_double(const float *x, int64_t n)
{
    double *d = test_alloc((size_t)n * sizeof *d);
    for (int64_t i = 0; i < n; i++) d[i] = (double)x[i];
    return d;
}

static void expect_row(struct norm_case *k, int64_t n, double *w, double *b, double *dw,
                       double *db)
{
    const int64_t C = k->C;
    double *x = in_double(tensor_f32(&k->x) + n * C, C), s[2];
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

static struct norm_case expect(bool center, int64_t N, int64_t C)
{
    struct norm_case k = {.center = center, .N = N, .C = C};
    k.x = randn_2d(1, N, C), k.dy = randn_2d(2, N, C), k.y = randn_2d(3, N, C);
    k.w = randn_1d(4, C), k.b = randn_1d(5, C);
    k.dx = randn_2d(6, N, C), k.dw = randn_1d(7, C), k.db = randn_1d(8, C);
    k.stats = center ? randn_2d(9, N, 2) : randn_1d(9, N);
    if (!center) memset(k.b.data, 0, tensor_bytes(&k.b));
    for (int64_t i = 0; center && i < N * C; i++) tensor_f32(&k.x)[i] += 3; /* a mean */
    double *w = in_double(k.w.data, C), *b = in_double(k.b.data, C);
    double *dw = test_alloc((size_t)C * sizeof *dw);
    double *db = test_alloc((size_t)C * sizeof *db);
    for (int64_t n = 0; n < N; n++) expect_row(&k, n, w, b, dw, db);
    for (int64_t c = 0; c < C; c++) {
        tensor_f32(&k.dw)[c] = (float)dw[c];
        tensor_f32(&k.db)[c] = (float)db[c];
    }
    return k;
}

static void forward(struct nn *nn, void *arg)
{
    struct norm_case *k = arg;
    struct tensor y = randn_2d(20, k->N, k->C), stats = copy_of(&k->stats);
    memset(stats.data, 0x7f, tensor_bytes(&stats));
    struct nn_norm p = {.eps = EPS, .w = &k->w, .b = k->center ? &k->b : NULL};
    if (k->center)
        nn_layernorm_fwd(nn, &y, &stats, &k->x, &p);
    else
        nn_rmsnorm_fwd(nn, &y, &stats, &k->x, &p);
    if (nn_is_measuring(nn)) return;
    CHECK_CLOSE(&y, &k->y, 1e-12);
    CHECK_CLOSE(&stats, &k->stats, 1e-12);
}

/* dx, dw, db start dirty: what backward adds is the difference */
static void run_backward(struct nn *nn, struct norm_case *k, struct tensor *dx,
                         struct tensor *dw, struct tensor *db)
{
    struct nn_norm p = {.eps = EPS, .w = &k->w, .dw = dw};
    if (k->center) {
        p.b = &k->b;
        p.db = db;
        nn_layernorm_bwd(nn, dx, &k->dy, &k->x, &k->stats, &p);
    } else {
        nn_rmsnorm_bwd(nn, dx, &k->dy, &k->x, &k->stats, &p);
    }
}

static void check_added(const struct tensor *sum, const struct tensor *before,
                        const struct tensor *added)
{
    struct tensor want = copy_of(before);
    for (int64_t i = 0; i < tensor_elements(added); i++)
        tensor_f32(&want)[i] += tensor_f32(added)[i];
    CHECK_CLOSE(sum, &want, 1e-12);
}

static void backward(struct nn *nn, void *arg)
{
    struct norm_case *k = arg;
    const struct tensor dx0 = randn_2d(21, k->N, k->C);
    const struct tensor dw0 = randn_1d(22, k->C), db0 = randn_1d(23, k->C);
    struct tensor dx = copy_of(&dx0), dw = copy_of(&dw0), db = copy_of(&db0);
    run_backward(nn, k, &dx, &dw, &db);
    if (nn_is_measuring(nn)) return;
    check_added(&dx, &dx0, &k->dx);
    check_added(&dw, &dw0, &k->dw);
    if (k->center) check_added(&db, &db0, &k->db);

    struct tensor dx2 = copy_of(&dx0), dw2 = copy_of(&dw0), db2 = copy_of(&db0);
    run_backward(nn, k, &dx2, &dw2, &db2);
    assert_true(same_bits(&dx, &dx2) && same_bits(&dw, &dw2) && same_bits(&db, &db2));
}

static void every_shape(bool center, void (*body)(struct nn *nn, void *arg))
{
    for (int i = 0; i < 12; i++) {
        struct norm_case k = expect(center, rows[i / 4], cols[i % 4]);
        each_nn(body, &k);
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

TEST(layernorm_keeps_its_digits_when_the_mean_is_large)
{
    struct norm_case k = expect(true, 5, 129);
    for (int64_t i = 0; i < 5 * 129; i++) tensor_f32(&k.x)[i] += 1000;
    double *w = in_double(k.w.data, 129), *b = in_double(k.b.data, 129);
    double *dw = test_alloc(129 * sizeof *dw), *db = test_alloc(129 * sizeof *db);
    for (int64_t n = 0; n < 5; n++) expect_row(&k, n, w, b, dw, db);
    struct device *dev = NULL;
    struct nn *nn = NULL;
    ASSERT_OK(device_open(&dev, "cpu"));
    ASSERT_OK(nn_create(&nn, dev, 2, 0));
    struct nn_norm p = {.eps = EPS, .w = &k.w, .b = &k.b};
    struct tensor y = randn_2d(20, 5, 129), stats = randn_2d(21, 5, 2);
    nn_layernorm_fwd(nn, &y, &stats, &k.x, &p);
    CHECK_CLOSE(&y, &k.y, 1e-8); /* the mean itself is rounded to 1000 * 2^-24 */
    nn_destroy(&nn);
    device_close(&dev);
}

TEST(backward_takes_the_scratch_that_measuring_says)
{
    for (int center = 0; center < 2; center++) {
        struct norm_case k = expect(center, 5, 129);
        for (int threads = 1; threads <= 3; threads++) {
            const size_t bytes = measured_scratch(threads, backward, &k);
            struct device *dev = NULL;
            struct nn *nn = NULL;
            ASSERT_OK(device_open(&dev, "cpu"));
            ASSERT_OK(nn_create(&nn, dev, threads, bytes));
            backward(nn, &k);
            assert_int_equal(nn_scratch_peak_bytes(nn), bytes);
            nn_destroy(&nn);
            device_close(&dev);
        }
        assert_int_equal(measured_scratch(2, forward, &k), 0);
    }
}
