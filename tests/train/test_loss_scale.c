/* The loss scale of fp16: down at once, up slowly, never in other precisions. */
#include "harness/harness.h"
#include "nn/nn.h"
#include "train/loss_scale.h"
#include "train/place.h"

TEST(only_fp16_is_scaled)
{
    for (int t = DTYPE_F32; t <= DTYPE_BF16; t++) {
        struct loss_scale s = loss_scale_begin((enum dtype)t, 64, 7);
        assert_true(s.scale == 1);
        assert_false(loss_scale_update(&s, (enum dtype)t, false));
        assert_true(s.scale == 1);
    }
}

TEST(a_step_that_overflows_halves_and_many_good_ones_double)
{
    struct loss_scale s = loss_scale_begin(DTYPE_F16, 0, 0);
    const double first = s.scale;
    assert_true(first > 1);
    assert_true(loss_scale_update(&s, DTYPE_F16, false));
    assert_true(s.scale == first / 2);
    for (int i = 0; i < 999; i++) assert_false(loss_scale_update(&s, DTYPE_F16, true));
    assert_true(loss_scale_update(&s, DTYPE_F16, true));
    assert_true(s.scale == first);
    for (int i = 0; i < 500; i++) loss_scale_update(&s, DTYPE_F16, true);
    assert_true(loss_scale_update(&s, DTYPE_F16, false)); /* begins to count again */
    for (int i = 0; i < 999; i++) assert_false(loss_scale_update(&s, DTYPE_F16, true));
    assert_true(loss_scale_update(&s, DTYPE_F16, true));
}

TEST(the_scale_stays_a_power_of_two_within_bounds)
{
    struct loss_scale s = loss_scale_begin(DTYPE_F16, 0, 0);
    for (int i = 0; i < 200; i++) loss_scale_update(&s, DTYPE_F16, false);
    assert_true(s.scale == 0x1p-14);
    for (int i = 0; i < 60000; i++) loss_scale_update(&s, DTYPE_F16, true);
    assert_true(s.scale == 0x1p24);
}

TEST(a_saved_scale_goes_on_where_it_was)
{
    struct loss_scale s = loss_scale_begin(DTYPE_F16, 32, 998);
    assert_true(s.scale == 32);
    assert_false(loss_scale_update(&s, DTYPE_F16, true));
    assert_true(loss_scale_update(&s, DTYPE_F16, true));
    assert_true(s.scale == 64);
    s = loss_scale_begin(DTYPE_F16, 1e300, 0); /* no such scale was ever saved */
    assert_true(s.scale <= 0x1p24);
}

TEST(a_precision_that_the_cpu_lacks_is_refused_and_auto_is_bf16_only_if_it_multiplies_it)
{
    struct device *d = NULL;
    enum dtype t = DTYPE_I32;
    const char *why = NULL, *unit = nn_cpu_bf16();
    ASSERT_OK(device_open(&d, "cpu", 0));
    ASSERT_OK(place_precision(&t, &why, d, NULL, CONFIG_PRECISION_AUTO));
    assert_int_equal(t, unit ? DTYPE_BF16 : DTYPE_F32);
    assert_non_null(strstr(why, unit ? unit : "neither"));
    ASSERT_REFUSED(place_precision(&t, &why, d, NULL, CONFIG_PRECISION_FP16),
                   STATUS_CONFIG, "train.precision: device cpu cannot compute in fp16");
    device_close(&d);
}

TEST(a_device_of_another_name_is_a_usage_error)
{
    int wanted = -1;
    ASSERT_OK(place_parse("cuda", &wanted));
    assert_int_equal(wanted, CONFIG_DEVICE_CUDA);
    ASSERT_REFUSED(place_parse("gpu", &wanted), STATUS_USAGE, "auto, cpu, cuda");
}
