/* @devices cpu cuda    @amx
 * @timeout 120
 * Fused LM head and cross-entropy against plain loops in double, whose gradient is checked
 * against central differences. */
#include "each_nn.h"

struct loss_case {
    int64_t N, V, C;
    struct tensor x, w, dw_before;
    int32_t *targets;
    float scale, z;                   /* of the gradient; of the z-loss */
    double loss, *row_loss, *dx, *dw; /* expected; dw with what was there before */
    double z_sum;
    int64_t n_targets;
};

/* Row n: loss and squared log-sum-exp, and the gradient of loss + z * square added to dx[C] and
 * dw[V,C] unless they are NULL. */
static double row(const struct loss_case *c, const double *x, const double *w, int64_t n,
                  double *square, double *dx, double *dw)
{
    double *p = test_alloc((size_t)c->V * sizeof *p), max = -HUGE_VAL, sum = 0;
    for (int64_t v = 0; v < c->V; v++) {
        for (int64_t i = 0; i < c->C; i++) p[v] += x[n * c->C + i] * w[v * c->C + i];
        max = fmax(max, p[v]);
    }
    for (int64_t v = 0; v < c->V; v++) sum += exp(p[v] - max);
    const double lse = max + log(sum), loss = lse - p[c->targets[n]];
    *square = lse * lse;
    for (int64_t v = 0; v < c->V && dx; v++) {
        const double share = exp(p[v] - max) / sum, one = v == c->targets[n] ? 1 : 0;
        const double d =
            (double)c->scale * (share - one + 2 * (double)c->z * lse * share);
        for (int64_t i = 0; i < c->C; i++) {
            dx[n * c->C + i] += d * w[v * c->C + i];
            dw[v * c->C + i] += d * x[n * c->C + i];
        }
    }
    return loss;
}

static void expect(struct loss_case *c)
{
    c->row_loss = test_alloc((size_t)c->N * sizeof(double));
    c->dx = test_alloc((size_t)(c->N * c->C) * sizeof(double));
    c->dw = in_double(&c->dw_before);
    c->loss = 0, c->z_sum = 0, c->n_targets = 0;
    const double *x = in_double(&c->x), *w = in_double(&c->w);
    for (int64_t n = 0; n < c->N; n++) {
        if (c->targets[n] < 0) continue;
        double square;
        c->row_loss[n] = row(c, x, w, n, &square, c->dx, c->dw);
        c->z_sum += square;
        c->loss += c->row_loss[n];
        c->n_targets++;
    }
}

static struct loss_case make_with_z(enum dtype t, const int64_t shape[3], float spread,
                                    float scale, float z)
{
    const int64_t N = shape[0], V = shape[1], C = shape[2];
    struct loss_case c = {.N = N, .V = V, .C = C, .scale = scale, .z = z};
    c.x = randn_2d(1, N, C);
    c.w = rounded(randn_2d(2, V, C), t);
    c.dw_before = randn_2d(3, V, C);
    /* logits of standard deviation `spread`: their rounding, which exp turns into a relative
     * error, stays small beside the limits below */
    for (int64_t i = 0; i < N * C; i++) tensor_f32(&c.x)[i] *= spread / sqrtf((float)C);
    rounded(c.x, t);
    for (int64_t i = 0; i < V * C; i++) tensor_f32(&c.dw_before)[i] *= scale;
    c.targets = test_alloc((size_t)N * sizeof *c.targets);
    for (int64_t n = 0; n < N; n++)
        c.targets[n] = n % 3 == 1 ? -1 : (int32_t)((n * 7919 + V - 1) % V);
    expect(&c);
    return c;
}

static struct loss_case make(enum dtype t, const int64_t shape[3], float spread,
                             float scale)
{
    return make_with_z(t, shape, spread, scale, 0);
}

/* What one call gave, in device memory. */
struct results {
    struct nn_loss *loss;
    struct tensor row_loss, dx, dw;
};

static struct results call(const struct setting *s, const struct loss_case *c,
                           bool row_loss, bool gradient)
{
    static const struct nn_loss before = {.sum = 5, .z_sum = 3, .n_targets = 2};
    const struct tensor x = sent(s, &c->x), w = sent(s, &c->w);
    struct results r = {.loss = bytes_on_device(s->dev, &before, sizeof before),
                        .row_loss = dirty_f32(s, 1, c->N),
                        .dx = dirty(s, c->N, c->C),
                        .dw = sent_f32(s, &c->dw_before)};
    nn_cross_entropy(s->nn, r.loss, row_loss ? tensor_f32(&r.row_loss) : NULL,
                     gradient ? &r.dx : NULL, gradient ? &r.dw : NULL, &x, &w,
                     ints_on_device(s->dev, c->targets, c->N), c->scale, c->z, NULL);
    return r;
}

static struct nn_loss loss_of(const struct setting *s, const struct results *r)
{
    struct nn_loss loss;
    device_copy_out(s->dev, &loss, r->loss, sizeof loss);
    return loss;
}

/* Logits and their gradient are of the setting's type, and so everything goes through it. */
static void compare(const struct setting *s, void *arg)
{
    const struct loss_case *c = arg;
    const struct results r = call(s, c, true, true), again = call(s, c, false, true);
    const struct results alone = call(s, c, true, false);
    if (nn_is_measuring(s->nn)) return;
    const struct nn_loss loss = loss_of(s, &r), loss_again = loss_of(s, &again);
    const struct nn_loss loss_alone = loss_of(s, &alone);
    const double relative = s->t == DTYPE_F32 ? 1e-6 : s->t == DTYPE_F16 ? 1e-4 : 1e-3;
    assert_int_equal(loss.n_targets, c->n_targets + 2);
    check_within(loss.sum, c->loss + 5, relative * c->loss);
    check_within(loss.z_sum, 3 + (c->z > 0 ? c->z_sum : 0), 10 * relative * c->z_sum);
    check_through(s, s->t, "row_loss", &r.row_loss, c->row_loss, 1e-12);
    check_through(s, s->t, "dx", &r.dx, c->dx, 1e-12);
    check_through(s, s->t, "dw", &r.dw, c->dw, 1e-12);
    check_same_bits(s, "dx", &r.dx, &again.dx);
    check_same_bits(s, "dw", &r.dw, &again.dw);
    check_same_bits(s, "row_loss without gradient", &r.row_loss, &alone.row_loss);
    assert_memory_equal(&loss, &loss_again, sizeof loss);
    assert_memory_equal(&loss, &loss_alone, sizeof loss);
}

/* ---- the vocabulary in parts ---------------------------------------------------------------- */

enum { PARTS = 4, MAX_CHUNKS = 64 };

/* What the parts would have sent each other: the first pass collects, the second hands out. */
struct meeting {
    struct device *dev;
    bool collects;
    int index, chunk;
    float *blocks[MAX_CHUNKS]; /* [PARTS][rows][3] */
};

static void meet(void *context, float *stats, int64_t rows)
{
    struct meeting *m = context;
    const size_t n = (size_t)(PARTS * rows * 3), own = (size_t)(rows * 3);
    assert_true(m->chunk < MAX_CHUNKS);
    if (!m->blocks[m->chunk]) m->blocks[m->chunk] = test_alloc(n * sizeof(float));
    float *all = m->blocks[m->chunk++];
    if (m->collects)
        device_copy_out(m->dev, all + (size_t)m->index * own,
                        stats + (size_t)m->index * own, own * sizeof *all);
    else
        device_copy_in(m->dev, stats, all, n * sizeof *all);
}

/* Unlike sizes, the last part short. */
static void part_rows(int64_t V, int i, int64_t *first, int64_t *n)
{
    const int64_t each = (V + PARTS - 1) / PARTS;
    *first = i * each;
    *n = V - *first < each ? V - *first : each;
}

static void compare_parts(const struct setting *s, void *arg)
{
    const struct loss_case *c = arg;
    struct meeting m = {.dev = s->dev, .collects = true};
    const struct tensor x = sent(s, &c->x);
    const int32_t *targets = ints_on_device(s->dev, c->targets, c->N);
    double *dx = test_alloc((size_t)(c->N * c->C) * sizeof *dx);
    for (int pass = 0; pass < 2; pass++, m.collects = false)
        for (m.index = 0; m.index < PARTS; m.index++) {
            int64_t first, n;
            part_rows(c->V, m.index, &first, &n);
            m.chunk = 0;
            const struct nn_vocab_slice slice = {.first = first,
                                                 .vocab_size = c->V,
                                                 .index = m.index,
                                                 .count = PARTS,
                                                 .gather = meet,
                                                 .context = &m};
            const struct tensor w_part = tensor_rows(&c->w, first, n);
            const struct tensor w = sent(s, &w_part);
            const struct tensor before = tensor_rows(&c->dw_before, first, n);
            const struct nn_loss none = {.sum = 0};
            struct nn_loss *loss = bytes_on_device(s->dev, &none, sizeof none), got;
            struct tensor rows = dirty_f32(s, 1, c->N), dw = sent_f32(s, &before);
            struct tensor dx_part = dirty(s, c->N, c->C);
            nn_cross_entropy(s->nn, loss, tensor_f32(&rows), &dx_part, &dw, &x, &w,
                             targets, c->scale, c->z, &slice);
            if (nn_is_measuring(s->nn) || pass == 0) continue;
            device_copy_out(s->dev, &got, loss, sizeof got);
            const double relative = s->t == DTYPE_F32   ? 1e-6
                                    : s->t == DTYPE_F16 ? 1e-4
                                                        : 1e-3;
            assert_int_equal(got.n_targets, c->n_targets);
            check_within(got.sum, c->loss, relative * c->loss);
            check_within(got.z_sum, c->z > 0 ? c->z_sum : 0, 10 * relative * c->z_sum);
            check_through(s, s->t, "row_loss", &rows, c->row_loss, 1e-12);
            check_through(s, s->t, "dw", &dw, c->dw + first * c->C, 1e-12);
            const struct tensor host = to_host(s->dev, &dx_part);
            for (int64_t i = 0; i < c->N * c->C; i++)
                dx[i] += (double)tensor_f32(&host)[i];
        }
    if (nn_is_measuring(s->nn)) return;
    double error = 0, size = 0;
    for (int64_t i = 0; i < c->N * c->C; i++) {
        error += (dx[i] - c->dx[i]) * (dx[i] - c->dx[i]);
        size += c->dx[i] * c->dx[i];
    }
    if (!(error <= 4 * limit_of(s, s->t, 1e-12) * size))
        fail_msg("dx of all parts in %s: NMSE %.3g", dtype_name(s->t), error / size);
}

TEST(parts_of_the_vocabulary_together_are_the_whole)
{
    static const int64_t sizes[][3] = {{5, 7, 3}, {37, 1021, 24}, {1030, 17, 4}};
    EACH_TYPE(t)
    {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            struct loss_case c = make(t, sizes[i], 0.5f, 1);
            each_nn_of_type(t, compare_parts, &c);
        }
    }
}

/* 0.125 is far more than anybody trains with: what it does must not vanish beside the rest. */
TEST(parts_have_the_z_loss_of_the_whole)
{
    static const int64_t shape[] = {37, 1021, 24};
    EACH_TYPE(t)
    {
        struct loss_case c = make_with_z(t, shape, 0.5f, 1, 0.125f);
        each_nn_of_type(t, compare_parts, &c);
    }
}

/* N, V, C */
static const int64_t shapes[][3] = {{1, 1, 1},     {5, 7, 3},   {37, 1001, 24},
                                    {7, 5003, 16}, {3, 64, 40}, {1030, 17, 4},
                                    {16390, 3, 2}}; /* the last are more than one chunk */
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

TEST(loss_and_gradient_equal_double_loops)
{
    EACH_TYPE(t)
    {
        for (size_t i = 0; i < N_SHAPES; i++) {
            struct loss_case c = make(t, shapes[i], 1, 1);
            each_nn_of_type(t, compare, &c);
        }
    }
}

TEST(the_z_loss_is_in_the_gradient_and_not_in_the_loss)
{
    EACH_TYPE(t)
    {
        /* of one token the z-loss is the whole gradient, and all its rounding is seen */
        for (size_t i = t == DTYPE_F32 ? 0 : 1; i < N_SHAPES; i++) {
            struct loss_case c = make_with_z(t, shapes[i], 1, 1, 0.125f);
            each_nn_of_type(t, compare, &c);
        }
    }
}

/* A power of two, as a loss scale is; and one that makes fp16's gradients as small as those of a
 * mean over many targets. */
TEST(the_gradient_is_that_of_the_scaled_sum)
{
    EACH_TYPE(t)
    {
        for (int i = 0; i < 2; i++) {
            struct loss_case c = make(t, shapes[i ? 2 : 1], 1, i ? 1024 : 0.25f);
            each_nn_of_type(t, compare, &c);
        }
    }
}

TEST(large_logits_stay_exact)
{
    static const int64_t shape[] = {9, 3001, 4};
    struct loss_case c = make(DTYPE_F32, shape, 80, 1);
    each_nn_of_type(DTYPE_F32, compare, &c);
}

/* Columns that pad a vocabulary: whole blocks of the row are -infinity. */
static void pad_columns(const struct setting *s, void *arg)
{
    enum { V = 9001, USED = 3000 };
    (void)arg;
    if (nn_is_measuring(s->nn)) return;
    const struct tensor x = rounded(randn_2d(1, 1, V), s->t);
    double *p = test_alloc(V * sizeof *p), sum = 0;
    for (int64_t v = USED; v < V; v++) tensor_f32(&x)[v] = -HUGE_VALF;
    for (int64_t v = 0; v < USED; v++) sum += exp((double)tensor_f32(&x)[v]);
    for (int64_t v = 0; v < USED; v++) p[v] = exp((double)tensor_f32(&x)[v]) / sum;
    const double expected = -log(p[7]);
    p[7] -= 1;
    const int32_t target = 7;
    const struct nn_loss zero = {0};
    struct tensor logits = sent(s, &x), got = dirty_f32(s, 1, 1);
    const struct nn_loss_rows rows = {.targets = ints_on_device(s->dev, &target, 1),
                                      .loss = tensor_f32(&got),
                                      .gradient_scale = 1};
    nn_ops_for(s->nn, &logits)
        ->softmax_loss(s->nn, bytes_on_device(s->dev, &zero, sizeof zero), &logits, V,
                       &rows);
    check_near(s, "gradient", &logits, p, 1e-12);
    got = to_host(s->dev, &got);
    check_within((double)*tensor_f32(&got), expected, 1e-6 * expected);
}

TEST(columns_at_minus_infinity_have_no_share)
{
    each_nn(pad_columns, NULL);
}

TEST(rows_without_target_cost_nothing)
{
    static const int64_t shape[] = {4, 11, 3};
    EACH_TYPE(t)
    {
        struct loss_case c = make(t, shape, 1, 1);
        for (int64_t n = 0; n < 4; n++) c.targets[n] = -1;
        expect(&c);
        each_nn_of_type(t, compare, &c);
    }
}

static void check_reference(float z)
{
    static const int64_t shape[] = {4, 6, 3};
    struct loss_case c = make_with_z(DTYPE_F32, shape, 1, 1, z);
    double *x = in_double(&c.x), *w = in_double(&c.w);
    const double step = 1e-5;
    for (int64_t i = 0; i < c.N * c.C + c.V * c.C; i++) {
        const bool in_x = i < c.N * c.C;
        double *at = in_x ? x + i : w + i - c.N * c.C, value = *at, loss[2] = {0, 0};
        for (int side = 0; side < 2; side++) {
            *at = value + (side ? step : -step);
            for (int64_t n = 0; n < c.N; n++) {
                double square;
                if (c.targets[n] < 0) continue;
                loss[side] += row(&c, x, w, n, &square, NULL, NULL);
                loss[side] += (double)z * square;
            }
        }
        *at = value;
        const int64_t j = i - c.N * c.C;
        const double expected =
            in_x ? c.dx[i] : c.dw[j] - (double)tensor_f32(&c.dw_before)[j];
        check_within((loss[1] - loss[0]) / (2 * step), expected, 1e-8);
    }
}

TEST(reference_gradient_equals_central_differences)
{
    check_reference(0);
    check_reference(0.125f);
}
