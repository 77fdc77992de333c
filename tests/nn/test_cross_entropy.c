/* Fused LM head and cross-entropy against plain loops in double, whose gradient is checked
 * against central differences. */
#include "measured_nn.h"

struct loss_case {
    int64_t N, V, C;
    struct tensor x, w, dw_before;
    int32_t *targets;
    double loss, *row_loss, *dx, *dw; /* expected; dw with what was there before */
    int64_t n_targets;
};

/* Row n: loss, and its gradient added to dx[C] and dw[V,C] unless they are NULL. */
static double row(const struct loss_case *c, const double *x, const double *w, int64_t n,
                  double *dx, double *dw)
{
    double *p = test_alloc((size_t)c->V * sizeof *p), max = -HUGE_VAL, sum = 0;
    for (int64_t v = 0; v < c->V; v++) {
        for (int64_t i = 0; i < c->C; i++) p[v] += x[n * c->C + i] * w[v * c->C + i];
        max = fmax(max, p[v]);
    }
    for (int64_t v = 0; v < c->V; v++) sum += exp(p[v] - max);
    const double loss = max + log(sum) - p[c->targets[n]];
    for (int64_t v = 0; v < c->V && dx; v++) {
        const double d = exp(p[v] - max) / sum - (v == c->targets[n] ? 1 : 0);
        for (int64_t i = 0; i < c->C; i++) {
            dx[n * c->C + i] += d * w[v * c->C + i];
            dw[v * c->C + i] += d * x[n * c->C + i];
        }
    }
    return loss;
}

static struct loss_case make(int64_t N, int64_t V, int64_t C, float spread)
{
    struct loss_case c = {.N = N, .V = V, .C = C};
    c.x = randn_2d(1, N, C);
    c.w = randn_2d(2, V, C);
    c.dw_before = randn_2d(3, V, C);
    /* logits of standard deviation `spread`: their rounding, which exp turns into a relative
     * error, stays small beside the limits below */
    for (int64_t i = 0; i < N * C; i++) tensor_f32(&c.x)[i] *= spread / sqrtf((float)C);
    c.targets = test_alloc((size_t)N * sizeof *c.targets);
    for (int64_t n = 0; n < N; n++)
        c.targets[n] = n % 3 == 1 ? -1 : (int32_t)((n * 7919 + V - 1) % V);
    c.row_loss = test_alloc((size_t)N * sizeof(double));
    c.dx = test_alloc((size_t)(N * C) * sizeof(double));
    c.dw = in_double(&c.dw_before);
    const double *x = in_double(&c.x), *w = in_double(&c.w);
    for (int64_t n = 0; n < N; n++) {
        if (c.targets[n] < 0) continue;
        c.row_loss[n] = row(&c, x, w, n, c.dx, c.dw);
        c.loss += c.row_loss[n];
        c.n_targets++;
    }
    return c;
}

static void compare(struct nn *nn, void *arg)
{
    const struct loss_case *c = arg;
    struct tensor dx[2], dw[2], row_loss[2];
    struct nn_loss loss[2] = {{.sum = 5, .n_targets = 2}, {.sum = 5, .n_targets = 2}};
    for (int i = 0; i < 2; i++) {
        dx[i] = dirty_2d(c->N, c->C);
        dw[i] = copied(&c->dw_before);
        row_loss[i] = dirty_2d(1, c->N);
        nn_cross_entropy(nn, &loss[i], i ? NULL : tensor_f32(&row_loss[i]), &dx[i],
                         &dw[i], &c->x, &c->w, c->targets);
    }
    struct nn_loss alone = {.sum = 5, .n_targets = 2};
    nn_cross_entropy(nn, &alone, tensor_f32(&row_loss[1]), NULL, NULL, &c->x, &c->w,
                     c->targets);
    if (nn_is_measuring(nn)) return;
    assert_int_equal(loss[0].n_targets, c->n_targets + 2);
    check_within(loss[0].sum, c->loss + 5, 1e-6 * c->loss);
    check_near("row_loss", tensor_f32(&row_loss[0]), c->row_loss, c->N, 1e-12);
    check_near("dx", tensor_f32(&dx[0]), c->dx, c->N * c->C, 1e-12);
    check_near("dw", tensor_f32(&dw[0]), c->dw, c->V * c->C, 1e-12);
    check_same_bits("dx", &dx[0], &dx[1]);
    check_same_bits("dw", &dw[0], &dw[1]);
    check_same_bits("row_loss without gradient", &row_loss[0], &row_loss[1]);
    assert_memory_equal(&loss[0], &loss[1], sizeof alone);
    assert_memory_equal(&loss[0], &alone, sizeof alone);
}

TEST(loss_and_gradient_equal_double_loops)
{
    static const int64_t shapes[][3] = {
        {1, 1, 1}, {5, 7, 3}, {37, 1001, 24}, {7, 5003, 16}, {1030, 17, 4}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct loss_case c = make(shapes[i][0], shapes[i][1], shapes[i][2], 1);
        measured_each_nn(compare, &c);
    }
}

TEST(large_logits_stay_exact)
{
    struct loss_case c = make(9, 3001, 4, 80);
    measured_each_nn(compare, &c);
}

/* Columns that pad a vocabulary: whole blocks of the row are -infinity. */
static void pad_columns(struct nn *nn, void *arg)
{
    enum { V = 9001, USED = 3000 };
    (void)arg;
    if (nn_is_measuring(nn)) return;
    struct tensor x = randn_2d(1, 1, V);
    double *p = test_alloc(V * sizeof *p), sum = 0;
    for (int64_t v = USED; v < V; v++) tensor_f32(&x)[v] = -HUGE_VALF;
    for (int64_t v = 0; v < USED; v++) sum += exp((double)tensor_f32(&x)[v]);
    for (int64_t v = 0; v < USED; v++) p[v] = exp((double)tensor_f32(&x)[v]) / sum;
    const double loss = -log(p[7]);
    p[7] -= 1;
    float got = NAN;
    nn->ops->softmax_loss(nn_threads(nn), tensor_f32(&x), &got, (const int32_t[]){7}, 1,
                          V, true);
    check_within((double)got, loss, 1e-6 * loss);
    check_near("gradient", tensor_f32(&x), p, V, 1e-12);
}

TEST(columns_at_minus_infinity_have_no_share)
{
    measured_each_nn(pad_columns, NULL);
}

TEST(rows_without_target_cost_nothing)
{
    struct loss_case c = make(4, 11, 3, 1);
    for (int64_t n = 0; n < 4; n++) c.targets[n] = -1;
    c.loss = 0, c.n_targets = 0;
    memset(c.row_loss, 0, 4 * sizeof(double));
    memset(c.dx, 0, 4 * 3 * sizeof(double));
    c.dw = in_double(&c.dw_before);
    measured_each_nn(compare, &c);
}

TEST(reference_gradient_equals_central_differences)
{
    struct loss_case c = make(4, 6, 3, 1);
    double *x = in_double(&c.x), *w = in_double(&c.w);
    const double step = 1e-5;
    for (int64_t i = 0; i < c.N * c.C + c.V * c.C; i++) {
        const bool in_x = i < c.N * c.C;
        double *at = in_x ? x + i : w + i - c.N * c.C, value = *at, loss[2] = {0, 0};
        for (int side = 0; side < 2; side++) {
            *at = value + (side ? step : -step);
            for (int64_t n = 0; n < c.N; n++)
                if (c.targets[n] >= 0) loss[side] += row(&c, x, w, n, NULL, NULL);
        }
        *at = value;
        const int64_t j = i - c.N * c.C;
        const double expected =
            in_x ? c.dx[i] : c.dw[j] - (double)tensor_f32(&c.dw_before)[j];
        check_within((loss[1] - loss[0]) / (2 * step), expected, 1e-8);
    }
}
