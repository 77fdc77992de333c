/* @devices cuda  @needs-binary  @timeout 500
 * Whole runs on the device under test: the CPU's losses, in every layout, over every transport,
 * stopped, resumed and moved between devices; and what a failing device leaves behind. */
#include "run.h"

#include "device/device.h"

/* Small enough for a device that is emulated. */
static const char small[] = "--set model.layers=1 --set data.sequence_length=17 "
                            "--set train.batch_sequences=6 --set train.micro_batch=2 "
                            "--set train.eval_interval=0 --set data.validation=[] "
                            "--set schedule.total_steps=8 --set schedule.warmup_steps=2";

static int n_devices(void)
{
    int n;
    ASSERT_OK(device_count("cuda", &n));
    return n;
}

static bool emulated(void)
{
    const char *plugin = getenv("YOKE_CUDA_PLUGIN");
    return plugin && strstr(plugin, "emulated");
}

static void must(const char *folder, const char *name, int ranks, const char *more)
{
    char options[2048];
    snprintf(options, sizeof options, "%s %s", small, more);
    run_must(folder, name, ranks, options);
}

TEST(one_rank_on_the_device_gives_the_losses_of_the_cpu)
{
    static const char *const families[] = {
        "--set train.steps=8", "--set train.steps=8 --set model.family=gpt2 --set "
                               "model.kv_heads=6 --set model.recompute=full"};
    const char *folder = test_folder();
    run_prepare(folder);
    for (int i = 0; i < 2; i++) {
        char cpu[256], a[32], b[32];
        snprintf(cpu, sizeof cpu, "%s --device cpu", families[i]);
        snprintf(a, sizeof a, "cpu-%d", i);
        snprintf(b, sizeof b, "device-%d", i);
        must(folder, a, 1, cpu);
        must(folder, b, 1, families[i]);
        run_check_close(folder, a, b, 1e-5);
        must(folder, "plain", 1, "--set train.steps=8 --set train.graphs=false");
    }
    run_check_equal(folder, "device-0", "plain"); /* replayed work is the same work */
}

TEST(every_layout_and_transport_gives_the_losses_of_one_rank)
{
    const char *folder = test_folder();
    run_prepare(folder);
    must(folder, "one", 1, "--set train.steps=5");
    for (int ranks = 2; ranks <= 3; ranks++)
        for (int zero = 0; zero <= 1; zero++)
            for (int nccl = 0; nccl <= 1; nccl++) {
                char name[64], options[256];
                if (nccl && n_devices() < ranks) continue;
                snprintf(name, sizeof name, "ranks-%d-zero-%d-nccl-%d", ranks, zero,
                         nccl);
                snprintf(
                    options, sizeof options,
                    "--set train.steps=5 --set parallel.zero=%d --set parallel.comm=%s",
                    zero, nccl ? "nccl" : "mpi");
                must(folder, name, ranks, options);
                run_check_close(folder, "one", name, 1e-5);
            }
}

TEST(a_run_cut_in_two_is_the_whole_run_bitwise_in_every_precision)
{
    static const char *const precisions[] = {"fp32", "bf16", "fp16"};
    const char *folder = test_folder();
    run_prepare(folder);
    for (int i = 0; i < 3; i++) {
        char options[256], whole[32], cut[32];
        snprintf(whole, sizeof whole, "whole-%d", i);
        snprintf(cut, sizeof cut, "cut-%d", i);
        snprintf(options, sizeof options, "--set train.steps=8 --set train.precision=%s",
                 precisions[i]);
        must(folder, whole, 2, options);
        snprintf(options, sizeof options, "--set train.steps=4 --set train.precision=%s",
                 precisions[i]);
        must(folder, cut, 2, options);
        snprintf(options, sizeof options, "--set train.steps=8 --set train.precision=%s",
                 precisions[i]);
        must(folder, cut, 2, options);
        run_check_equal(folder, whole, cut);
    }
}

TEST(a_checkpoint_goes_from_cpu_to_device_and_back)
{
    const char *folder = test_folder();
    run_prepare(folder);
    must(folder, "stays", 1, "--set train.steps=8 --device cpu");
    must(folder, "moves", 2, "--set train.steps=3 --device cpu");
    must(folder, "moves", 1, "--set train.steps=6");
    must(folder, "moves", 3, "--set train.steps=8 --device cpu");
    run_check_close(folder, "stays", "moves", 1e-5);
}

TEST(two_hundred_steps_in_16_bits_follow_the_curve_of_fp32)
{
    static const char *const precisions[] = {"bf16", "fp16",
                                             "bf16 --set optim.rounding=stochastic"};
    static const char steps[] = "--set train.steps=200 --set schedule.total_steps=200 "
                                "--set log.interval=10 --set model.hidden=24 "
                                "--set model.heads=2 --set model.kv_heads=1";
    const char *folder = test_folder();
    char options[512];
    run_prepare(folder);
    snprintf(options, sizeof options, "%s --device cpu", steps);
    must(folder, "cpu", 1, options);
    for (int i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "sixteen-%d", i);
        snprintf(options, sizeof options, "%s --set train.precision=%s", steps,
                 precisions[i]);
        must(folder, name, 1, options);
        run_check_close(folder, "cpu", name, 0.005);
    }
}

/* ---- a device that fails (the emulated one, when told to) ---------------------------------- */

static bool log_has(const char *folder, const char *name, const char *words)
{
    char path[PATH_MAX], *text;
    size_t n;
    snprintf(path, sizeof path, "%s/%s.log", folder, name);
    ASSERT_OK(file_read(path, 1 << 20, &text, &n));
    const bool found = strstr(text, words) != NULL;
    if (!found) fputs(text, stderr);
    free(text);
    return found;
}

static int run_with_fault(const char *folder, const char *name, int ranks,
                          const char *fault, const char *more)
{
    char options[2048];
    snprintf(options, sizeof options, "%s %s", small, more);
    setenv("YOKE_EMULATION_FAULT", fault, 1);
    const int code = run_train(folder, name, ranks, options);
    unsetenv("YOKE_EMULATION_FAULT");
    return code;
}

TEST(what_is_wrong_at_the_start_is_said_before_any_work)
{
    static const struct {
        const char *fault, *words;
        status_t status;
    } cases[] = {
        {"no_device", "no", STATUS_DEVICE},
        {"old_driver", "driver", STATUS_DEVICE},
        {"arch=60,rank=1", "6.0", STATUS_DEVICE},
        {"oom=30000000", "MB are free", STATUS_NOMEM},
        {"devices=1", "both on GPU", STATUS_DEVICE},
    };
    if (!emulated()) skip();
    const char *folder = test_folder();
    run_prepare(folder);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[32];
        snprintf(name, sizeof name, "start-%zu", i);
        assert_int_equal(run_with_fault(folder, name, 2, cases[i].fault,
                                        "--set parallel.share_gpu=false"),
                         status_exit_code(cases[i].status));
        assert_true(log_has(folder, name, cases[i].words));
    }
}

TEST(a_device_that_fails_ends_all_ranks_and_the_checkpoint_is_good)
{
    static const struct {
        const char *fault, *words;
    } cases[] = {
        {"ecc=300,rank=1", "ECC"},
        {"nccl_die=1,nccl_after=2", "rank 1"},
        {"nccl_hang=1,nccl_after=2", "every rank waits"},
        {"hang=300,rank=0", "waited"},
    };
    if (!emulated()) skip();
    const char *folder = test_folder();
    run_prepare(folder);
    must(folder, "unhurt", 2, "--set train.steps=8 --set checkpoint.interval=2");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[32];
        snprintf(name, sizeof name, "hurt-%zu", i);
        must(folder, name, 2, "--set train.steps=2 --set checkpoint.interval=2");
        assert_int_not_equal(
            run_with_fault(folder, name, 2, cases[i].fault,
                           "--set train.steps=8 --set checkpoint.interval=2 "
                           "--set parallel.timeout_seconds=8"),
            0);
        assert_true(log_has(folder, name, cases[i].words));
        must(folder, name, 2, "--set train.steps=8 --set checkpoint.interval=2");
        run_check_equal(folder, "unhurt", name);
    }
}
