/* The three matrix products of a linear layer against plain loops in double. */
#include "measured_nn.h"

enum kind { NT, NN_, TN };

struct product {
    enum kind kind;
    enum nn_accum mode;
    struct tensor a, b, before; /* operands; the result before the call */
    const double *expected;
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

static struct product make(enum kind kind, enum nn_accum mode, int64_t m, int64_t n,
                           int64_t k)
{
    struct product p = {.kind = kind, .mode = mode, .m = m, .n = n};
    p.a = kind == TN ? randn_2d(1, k, m) : randn_2d(1, m, k);
    p.b = kind == NT ? randn_2d(2, n, k) : randn_2d(2, k, n);
    p.before = mode == NN_ACCUM ? randn_2d(3, m, n) : dirty_2d(m, n);
    double *e = test_alloc((size_t)(m * n) * sizeof *e);
    for (int64_t i = 0; i < m * n; i++)
        e[i] = element(&p, i / n, i % n, k) +
               (mode == NN_ACCUM ? (double)tensor_f32(&p.before)[i] : 0);
    p.expected = e;
    return p;
}

static void call(struct nn *nn, struct tensor *c, const struct product *p)
{
    switch (p->kind) {
    case NT:
        nn_matmul_nt(nn, c, &p->a, &p->b, p->mode);
        break;
    case NN_:
        nn_matmul_nn(nn, c, &p->a, &p->b, p->mode);
        break;
    case TN:
        nn_matmul_tn(nn, c, &p->a, &p->b, p->mode);
        break;
    }
}

static void compare(struct nn *nn, void *arg)
{
    const struct product *p = arg;
    struct tensor c = copied(&p->before), again = copied(&p->before);
    call(nn, &c, p);
    if (nn_is_measuring(nn)) {
        check_same_bits("measuring leaves the result alone", &c, &p->before);
        return;
    }
    call(nn, &again, p);
    check_near("product", tensor_f32(&c), p->expected, p->m * p->n, 1e-13);
    check_same_bits("product", &c, &again);
}

static void all_shapes(enum kind kind)
{
    static const int64_t shapes[][3] = {
        {1, 1, 1}, {3, 5, 7}, {1, 33, 65}, {65, 1, 17}, {130, 97, 259}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int mode = 0; mode < 2; mode++) {
            struct product p = make(kind, mode ? NN_ACCUM : NN_ASSIGN, shapes[i][0],
                                    shapes[i][1], shapes[i][2]);
            measured_each_nn(compare, &p);
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
