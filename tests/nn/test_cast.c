/* @devices cpu cuda
 * Casts between all types, bit for bit what dtype_convert gives on the host. */
#include "each_nn.h"

/* Numbers of every size, ties of both 16-bit types, and what is not a number. */
static struct tensor numbers(int64_t n)
{
    static const uint32_t special[] = {
        0x00000000, 0x80000000, 0x7f800000, 0xff800000, 0x00000001, 0x807fffff,
        0x00800000, 0x3f808000, 0x3f818000, 0x3f801000, 0x3f803000, 0x7f7fffff,
        0xff7f8000, 0x477fefff, 0x477ff000, 0x33000000, 0x33000001, 0x32ffffff,
        0x387fe000, 0x387ff000, 0xb3800000};
    enum { SPECIAL = sizeof special / sizeof *special };
    struct tensor x = randn_1d(1, n);
    for (int64_t i = 0; i < n; i++) {
        float *at = tensor_f32(&x) + i;
        *at = ldexpf(*at, (int)(i % 97) - 48);
        if (i < SPECIAL) memcpy(at, &special[i], sizeof *at);
    }
    return x;
}

struct cast_case {
    enum dtype from, to;
    int64_t n;
};

static void cast(const struct setting *s, void *arg)
{
    const struct cast_case *c = arg;
    const struct tensor host = rounded(numbers(c->n), c->from);
    const struct tensor x = on_device(s->dev, &host, c->from);
    struct tensor y = dirty_on_device(s->dev, c->to, 1, c->n);
    y = tensor_1d(y.data, c->to, c->n);
    nn_cast(s->nn, &y, &x);
    if (nn_is_measuring(s->nn)) return;
    check_exact(s, dtype_name(c->from), &y, &host);
}

static void nan_stays_nan(const struct setting *s, void *arg)
{
    const struct cast_case *c = arg;
    struct tensor host = randn_1d(1, c->n);
    for (int64_t i = 0; i < c->n; i++) tensor_f32(&host)[i] = NAN;
    const struct tensor x = on_device(s->dev, &host, c->from);
    struct tensor y = on_device(s->dev, &host, c->to);
    device_zero(s->dev, y.data, tensor_bytes(&y));
    nn_cast(s->nn, &y, &x);
    if (nn_is_measuring(s->nn)) return;
    y = to_host(s->dev, &y);
    for (int64_t i = 0; i < c->n; i++) assert_true(isnan(tensor_f32(&y)[i]));
}

static void all_pairs(setting_body *body)
{
    static const int64_t sizes[] = {1, 7, 64, 4099};
    for (enum dtype from = DTYPE_F32; from <= DTYPE_F16; from++) {
        for (enum dtype to = DTYPE_F32; to <= DTYPE_F16; to++) {
            for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
                struct cast_case c = {from, to, sizes[i]};
                each_nn_of_type(DTYPE_F32, body, &c);
            }
        }
    }
}

TEST(casts_round_to_nearest_even_as_the_host_does)
{
    all_pairs(cast);
}

TEST(a_cast_nan_is_a_nan)
{
    all_pairs(nan_stays_nan);
}
