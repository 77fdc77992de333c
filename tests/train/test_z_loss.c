/* @needs-binary  @timeout 120
 * What train.z_loss adds is trained on and reported apart; no other number has it. */
#include "run.h"

/* Record `i` of a run; borrowed from *all, which the caller decrefs. */
static json_t *record(const char *folder, const char *name, size_t i, json_t **all)
{
    *all = run_metrics(folder, name);
    assert_true(i < json_array_size(*all));
    return json_array_get(*all, i);
}

static double number(const json_t *record, const char *key)
{
    const json_t *x = json_object_get(record, key);
    if (!json_is_real(x)) fail_msg("no %s in %s", key, json_dumps(record, 0));
    return json_real_value(x);
}

TEST(losses_are_without_it)
{
    const char *folder = test_folder();
    run_prepare(folder);
    const char *still = "--set train.steps=2 --set optim.lr=0 "
                        "--set schedule.warmup_steps=0 --set train.eval_interval=1";
    char with[256];
    snprintf(with, sizeof with, "%s --set train.z_loss=1.0e-3", still);
    run_must(folder, "without", 2, still);
    run_must(folder, "with", 2, with);
    json_t *a = run_metrics(folder, "without"), *b = run_metrics(folder, "with");
    assert_int_equal(json_array_size(a), 4);
    for (size_t i = 0; i < 4; i++) {
        json_t *x = json_array_get(a, i), *y = json_array_get(b, i);
        assert_null(json_object_get(x, "z_loss"));
        const bool trains =
            strcmp(json_string_value(json_object_get(y, "kind")), "train") == 0;
        assert_true(!!json_object_get(y, "z_loss") == trains);
        if (trains) {
            /* the model knows nothing yet: the denominator is about the vocabulary */
            const double about = 1e-3 * log(RUN_VOCAB) * log(RUN_VOCAB);
            const double z = number(y, "z_loss");
            if (!(z > 0.8 * about && z < 1.2 * about)) fail_msg("z_loss %g", z);
            assert_true(number(x, "grad_norm") != number(y, "grad_norm"));
        }
        assert_true(number(x, "loss") == number(y, "loss"));
    }
    json_decref(a);
    json_decref(b);
}

TEST(a_large_one_brings_the_denominator_to_one)
{
    const char *folder = test_folder();
    json_t *all;
    run_prepare(folder);
    run_must(folder, "small", 1, "--set train.z_loss=1.0e-4 --set train.steps=60");
    run_must(folder, "large", 1, "--set train.z_loss=1.0 --set train.steps=60");
    const size_t last =
        64; /* 60 steps, evaluations after each tenth, but the last behind */
    const double small = number(record(folder, "small", last, &all), "z_loss") / 1e-4;
    json_decref(all);
    const double large = number(record(folder, "large", last, &all), "z_loss");
    json_decref(all);
    if (!(large < 0.5 * small)) fail_msg("square of log: %g and %g", small, large);
}

TEST(it_is_counted_once_in_every_layout)
{
    static const char *const layouts[] = {"parallel.tp=2", "parallel.pp=2",
                                          "parallel.cp=2"};
    const char *folder = test_folder();
    const char *options = "--set train.z_loss=1.0e-2 --set train.steps=3 "
                          "--set schedule.warmup_steps=0";
    json_t *all;
    run_prepare(folder);
    run_must(folder, "alone", 1, options);
    const double want = number(record(folder, "alone", 2, &all), "z_loss");
    json_decref(all);
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        char name[32], more[256];
        snprintf(name, sizeof name, "two-%zu", i);
        snprintf(more, sizeof more, "%s --set %s", options, layouts[i]);
        run_must(folder, name, 2, more);
        const double got = number(record(folder, name, 2, &all), "z_loss");
        json_decref(all);
        if (!(fabs(got - want) <= 1e-5 * want))
            fail_msg("%s: %.9g, want %.9g", layouts[i], got, want);
    }
}
