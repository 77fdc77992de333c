/* @devices cpu cuda    @amx
 * Bias against plain loops in double. */
#include "each_nn.h"

static const int64_t rows[] = {1, 5, 33}, cols[] = {1, 7, 129, 768};

#define EACH_SHAPE(N, O)                                                                 \
    for (int i_ = 0; i_ < 12; i_++)                                                      \
        for (int64_t N = rows[i_ / 4], O = cols[i_ % 4], once_ = 1; once_; once_ = 0)

static void add(const struct setting *s, void *arg)
{
    (void)arg;
    EACH_SHAPE(N, O)
    {
        const struct tensor x = rounded(randn_2d(1, N, O), s->t);
        const struct tensor b = rounded(randn_1d(2, O), s->t);
        const struct tensor dev_x = sent(s, &x), dev_b = sent(s, &b);
        struct tensor y = dirty(s, N, O), in_place = sent(s, &x);
        nn_bias_add(s->nn, &y, &dev_x, &dev_b);
        nn_bias_add(s->nn, &in_place, &in_place, &dev_b);
        if (nn_is_measuring(s->nn)) continue;
        struct tensor want = randn_2d(4, N, O);
        for (int64_t i = 0; i < N * O; i++)
            tensor_f32(&want)[i] = tensor_f32(&x)[i] + tensor_f32(&b)[i % O];
        check_exact(s, "bias_add", &y, &want);
        check_exact(s, "bias_add in place", &in_place, &want);
    }
}

TEST(bias_add_equals_plain_addition_also_in_place)
{
    each_nn(add, NULL);
}

static void copy(const struct setting *s, void *arg)
{
    (void)arg;
    const struct tensor host = randn_2d(1, 5, 129);
    struct tensor x = sent(s, &host), y = dirty(s, 5, 129);
    nn_bias_add(s->nn, &y, &x, NULL);
    nn_bias_add(s->nn, &x, &x, NULL);
    if (nn_is_measuring(s->nn)) return;
    check_exact(s, "copy", &y, &host);
    check_exact(s, "copy onto itself", &x, &host);
}

TEST(bias_add_without_bias_copies)
{
    each_nn(copy, NULL);
}

static void backward(const struct setting *s, void *arg)
{
    (void)arg;
    EACH_SHAPE(N, O)
    {
        const struct tensor dy = rounded(randn_2d(1, N, O), s->t);
        const struct tensor before = randn_1d(2, O), dev_dy = sent(s, &dy);
        struct tensor db = sent_f32(s, &before), again = sent_f32(s, &before);
        nn_bias_bwd(s->nn, &db, &dev_dy);
        nn_bias_bwd(s->nn, &again, &dev_dy);
        if (nn_is_measuring(s->nn)) continue;
        struct tensor want = copied(&before);
        for (int64_t o = 0; o < O; o++) {
            double sum = tensor_f32(&before)[o];
            for (int64_t n = 0; n < N; n++) sum += tensor_f32(&dy)[n * O + o];
            tensor_f32(&want)[o] = (float)sum;
        }
        check_close(s, "db", &db, &want, 1e-12);
        check_same_bits(s, "db", &db, &again);
    }
}

TEST(bias_bwd_adds_the_column_sums_and_repeats_bitwise)
{
    each_nn(backward, NULL);
}

static void same_as_first(const struct setting *s, void *arg)
{
    struct tensor *first = arg;
    const struct tensor dy = randn_2d(1, 33, 129);
    struct tensor db = randn_1d(2, 129);
    nn_bias_bwd(s->nn, &db, &dy);
    if (nn_is_measuring(s->nn)) return;
    if (!first->data) *first = copied(&db);
    check_same_bits(s, "db", &db, first);
}

TEST(bias_bwd_on_the_cpu_does_not_depend_on_threads_or_instruction_set)
{
    struct tensor first = {0};
    each_cpu_nn(DTYPE_F32, same_as_first, &first);
}

/* db ends inside a cache line, and so inside a thread's stripe */
static void stays_inside(const struct setting *s, void *arg)
{
    (void)arg;
    const struct tensor host_dy = randn_2d(1, 9, 7), before = randn_1d(2, 64);
    const struct tensor dy = sent(s, &host_dy);
    struct tensor after = sent_f32(s, &before);
    struct tensor db = tensor_1d(after.data, DTYPE_F32, 7);
    nn_bias_bwd(s->nn, &db, &dy);
    if (nn_is_measuring(s->nn)) return;
    after = to_host(s->dev, &after);
    for (int64_t i = 0; i < 64; i++)
        assert_true((tensor_f32(&after)[i] != tensor_f32(&before)[i]) == (i < 7));
}

TEST(bias_bwd_writes_only_its_columns)
{
    each_nn(stays_inside, NULL);
}
