/* @ranks 2    @wrap nn_use_bf16x6 nn_bf16x6_pays
 * How fp32 is multiplied: chosen by all ranks, measured once for a model of CPU. */
#include <stdio.h>

#include "core/file.h"
#include "harness/harness.h"
#include "nn/nn.h"
#include "train/products.h"

static bool has_amx, pays, in_use; /* of this rank's CPU; what its products are made by */
static int measured;

bool __wrap_nn_use_bf16x6(bool on);
bool __wrap_nn_use_bf16x6(bool on)
{
    in_use = on && has_amx;
    return in_use == on;
}

bool __wrap_nn_bf16x6_pays(void);
bool __wrap_nn_bf16x6_pays(void)
{
    measured++;
    return pays;
}

/* A rank has a folder of its own, which remembers nothing yet. */
static const char *forget(void)
{
    static char folder[4096];
    static int round;
    snprintf(folder, sizeof folder, "%s/%d-%d", test_folder(), round++,
             comm_rank(test_world()));
    setenv("XDG_CACHE_HOME", folder, 1);
    measured = 0;
    return folder;
}

static const char *chosen(enum config_products wanted, enum dtype t)
{
    struct device *d = NULL;
    const char *what;
    in_use = false;
    ASSERT_OK(test_named_device_open(&d, "cpu"));
    ASSERT_OK(products_choose(&what, d, t, test_world(), wanted));
    test_device_close(&d);
    assert_true(in_use == (what && strcmp(what, "bf16x6") == 0));
    return what;
}

TEST(auto_is_bf16x6_where_it_pays_on_every_rank)
{
    has_amx = pays = true;
    forget();
    assert_string_equal(chosen(CONFIG_PRODUCTS_AUTO, DTYPE_F32), "bf16x6");
    pays = comm_rank(test_world()) == 0;
    forget();
    assert_string_equal(chosen(CONFIG_PRODUCTS_AUTO, DTYPE_F32), "fma");
    pays = true, has_amx = comm_rank(test_world()) == 0;
    forget();
    assert_string_equal(chosen(CONFIG_PRODUCTS_AUTO, DTYPE_F32), "fma");
}

TEST(what_was_measured_is_remembered)
{
    has_amx = true;
    for (int i = 0; i < 2; i++) {
        pays = i == 0;
        forget();
        assert_string_equal(chosen(CONFIG_PRODUCTS_AUTO, DTYPE_F32),
                            i == 0 ? "bf16x6" : "fma");
        pays = !pays;
        assert_string_equal(chosen(CONFIG_PRODUCTS_AUTO, DTYPE_F32),
                            i == 0 ? "bf16x6" : "fma");
        assert_int_equal(measured, 1);
    }
}

/* All ranks of one host start together, and one of them was disturbed. */
TEST(processes_that_measure_at_once_agree_on_what_is_kept)
{
    char folder[4096];
    has_amx = true;
    snprintf(folder, sizeof folder, "%s/shared", test_folder());
    setenv("XDG_CACHE_HOME", folder, 1);
    pays = comm_rank(test_world()) == 0;
    const char *first = chosen(CONFIG_PRODUCTS_AUTO, DTYPE_F32);
    pays = !pays;
    assert_string_equal(chosen(CONFIG_PRODUCTS_AUTO, DTYPE_F32), first);
}

TEST(nonsense_is_measured_again_and_replaced)
{
    char command[8192];
    has_amx = pays = true;
    const char *folder = forget();
    assert_string_equal(chosen(CONFIG_PRODUCTS_AUTO, DTYPE_F32), "bf16x6");
    snprintf(command, sizeof command, "cd %s/yoke && for f in *; do echo x >$f; done",
             folder);
    assert_int_equal(system(command), 0);
    for (int i = 0; i < 2; i++)
        assert_string_equal(chosen(CONFIG_PRODUCTS_AUTO, DTYPE_F32), "bf16x6");
    assert_int_equal(measured, 2);
}

TEST(what_cannot_be_kept_is_measured_again)
{
    has_amx = pays = true;
    ASSERT_OK(file_replace(forget(), "", 0)); /* a file where the folder would be */
    for (int i = 1; i <= 2; i++) {
        assert_string_equal(chosen(CONFIG_PRODUCTS_AUTO, DTYPE_F32), "bf16x6");
        assert_int_equal(measured, i);
    }
}

TEST(nothing_is_measured_where_there_is_no_choice)
{
    pays = true, has_amx = false;
    forget();
    assert_string_equal(chosen(CONFIG_PRODUCTS_AUTO, DTYPE_F32), "fma");
    has_amx = true;
    assert_string_equal(chosen(CONFIG_PRODUCTS_FMA, DTYPE_F32), "fma");
    assert_string_equal(chosen(CONFIG_PRODUCTS_BF16X6, DTYPE_F32), "bf16x6");
    assert_null(chosen(CONFIG_PRODUCTS_AUTO, DTYPE_BF16));
    assert_int_equal(measured, 0);
}

TEST(bf16x6_without_amx_is_refused)
{
    struct device *d = NULL;
    const char *what;
    has_amx = false;
    ASSERT_OK(test_named_device_open(&d, "cpu"));
    ASSERT_REFUSED(
        products_choose(&what, d, DTYPE_F32, test_world(), CONFIG_PRODUCTS_BF16X6),
        STATUS_CONFIG, "train.fp32_products: bf16x6 needs AMX");
    test_device_close(&d);
}
