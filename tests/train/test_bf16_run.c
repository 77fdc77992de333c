/* @needs-binary  @timeout 300
 * bf16 on the CPU: the curve of fp32, resumed to the bit, the same in every layout up to rounding. */
#include "run.h"

static const char bf16[] = "--set train.precision=bf16";

static void must(const char *folder, const char *name, int ranks, const char *more)
{
    char options[1024];
    snprintf(options, sizeof options, "%s %s", bf16, more);
    run_must(folder, name, ranks, options);
}

TEST(five_hundred_steps_follow_the_curve_of_fp32)
{
    static const char steps[] =
        "--set train.steps=500 --set schedule.total_steps=500 --set log.interval=10 "
        "--set train.eval_interval=100";
    const char *folder = test_folder();
    run_prepare(folder);
    run_must(folder, "fp32", 1, steps);
    must(folder, "nearest", 1, steps);
    run_check_close(folder, "fp32", "nearest", 0.005);
}

TEST(a_run_cut_in_two_is_the_whole_run_bitwise)
{
    static const char whole[] = "--set optim.rounding=stochastic --set "
                                "train.eval_interval=0 --set data.validation=[] "
                                "--set schedule.total_steps=20";
    char part[256];
    snprintf(part, sizeof part, "%s --set train.steps=7", whole);
    const char *folder = test_folder();
    run_prepare(folder);
    must(folder, "whole", 2, whole);
    must(folder, "cut", 2, part);
    must(folder, "cut", 2, whole);
    run_check_equal(folder, "whole", "cut");
}

TEST(every_axis_gives_the_losses_of_one_rank)
{
    static const char *const layouts[] = {"--set parallel.zero=2", "--set parallel.tp=2",
                                          "--set parallel.cp=2", "--set parallel.pp=2"};
    const char *folder = test_folder();
    run_prepare(folder);
    must(folder, "one", 1, "");
    for (int i = 0; i < 4; i++) {
        char name[16];
        snprintf(name, sizeof name, "two-%d", i);
        must(folder, name, 2, layouts[i]);
        run_check_close(folder, "one", name, 0.002);
    }
}
