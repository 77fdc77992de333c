/* @ranks 2    @wrap nn_cpu_bf16
 * Ranks on CPUs of different kinds compute in one precision. */
#include "harness/harness.h"
#include "nn/nn.h"
#include "train/place.h"

static const char *unit; /* of this rank's CPU */

const char *__wrap_nn_cpu_bf16(void);
const char *__wrap_nn_cpu_bf16(void)
{
    return unit;
}

static enum dtype chosen(enum config_precision wanted, const char **why)
{
    struct device *d = NULL;
    enum dtype t = DTYPE_I32;
    ASSERT_OK(device_open(&d, "cpu", 0));
    ASSERT_OK(place_precision(&t, why, d, test_world(), wanted));
    device_close(&d);
    return t;
}

TEST(auto_is_bf16_if_every_rank_multiplies_it)
{
    const char *why = NULL;
    unit = comm_rank(test_world()) == 0 ? "AMX" : "AVX512-BF16";
    assert_int_equal(chosen(CONFIG_PRECISION_AUTO, &why), DTYPE_BF16);
    assert_string_equal(why, unit);
}

TEST(auto_is_fp32_if_one_rank_does_not)
{
    const char *why = NULL;
    unit = comm_rank(test_world()) == 0 ? "AMX" : NULL;
    assert_int_equal(chosen(CONFIG_PRECISION_AUTO, &why), DTYPE_F32);
    assert_string_equal(why,
                        unit ? "not every rank has more" : "neither AMX nor AVX512-BF16");
    assert_int_equal(chosen(CONFIG_PRECISION_BF16, &why), DTYPE_BF16);
    assert_string_equal(why, "train.precision");
}
