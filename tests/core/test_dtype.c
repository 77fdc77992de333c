/* The 16-bit types: every value there is, and rounding against an exact search in double. */
#include "harness/harness.h"

#include <math.h>

enum { VALUES = 65536 };

/* A type: its number of exponent and mantissa bits, and its functions. */
struct kind {
    const char *name;
    enum dtype dtype;
    int exponent_bits, mantissa_bits;
    uint16_t (*round)(float x);
    float (*value)(uint16_t bits);
};

static const struct kind kinds[] = {
    {"bf16", DTYPE_BF16, 8, 7, dtype_bf16, dtype_from_bf16},
    {"fp16", DTYPE_F16, 5, 10, dtype_f16, dtype_from_f16},
};

static bool is_nan(const struct kind *k, unsigned bits)
{
    const unsigned infinity = ((1u << k->exponent_bits) - 1) << k->mantissa_bits;
    return (bits & 0x7fff) > infinity;
}

/* What bits mean, by the definition of the format; the largest magnitudes are infinite, counted
 * here as the number that would come next. */
static double meaning(const struct kind *k, unsigned bits)
{
    const int bias = (1 << (k->exponent_bits - 1)) - 1;
    const int exponent = (int)((bits & 0x7fff) >> k->mantissa_bits);
    const double mantissa = (double)(bits & ((1u << k->mantissa_bits) - 1));
    const double magnitude = exponent ? ldexp(mantissa + (double)(1 << k->mantissa_bits),
                                              exponent - bias - k->mantissa_bits)
                                      : ldexp(mantissa, 1 - bias - k->mantissa_bits);
    return bits & 0x8000 ? -magnitude : magnitude;
}

static unsigned infinity_of(const struct kind *k)
{
    return ((1u << k->exponent_bits) - 1) << k->mantissa_bits;
}

/* The nearest magnitude by bisection, ties to even bits; numbers past the largest by half a step
 * or more are infinite. */
static unsigned nearest(const struct kind *k, float x)
{
    const double size = fabs((double)x);
    const unsigned sign = signbit(x) ? 0x8000 : 0;
    unsigned low = 0, high = infinity_of(k); /* meaning(low) <= size < meaning(high) */
    if (size >= meaning(k, high)) return sign | high;
    while (high - low > 1) {
        const unsigned middle = (low + high) / 2;
        if (meaning(k, middle) <= size)
            low = middle;
        else
            high = middle;
    }
    const double below = size - meaning(k, low), above = meaning(k, high) - size;
    if (below == above) return sign | (low % 2 ? high : low);
    return sign | (below < above ? low : high);
}

static void check_rounding(const struct kind *k, float x)
{
    const unsigned got = k->round(x), want = nearest(k, x);
    if (got != want)
        fail_msg("%s of %a is %04x, not %04x", k->name, (double)x, got, want);
}

TEST(every_value_means_what_the_format_says_and_comes_back)
{
    for (int i = 0; i < 2; i++) {
        const struct kind *k = &kinds[i];
        for (unsigned bits = 0; bits < VALUES; bits++) {
            const float x = k->value((uint16_t)bits);
            if (is_nan(k, bits)) {
                assert_true(isnan(x) && is_nan(k, k->round(x)));
                continue;
            }
            if ((bits & 0x7fff) == infinity_of(k))
                assert_true(isinf(x));
            else
                assert_true((double)x == meaning(k, bits));
            assert_true(!signbit(x) == !(bits & 0x8000));
            assert_int_equal(k->round(x), bits);
        }
    }
}

/* Between every two neighbours: the middle, the floats next to it, and those next to the ends. */
TEST(what_lies_between_two_values_goes_to_the_nearer_and_ties_to_even)
{
    for (int i = 0; i < 2; i++) {
        const struct kind *k = &kinds[i];
        for (unsigned bits = 0; bits < infinity_of(k); bits++) {
            const double a = meaning(k, bits), b = meaning(k, bits + 1);
            const float middle = (float)((a + b) / 2);
            for (int sign = 0; sign < 2; sign++) {
                const float s = sign ? -1.0f : 1.0f;
                check_rounding(k, s * middle);
                check_rounding(k, s * nextafterf(middle, HUGE_VALF));
                check_rounding(k, s * nextafterf(middle, 0));
                check_rounding(k, s * nextafterf((float)a, HUGE_VALF));
                check_rounding(k, s * nextafterf((float)b, 0));
            }
        }
    }
}

TEST(a_sweep_over_all_floats_rounds_right)
{
    for (int i = 0; i < 2; i++) {
        for (uint64_t u = 0; u < 0x7f800000u; u += 4999) {
            const uint32_t bits = (uint32_t)u;
            float x;
            memcpy(&x, &bits, sizeof x);
            check_rounding(&kinds[i], x);
            check_rounding(&kinds[i], -x);
        }
    }
}

TEST(infinities_and_nans_stay_what_they_are)
{
    static const uint32_t nans[] = {0x7f800001, 0xff800001, 0x7fffffff,
                                    0xffffffff, 0x7fc00000, 0x7f80ffff};
    for (int i = 0; i < 2; i++) {
        const struct kind *k = &kinds[i];
        assert_int_equal(k->round(HUGE_VALF), infinity_of(k));
        assert_int_equal(k->round(-HUGE_VALF), 0x8000 | infinity_of(k));
        for (size_t n = 0; n < sizeof nans / sizeof *nans; n++) {
            float x;
            memcpy(&x, &nans[n], sizeof x);
            assert_true(is_nan(k, k->round(x)));
        }
    }
}

TEST(arrays_convert_as_single_numbers_do)
{
    enum { N = 1003 };
    struct tensor x = randn_1d(1, N);
    uint16_t *low = test_alloc(N * sizeof *low), *other = test_alloc(N * sizeof *other);
    float *back = test_alloc(N * sizeof *back);
    for (int i = 0; i < 2; i++) {
        const struct kind *k = &kinds[i], *l = &kinds[1 - i];
        dtype_convert(low, k->dtype, x.data, DTYPE_F32, N);
        dtype_convert(back, DTYPE_F32, low, k->dtype, N);
        dtype_convert(other, l->dtype, low, k->dtype, N);
        for (int n = 0; n < N; n++) {
            assert_int_equal(low[n], k->round(tensor_f32(&x)[n]));
            assert_true(back[n] == k->value(low[n]));
            assert_int_equal(other[n], l->round(k->value(low[n])));
        }
        dtype_convert(other, k->dtype, low, k->dtype, N);
        assert_memory_equal(other, low, N * sizeof *low);
    }
    dtype_convert(back, DTYPE_F32, x.data, DTYPE_F32, N);
    assert_memory_equal(back, x.data, N * sizeof *back);
}
