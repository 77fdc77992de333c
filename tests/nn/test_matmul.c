/* @devices cpu cuda    @amx
 * @timeout 120
 * The three matrix products of a linear layer against plain loops in double. */
#include "each_nn.h"

enum kind { NT, NN_, TN };

struct product {
    enum kind kind;
    enum nn_accum mode;
    enum dtype out;             /* of the result: parameter gradients are fp32 */
    struct tensor a, b, before; /* operands; the result before the call */
    const double *expected;
    double limit; /* of the error in fp32 */
    int64_t m, n;
};

static double element(const struct product *p, int64_t i, int64_t j, int64_t K)
{
    const float *a = tensor_f32(&p->a), *b = tensor_f32(&p->b);
    double s = 0;
    for (int64_t k = 0; k < K; k++) {
        const float u = p->kind == TN ? a[k * p->m + i] : a[i * K + k];
        const float v = p->kind == NT ? b[j * K + k] : b[k * p->n + j];
        s += (double)u * (double)v;
    }
    return s;
}

static struct tensor nans(int64_t rows, int64_t cols)
{
    struct tensor x = randn_2d(1, rows, cols);
    for (int64_t i = 0; i < rows * cols; i++) tensor_f32(&x)[i] = NAN;
    return x;
}

static struct product make(enum dtype t, enum kind kind, enum nn_accum mode, int64_t m,
                           int64_t n, int64_t k)
{
    struct product p = {.kind = kind, .mode = mode, .limit = 1e-13, .m = m, .n = n};
    p.out = kind == TN ? DTYPE_F32 : t;
    p.a = rounded(kind == TN ? randn_2d(1, k, m) : randn_2d(1, m, k), t);
    p.b = rounded(kind == NT ? randn_2d(2, n, k) : randn_2d(2, k, n), t);
    p.before = mode == NN_ACCUM ? rounded(randn_2d(3, m, n), p.out) : nans(m, n);
    double *e = test_alloc((size_t)(m * n) * sizeof *e);
    for (int64_t i = 0; i < m * n; i++)
        e[i] = element(&p, i / n, i % n, k) +
               (mode == NN_ACCUM ? (double)tensor_f32(&p.before)[i] : 0);
    p.expected = e;
    return p;
}

static void call(const struct setting *s, struct tensor *c, const struct product *p)
{
    const struct tensor a = sent(s, &p->a), b = sent(s, &p->b);
    switch (p->kind) {
    case NT:
        nn_matmul_nt(s->nn, c, &a, &b, p->mode);
        break;
    case NN_:
        nn_matmul_nn(s->nn, c, &a, &b, p->mode);
        break;
    case TN:
        nn_matmul_tn(s->nn, c, &a, &b, p->mode);
        break;
    }
}

static void compare(const struct setting *s, void *arg)
{
    const struct product *p = arg;
    struct tensor c = on_device(s->dev, &p->before, p->out);
    struct tensor again = on_device(s->dev, &p->before, p->out);
    call(s, &c, p);
    if (nn_is_measuring(s->nn)) {
        check_exact(s, "measuring leaves the result alone", &c, &p->before);
        return;
    }
    call(s, &again, p);
    check_near(s, "product", &c, p->expected, p->limit);
    check_same_bits(s, "product", &c, &again);
}

static void all_shapes(enum kind kind)
{
    static const int64_t shapes[][3] = {{1, 1, 1},   {3, 5, 7},      {1, 33, 65},
                                        {65, 1, 17}, {130, 97, 259}, {16, 64, 8}};
    EACH_TYPE(t)
    {
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            for (int mode = 0; mode < 2; mode++) {
                struct product p = make(t, kind, mode ? NN_ACCUM : NN_ASSIGN,
                                        shapes[i][0], shapes[i][1], shapes[i][2]);
                each_nn_of_type(t, compare, &p);
            }
        }
    }
}

TEST(product_with_transposed_weights_equals_double_loops)
{
    all_shapes(NT);
}

TEST(activation_gradient_product_equals_double_loops)
{
    all_shapes(NN_);
}

TEST(weight_gradient_product_equals_double_loops)
{
    all_shapes(TN);
}

/* ---- what a cache does not hold ------------------------------------------------------------ */

/* Cut along the sum, and in the rows of either operand. */
TEST(product_of_several_blocks_equals_double_loops)
{
    static const int64_t shapes[][3] = {{33, 40, 1601}, {810, 33, 801}, {33, 810, 801}};
    static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16};
    if (!tests_on_cpu()) return;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (enum kind kind = NT; kind <= TN; kind++)
            for (int t = 0; t < 2; t++) {
                struct product p = make(types[t], kind, NN_ACCUM, shapes[i][0],
                                        shapes[i][1], shapes[i][2]);
                p.limit = 5e-13; /* longer sums */
                each_cpu_nn(types[t], compare, &p);
            }
}

enum { M = 100, N = 200, K = 1000 };

/* A product on one thread, and on more. */
struct one_thread {
    const struct product *p;
    struct tensor c; /* on the host */
};

static void compare_with_one_thread(const struct setting *s, void *arg)
{
    struct one_thread *one = arg;
    struct tensor c = on_device(s->dev, &one->p->before, one->p->out);
    call(s, &c, one->p);
    if (nn_is_measuring(s->nn)) return;
    if (nn_threads(s->nn) == 1)
        one->c = to_host(s->dev, &c);
    else
        check_exact(s, "product on more threads", &c, &one->c);
}

TEST(bf16_product_does_not_depend_on_threads)
{
    if (!tests_on_cpu()) return;
    for (enum kind kind = NT; kind <= TN; kind++) {
        const struct product p = make(DTYPE_BF16, kind, NN_ACCUM, M, N, K);
        /* so long that last shares are smaller, whichever operand passes */
        const struct product q = make(DTYPE_BF16, kind, NN_ACCUM, 810, 33, 40);
        const struct product r = make(DTYPE_BF16, kind, NN_ACCUM, 33, 810, 40);
        each_cpu_nn(DTYPE_BF16, compare_with_one_thread, &(struct one_thread){.p = &p});
        each_cpu_nn(DTYPE_BF16, compare_with_one_thread, &(struct one_thread){.p = &q});
        each_cpu_nn(DTYPE_BF16, compare_with_one_thread, &(struct one_thread){.p = &r});
    }
}

/* ---- fp32 out of bf16 ----------------------------------------------------------------------- */

enum { ROWS = 40, COLS = 70, DEPTH = 1100 };

struct errors {
    const struct product *p;
    double of_fma; /* squared: of one multiply-add after the other */
};

static void compare_with_fma(const struct setting *s, void *arg)
{
    const struct errors *e = arg;
    struct tensor c = on_device(s->dev, &e->p->before, DTYPE_F32);
    double error = 0;
    call(s, &c, e->p);
    if (nn_is_measuring(s->nn) || strcmp(nn_isa(s->nn, s->t), "amx") != 0) return;
    for (int i = 0; i < ROWS * COLS; i++) {
        const double d = (double)tensor_f32(&c)[i] - e->p->expected[i];
        error += d * d;
    }
    if (!(error <= e->of_fma))
        fail_msg("squared errors %.3g > %.3g of multiply-adds", error, e->of_fma);
}

/* Numbers of all sizes; else of one size and sign, whose sums are rounded the most. */
static void set_numbers(struct product *p, bool all_sizes)
{
    const struct tensor *x[2] = {&p->a, &p->b};
    for (int o = 0; o < 2; o++)
        for (int64_t i = 0; i < tensor_elements(x[o]); i++) {
            float *v = &tensor_f32(x[o])[i];
            *v = all_sizes ? ldexpf(*v, (int)(i * 7 % 41) - 20) : fabsf(*v);
        }
}

static struct errors errors_of(struct product *p)
{
    struct errors e = {.p = p};
    const float *a = tensor_f32(&p->a), *b = tensor_f32(&p->b);
    double *want = test_alloc(ROWS * COLS * sizeof *want);
    for (int i = 0; i < ROWS * COLS; i++) {
        float s = 0;
        for (int k = 0; k < DEPTH; k++)
            s = fmaf(a[i / COLS * DEPTH + k], b[i % COLS * DEPTH + k], s);
        want[i] = element(p, i / COLS, i % COLS, DEPTH);
        e.of_fma += ((double)s - want[i]) * ((double)s - want[i]);
    }
    p->expected = want;
    return e;
}

TEST(fp32_products_out_of_bf16_are_as_exact_as_multiply_adds)
{
    if (!tests_on_cpu()) return;
    for (int all_sizes = 0; all_sizes < 2; all_sizes++) {
        struct product p = make(DTYPE_F32, NT, NN_ASSIGN, ROWS, COLS, DEPTH);
        set_numbers(&p, all_sizes);
        struct errors e = errors_of(&p);
        each_cpu_nn(DTYPE_F32, compare_with_fma, &e);
    }
}
