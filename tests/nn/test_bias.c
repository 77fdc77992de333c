/* Bias against plain loops in double. */
#include "each_nn.h"

static const int64_t rows[] = {1, 5, 33}, cols[] = {1, 7, 129, 768};

#define EACH_SHAPE(N, O)                                                                 \
    for (int i_ = 0; i_ < 12; i_++)                                                      \
        for (int64_t N = rows[i_ / 4], O = cols[i_ % 4], once_ = 1; once_; once_ = 0)

static void add(struct nn *nn, void *arg)
{
    (void)arg;
    EACH_SHAPE(N, O)
    {
        const struct tensor x = randn_2d(1, N, O), b = randn_1d(2, O);
        struct tensor y = randn_2d(3, N, O), want = randn_2d(4, N, O);
        for (int64_t i = 0; i < N * O; i++)
            tensor_f32(&want)[i] = tensor_f32(&x)[i] + tensor_f32(&b)[i % O];
        nn_bias_add(nn, &y, &x, &b);
        assert_true(same_bits(&y, &want));

        struct tensor in_place = copy_of(&x);
        nn_bias_add(nn, &in_place, &in_place, &b);
        assert_true(same_bits(&in_place, &want));
    }
}

TEST(bias_add_equals_plain_addition_also_in_place)
{
    each_nn(add, NULL);
}

static void copy(struct nn *nn, void *arg)
{
    (void)arg;
    struct tensor x = randn_2d(1, 5, 129), y = randn_2d(2, 5, 129);
    nn_bias_add(nn, &y, &x, NULL);
    assert_true(same_bits(&y, &x));
    nn_bias_add(nn, &x, &x, NULL);
    assert_true(same_bits(&y, &x));
}

TEST(bias_add_without_bias_copies)
{
    each_nn(copy, NULL);
}

static void backward(struct nn *nn, void *arg)
{
    (void)arg;
    EACH_SHAPE(N, O)
    {
        const struct tensor dy = randn_2d(1, N, O), before = randn_1d(2, O);
        struct tensor db = copy_of(&before), want = copy_of(&before);
        for (int64_t o = 0; o < O; o++) {
            double sum = tensor_f32(&before)[o];
            for (int64_t n = 0; n < N; n++) sum += tensor_f32(&dy)[n * O + o];
            tensor_f32(&want)[o] = (float)sum;
        }
        nn_bias_bwd(nn, &db, &dy);
        CHECK_CLOSE(&db, &want, 1e-12);
    }
}

TEST(bias_bwd_adds_the_column_sums)
{
    each_nn(backward, NULL);
}

static void same_as_first(struct nn *nn, void *arg)
{
    struct tensor *first = arg;
    const struct tensor dy = randn_2d(1, 33, 129);
    struct tensor db = randn_1d(2, 129);
    nn_bias_bwd(nn, &db, &dy);
    if (!first->data) *first = copy_of(&db);
    assert_true(same_bits(&db, first));
}

TEST(bias_bwd_does_not_depend_on_threads_or_instruction_set)
{
    struct tensor first = {0};
    each_nn(same_as_first, &first);
}

/* db ends inside a cache line, and so inside a thread's stripe */
static void stays_inside(struct nn *nn, void *arg)
{
    (void)arg;
    const struct tensor dy = randn_2d(1, 9, 7), before = randn_1d(2, 64);
    struct tensor after = copy_of(&before), db = tensor_1d(after.data, DTYPE_F32, 7);
    nn_bias_bwd(nn, &db, &dy);
    for (int64_t i = 0; i < 64; i++)
        assert_true((tensor_f32(&after)[i] != tensor_f32(&before)[i]) == (i < 7));
}

TEST(bias_bwd_writes_only_its_columns)
{
    each_nn(stays_inside, NULL);
}
