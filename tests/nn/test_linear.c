/* @devices cpu cuda    @amx
 * Linear layers in one call, with bias, residual or gelu, against plain loops in double; and
 * products of matrices whose rows are longer than what is multiplied. */
#include "each_nn.h"

struct linear_case {
    int64_t N, C, O;
    bool bias, shifted,
        residual; /* shifted: the bias begins between two 16-byte groups */
};

/* Every operand in the type of the setting, on the host and on the device. */
struct operands {
    struct tensor x, w, b, residual, dev_x, dev_w, dev_b, dev_residual;
    const double *u; /* [N,O]: x w^T + b */
};

static const double *product(const struct operands *o, const struct linear_case *c)
{
    double *u = test_alloc((size_t)(c->N * c->O) * sizeof *u);
    for (int64_t n = 0; n < c->N; n++) {
        for (int64_t i = 0; i < c->O; i++) {
            double s = c->bias ? (double)tensor_f32(&o->b)[i] : 0;
            for (int64_t k = 0; k < c->C; k++)
                s += (double)tensor_f32(&o->x)[n * c->C + k] *
                     (double)tensor_f32(&o->w)[i * c->C + k];
            u[n * c->O + i] = s;
        }
    }
    return u;
}

static struct tensor without_first(const struct tensor *x)
{
    return tensor_1d((char *)x->data + dtype_bytes(x->dtype), x->dtype, x->shape[0] - 1);
}

static struct operands make(const struct setting *s, const struct linear_case *c)
{
    struct operands o = {.x = rounded(randn_2d(1, c->N, c->C), s->t),
                         .w = rounded(randn_2d(2, c->O, c->C), s->t),
                         .b = rounded(randn_1d(3, c->O + c->shifted), s->t),
                         .residual = rounded(randn_2d(4, c->N, c->O), s->t)};
    o.dev_x = sent(s, &o.x);
    o.dev_w = sent(s, &o.w);
    o.dev_b = sent(s, &o.b);
    o.dev_residual = sent(s, &o.residual);
    if (c->shifted) o.b = without_first(&o.b), o.dev_b = without_first(&o.dev_b);
    o.u = product(&o, c);
    return o;
}

static void linear(const struct setting *s, const struct linear_case *c)
{
    const struct operands o = make(s, c);
    struct tensor y[2];
    for (int i = 0; i < 2; i++) {
        y[i] = dirty(s, c->N, c->O);
        nn_linear_fwd(s->nn, &y[i], &o.dev_x, &o.dev_w, c->bias ? &o.dev_b : NULL,
                      c->residual ? &o.dev_residual : NULL);
    }
    if (nn_is_measuring(s->nn)) return;
    double *want = test_alloc((size_t)(c->N * c->O) * sizeof *want);
    for (int64_t i = 0; i < c->N * c->O; i++)
        want[i] = o.u[i] + (c->residual ? (double)tensor_f32(&o.residual)[i] : 0);
    check_near(s, "linear", &y[0], want, 1e-12);
    check_same_bits(s, "linear", &y[0], &y[1]);
}

static void linear_gelu(const struct setting *s, const struct linear_case *c)
{
    const struct operands o = make(s, c);
    struct tensor y[2], u[2];
    for (int i = 0; i < 2; i++) {
        y[i] = dirty(s, c->N, c->O);
        u[i] = dirty(s, c->N, c->O);
        nn_linear_gelu_fwd(s->nn, &y[i], &u[i], &o.dev_x, &o.dev_w,
                           c->bias ? &o.dev_b : NULL);
    }
    if (nn_is_measuring(s->nn)) return;
    double *want = test_alloc((size_t)(c->N * c->O) * sizeof *want);
    for (int64_t i = 0; i < c->N * c->O; i++) {
        const double v = o.u[i];
        want[i] = v / 2 * (1 + tanh(0.79788456080286536 * (v + 0.044715 * v * v * v)));
    }
    check_near(s, "u", &u[0], o.u, 1e-12);
    check_near(s, "gelu", &y[0], want, 1e-11);
    check_same_bits(s, "u", &u[0], &u[1]);
    check_same_bits(s, "gelu", &y[0], &y[1]);
}

/* Every way to give bias and residual. */
static void all_ways(const struct setting *s, const int64_t *shape,
                     void (*check)(const struct setting *s, const struct linear_case *c))
{
    for (int way = 0; way < 6; way++) {
        const struct linear_case c = {.N = shape[0],
                                      .C = shape[1],
                                      .O = shape[2],
                                      .bias = way % 3 > 0,
                                      .shifted = way % 3 > 1,
                                      .residual = way / 3 > 0};
        check(s, &c);
    }
}

static void linear_shape(const struct setting *s, void *arg)
{
    all_ways(s, arg, linear);
}

static void linear_gelu_shape(const struct setting *s, void *arg)
{
    all_ways(s, arg, linear_gelu);
}

/* with and without rows that are multiples of 8 */
static int64_t shapes[][3] = {{1, 1, 1}, {5, 3, 7}, {37, 70, 40}, {33, 131, 43}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

TEST(linear_adds_bias_and_residual)
{
    for (int i = 0; i < N_SHAPES; i++) each_nn(linear_shape, shapes[i]);
}

TEST(linear_gelu_keeps_what_it_applies_gelu_to)
{
    for (int i = 0; i < N_SHAPES; i++) each_nn(linear_gelu_shape, shapes[i]);
}

/* ---- longer rows -------------------------------------------------------------------------- */

enum { ROWS = 19, COLS = 33, DEPTH = 70, WIDE = 48, WIDE_DEPTH = 80 };

/* x[rows, wide] = inner[rows, cols] and, behind each row, `filler`. */
static struct tensor widened(const struct tensor *inner, int64_t wide, float filler)
{
    const int64_t rows = inner->shape[0], cols = inner->shape[1];
    float *x = test_alloc((size_t)(rows * wide) * sizeof *x);
    for (int64_t i = 0; i < rows * wide; i++)
        x[i] = i % wide < cols ? tensor_f32(inner)[i / wide * cols + i % wide] : filler;
    return tensor_2d(x, DTYPE_F32, rows, wide);
}

/* arg: is a transposed? */
static void longer_rows(const struct setting *s, void *arg)
{
    const bool trans = *(const bool *)arg;
    const struct tensor a =
        rounded(trans ? randn_2d(1, DEPTH, ROWS) : randn_2d(1, ROWS, DEPTH), s->t);
    const struct tensor b = rounded(randn_2d(2, DEPTH, COLS), s->t);
    const struct tensor before = rounded(randn_2d(3, ROWS, COLS), s->t);
    const struct tensor wide_a = widened(&a, trans ? WIDE : WIDE_DEPTH, NAN);
    const struct tensor wide_c = widened(&before, WIDE, 7);
    const struct tensor dev_a = sent(s, &wide_a), dev_b = sent(s, &b);
    struct tensor c = sent(s, &wide_c);
    nn_ops_for(s->nn, &dev_a)->matmul(s->nn, &c, &dev_a, trans, &dev_b, false, NN_ACCUM);
    if (nn_is_measuring(s->nn)) return;
    double *want = test_alloc(ROWS * WIDE * sizeof *want);
    for (int64_t i = 0; i < ROWS * WIDE; i++) {
        const int64_t m = i / WIDE, n = i % WIDE;
        want[i] = (double)tensor_f32(&wide_c)[i];
        for (int64_t k = 0; k < DEPTH && n < COLS; k++)
            want[i] += (double)tensor_f32(&a)[trans ? k * ROWS + m : m * DEPTH + k] *
                       (double)tensor_f32(&b)[k * COLS + n];
    }
    check_near(s, "product", &c, want, 1e-12);
    const struct tensor host = to_host(s->dev, &c);
    for (int64_t i = 0; i < ROWS * WIDE; i++)
        if (i % WIDE >= COLS) assert_true(tensor_f32(&host)[i] == 7);
}

TEST(what_lies_behind_the_rows_of_a_product_is_left_alone)
{
    bool trans = false;
    each_nn(longer_rows, &trans);
    trans = true;
    each_nn(longer_rows, &trans);
}
