/* @needs-binary  @timeout 300
 * Gradients that travel in bf16: the curve of those in fp32, the same bits whatever carries them. */
#include "run.h"

static void must(const char *folder, const char *name, int zero, const char *more)
{
    char options[512];
    snprintf(options, sizeof options, "--set parallel.zero=%d %s", zero, more);
    run_must(folder, name, 2, options);
}

TEST(two_hundred_steps_follow_the_curve_of_fp32)
{
    const char *folder = test_folder();
    run_prepare(folder);
    must(folder, "fp32", 1, "--set train.steps=200");
    must(folder, "bf16", 1, "--set train.steps=200 --set parallel.wire=bf16");
    run_check_close(folder, "fp32", "bf16", 0.002);
}

TEST(all_stages_give_the_losses_of_fp32_nearly_and_not_quite)
{
    const char *folder = test_folder();
    run_prepare(folder);
    for (int zero = 0; zero <= 2; zero++) {
        char full[32], half[32];
        snprintf(full, sizeof full, "fp32-%d", zero);
        snprintf(half, sizeof half, "bf16-%d", zero);
        must(folder, full, zero, "");
        must(folder, half, zero, "--set parallel.wire=bf16");
        run_check_close(folder, full, half, 0.0005);
        assert_true(run_last_loss(folder, full) != run_last_loss(folder, half));
    }
}

TEST(messages_and_shared_memory_give_the_same_bits)
{
    const char *folder = test_folder();
    run_prepare(folder);
    must(folder, "shared", 1, "--set parallel.wire=bf16");
    must(folder, "messages", 1, "--set parallel.wire=bf16 --set parallel.comm=mpi");
    run_check_equal(folder, "shared", "messages");
}
