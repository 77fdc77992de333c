/* @needs-binary  @timeout 120
 * A model that cannot learn one batch by heart is wrong somewhere. */
#include "run.h"

static const char *const families[] = {"llama", "gpt2 --set model.kv_heads=6"};

TEST(four_layers_learn_one_batch_by_heart)
{
    const char *folder = test_folder();
    char path[PATH_MAX], options[2 * PATH_MAX];
    run_prepare(folder);
    snprintf(path, sizeof path, "%s/one.h5", folder);
    run_write_tokens(path, 3,
                     12); /* some 400 tokens: 11 or 12 windows, all in each batch */
    for (int i = 0; i < 2; i++) {
        char name[32];
        snprintf(name, sizeof name, "overfit-%d", i);
        snprintf(
            options, sizeof options,
            "--set model.layers=4 --set train.batch_sequences=12 --set data.train=%s "
            "--set train.steps=250 --set train.eval_interval=0 --set data.validation=[] "
            "--set optim.weight_decay=0 --set log.interval=1 --set model.family=%s",
            path, families[i]);
        run_must(folder, name, 2, options);
        const double loss = run_last_loss(folder, name);
        if (!(loss < 0.05)) fail_msg("%s: loss %g after 250 steps", families[i], loss);
        run_must(folder, name, 2, options); /* it is done: nothing happens */
        assert_true(run_last_loss(folder, name) == loss);
    }
}
