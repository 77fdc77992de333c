/* exp and 2^x for vector registers against libm in double. */
#include "harness/harness.h"

#include "nn/simd_math.h"

static double worst(float (*f)(float), double (*exact)(double), double from, double to)
{
    const int64_t n = 4000000;
    double largest = 0;
    for (int64_t i = 0; i < n; i++) {
        const float x = (float)(from + (to - from) * (double)i / (double)n);
        const double e = exact((double)x);
        const double d = e == 0 ? fabs((double)f(x)) : fabs((double)f(x) / e - 1);
        largest = fmax(largest, d);
    }
    return largest;
}

TEST(exp_is_within_two_tenths_of_a_millionth)
{
    assert_true(worst(nn_exp, exp, -87.33, 88.72) < 2e-7);
    assert_true(worst(nn_exp, exp, -1, 1) < 2e-7);
    assert_true(worst(nn_exp, exp, -1e-6, 1e-6) < 2e-7);
}

TEST(exp_is_right_at_the_ends)
{
    assert_true(nn_exp(0.0f) == 1 && nn_exp(-0.0f) == 1);
    assert_true(nn_exp(-HUGE_VALF) == 0 && nn_exp(-3e38f) == 0 && nn_exp(-88) == 0);
    assert_true(nn_exp(HUGE_VALF) == HUGE_VALF && nn_exp(3e38f) == HUGE_VALF);
    assert_true(nn_exp(89) == HUGE_VALF && isfinite(nn_exp(88.72f)));
    assert_true(isnan(nn_exp(NAN)) && isnan(nn_exp(-NAN)));
    assert_true(isnan(nn_exp(nn_float_of_bits(0x7fc00123)))); /* a NaN with a payload */
}

static float exp2_fine(float x)
{
    return nn_exp2(x, false);
}

static float exp2_rough(float x)
{
    return nn_exp2(x, true);
}

TEST(powers_of_two_are_within_what_they_say)
{
    assert_true(worst(exp2_fine, exp2, -126, 127) < 3e-7);
    assert_true(worst(exp2_fine, exp2, -1, 1) < 3e-7);
    assert_true(worst(exp2_rough, exp2, -126, 127) < 3e-6);
}

TEST(powers_of_two_are_right_at_the_ends)
{
    for (int rough = 0; rough < 2; rough++) {
        assert_true(nn_exp2(-HUGE_VALF, rough) == 0 && nn_exp2(-3e38f, rough) == 0);
        assert_true(nn_exp2(-126.1f, rough) == 0 && nn_exp2(-126, rough) > 0);
        assert_true(isnan(nn_exp2(NAN, rough)) && isnan(nn_exp2(-NAN, rough)));
    }
}
