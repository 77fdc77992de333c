/* @needs-binary  @timeout 240
 * The layout never changes the result: any number of ranks, micro-batch and ZeRO stage. */
#include "run.h"

TEST(every_layout_gives_the_losses_of_one_rank)
{
    const char *folder = test_folder();
    run_prepare(folder);
    run_must(folder, "reference", 1, "--set parallel.zero=0");
    for (int ranks = 1; ranks <= 4; ranks++)
        for (int micro = 1; micro <= 4; micro *= 2)
            for (int zero = 0; zero <= 1; zero++) {
                char name[64], options[256];
                snprintf(name, sizeof name, "ranks-%d-micro-%d-zero-%d", ranks, micro,
                         zero);
                snprintf(options, sizeof options,
                         "--set train.micro_batch=%d --set parallel.zero=%d", micro,
                         zero);
                run_must(folder, name, ranks, options);
                run_check_close(folder, "reference", name, 1e-5);
            }
    /* the sums are the same bitwise whether one rank or all of them update */
    run_check_equal(folder, "ranks-3-micro-2-zero-0", "ranks-3-micro-2-zero-1");
}

TEST(the_same_layout_twice_is_the_same_bitwise)
{
    const char *folder = test_folder();
    run_prepare(folder);
    run_must(folder, "first", 3, "--set train.micro_batch=2");
    run_must(folder, "second", 3, "--set train.micro_batch=2");
    run_check_equal(folder, "first", "second");
}

TEST(gpt2_and_recomputation_and_packing_do_not_depend_on_the_layout_either)
{
    static const char *const options[] = {
        "--set model.family=gpt2 --set model.kv_heads=6 --set data.document_mask=false",
        "--set model.recompute=full --set train.micro_batch=3"};
    const char *folder = test_folder();
    run_prepare(folder);
    for (int i = 0; i < 2; i++) {
        char one[32], many[32];
        snprintf(one, sizeof one, "one-%d", i);
        snprintf(many, sizeof many, "many-%d", i);
        run_must(folder, one, 1, options[i]);
        run_must(folder, many, 4, options[i]);
        run_check_close(folder, one, many, 1e-5);
    }
}

TEST(the_loss_falls)
{
    const char *folder = test_folder();
    run_prepare(folder);
    run_must(folder, "falls", 2, "--set train.steps=120");
    const double loss = run_last_loss(folder, "falls");
    if (!(loss < 0.6 * log(RUN_VOCAB)))
        fail_msg("validation loss %g after 120 steps", loss);
}
