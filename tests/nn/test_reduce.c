/* The sum of squares of a flat range. */
#include "measured_nn.h"

struct sum_case {
    struct tensor x;
    double expected, first; /* first: what the first table and number of threads gave */
};

static void compare(struct nn *nn, void *arg)
{
    struct sum_case *c = arg;
    const int64_t n = c->x.shape[0];
    const double got = nn_sum_squares(nn, tensor_f32(&c->x), n);
    if (nn_is_measuring(nn)) return;
    check_within(got, c->expected, 1e-13 * c->expected);
    const double again = nn_sum_squares(nn, tensor_f32(&c->x), n);
    assert_memory_equal(&got, &again, sizeof got);
    if (nn_threads(nn) == 1) c->first = got;
    assert_memory_equal(&got, &c->first, sizeof got); /* 2 and 3 threads as 1 */
}

TEST(sum_of_squares_is_exact_and_independent_of_threads)
{
    static const int64_t sizes[] = {0, 1, 15, 1023, 1025, 100003, (1 << 20) + 3, 3000017};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct sum_case c = {.x = randn_1d(i, sizes[i])};
        long double s = 0;
        for (int64_t j = 0; j < sizes[i]; j++) {
            const long double v = tensor_f32(&c.x)[j];
            s += v * v;
        }
        c.expected = (double)s;
        measured_each_nn(compare, &c);
    }
}

TEST(one_nan_shows_in_the_sum)
{
    struct device *dev = NULL;
    struct nn *nn = NULL;
    struct tensor x = randn_1d(1, 5000);
    tensor_f32(&x)[4321] = NAN;
    ASSERT_OK(device_open(&dev, "cpu"));
    ASSERT_OK(nn_create(&nn, dev, 2, 0));
    assert_true(isnan(nn_sum_squares(nn, tensor_f32(&x), 5000)));
    nn_destroy(&nn);
    device_close(&dev);
}
