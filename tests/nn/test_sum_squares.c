/* @devices cpu cuda
 * The sum of squares of a flat range. */
#include "each_nn.h"

struct sum_case {
    struct tensor x;
    double expected, first; /* first: what the first table and number of threads gave */
};

/* start + the sum of squares, as the device adds it */
static double added(const struct setting *s, const struct tensor *x, double start)
{
    double *sum = bytes_on_device(s->dev, &start, sizeof start), got;
    nn_sum_squares(s->nn, sum, tensor_f32(x), tensor_elements(x));
    device_copy_out(s->dev, &got, sum, sizeof got);
    return got;
}

static void compare(const struct setting *s, void *arg)
{
    struct sum_case *c = arg;
    const struct tensor x = sent_f32(s, &c->x);
    const double got = added(s, &x, 0);
    if (nn_is_measuring(s->nn)) {
        assert_true(got == 0);
        return;
    }
    check_within(got, c->expected, 1e-13 * c->expected);
    const double again = added(s, &x, 0), more = added(s, &x, 3.5);
    assert_memory_equal(&got, &again, sizeof got);
    check_within(more, c->expected + 3.5, 1e-13 * (c->expected + 3.5));
    if (nn_threads(s->nn) == 1) c->first = got;
    assert_memory_equal(&got, &c->first, sizeof got); /* 2 and 3 threads as 1 */
}

TEST(sum_of_squares_is_exact_and_independent_of_threads)
{
    static const int64_t sizes[] = {0, 1, 15, 1023, 1025, 100003, (1 << 20) + 3, 3000017};
    const size_t n_sizes = sizeof sizes / sizeof *sizes;
    for (size_t i = 0; i < n_sizes - (tests_on_cpu() ? 0 : 1); i++) {
        struct sum_case c = {.x = randn_1d(i, sizes[i])};
        long double s = 0;
        for (int64_t j = 0; j < sizes[i]; j++) {
            const long double v = tensor_f32(&c.x)[j];
            s += v * v;
        }
        c.expected = (double)s;
        each_nn_of_type(DTYPE_F32, compare, &c);
    }
}

static void one_nan(const struct setting *s, void *arg)
{
    (void)arg;
    struct tensor x = randn_1d(1, 5000);
    tensor_f32(&x)[4321] = NAN;
    x = sent_f32(s, &x);
    const double got = added(s, &x, 0);
    if (!nn_is_measuring(s->nn)) assert_true(isnan(got));
}

TEST(one_nan_shows_in_the_sum)
{
    each_nn_of_type(DTYPE_F32, one_nan, NULL);
}
