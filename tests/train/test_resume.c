/* @needs-binary  @timeout 240
 * A run that was stopped and resumed is the run that was not. */
#include "run.h"

#include <dirent.h>
#include <time.h>

#include "checkpoint/checkpoint.h"

static const char often[] = "--set checkpoint.interval=4 --set log.interval=3";

/* Wait until the run has saved `step`. */
static void wait_for_step(const char *folder, const char *name, int step)
{
    for (int i = 0; i < 2000 && !run_has_step(folder, name, step); i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    assert_true(run_has_step(folder, name, step));
}

static int finish(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST(a_run_cut_in_two_is_the_whole_run_bitwise)
{
    const char *folder = test_folder();
    char options[1024];
    run_prepare(folder);
    snprintf(options, sizeof options, "%s --set train.steps=20", often);
    run_must(folder, "whole", 2, options);
    /* total_steps keeps the schedule while the run ends early, inside a log interval */
    snprintf(options, sizeof options,
             "%s --set train.steps=8 --set schedule.total_steps=20", often);
    run_must(folder, "cut", 2, options);
    char tail[1024];
    snprintf(tail, sizeof tail, "%s --set train.steps=20", often);
    run_must(folder, "cut", 2, tail);
    json_t *whole = run_metrics(folder, "whole"), *cut = run_metrics(folder, "cut");
    /* the first half wrote a line at its end, step 8, that the whole run has not */
    for (size_t i = 0; i < json_array_size(whole); i++) {
        const json_t *want = json_array_get(whole, i);
        if (json_integer_value(json_object_get(want, "step")) < 12) continue;
        bool found = false;
        for (size_t k = 0; k < json_array_size(cut); k++)
            found |= json_equal(want, json_array_get(cut, k)) == 1;
        if (!found) fail_msg("the cut run lacks %s", json_dumps(want, 0));
    }
    json_decref(whole);
    json_decref(cut);
}

TEST(another_number_of_ranks_resumes_to_the_same_losses)
{
    const char *folder = test_folder();
    char half[256];
    run_prepare(folder);
    run_must(folder, "straight", 2, "--set train.steps=16");
    snprintf(half, sizeof half, "--set train.steps=8 --set schedule.total_steps=16");
    for (int ranks = 1; ranks <= 4; ranks++)
        for (int zero = 0; zero <= 1; zero++) {
            char name[64], options[1024];
            snprintf(name, sizeof name, "from-3-to-%d-zero-%d", ranks, zero);
            snprintf(options, sizeof options, "%s --set parallel.zero=%d", half,
                     1 - zero);
            run_must(folder, name, 3, options);
            snprintf(options, sizeof options,
                     "--set train.steps=16 --set parallel.zero=%d", zero);
            run_must(folder, name, ranks, options);
            json_t *a = run_metrics(folder, "straight"), *b = run_metrics(folder, name);
            const json_t *x = json_array_get(a, json_array_size(a) - 1);
            const json_t *y = json_array_get(b, json_array_size(b) - 1);
            const double u = json_real_value(json_object_get(x, "loss"));
            const double v = json_real_value(json_object_get(y, "loss"));
            if (!(fabs(u - v) <= 1e-5 * u)) fail_msg("%s: %.9g against %.9g", name, v, u);
            json_decref(a);
            json_decref(b);
        }
}

TEST(a_signal_saves_and_leaves_with_85_and_the_rest_is_the_same_bitwise)
{
    const char *folder = test_folder();
    char options[1024];
    run_prepare(folder);
    snprintf(options, sizeof options, "%s --set train.steps=400", often);
    run_must(folder, "calm", 2, options);
    const pid_t pid = run_start(folder, "signalled", 2, options);
    wait_for_step(folder, "signalled", 12);
    kill(pid, SIGUSR1); /* mpirun passes it on to all ranks */
    assert_int_equal(finish(pid), status_exit_code(STATUS_REQUEUE));
    assert_false(run_has_step(folder, "signalled", 400));
    run_must(folder, "signalled", 2, options);
    run_check_equal(folder, "calm", "signalled");
}

TEST(a_kill_costs_no_more_than_the_steps_since_the_last_checkpoint)
{
    const char *folder = test_folder();
    char options[1024];
    run_prepare(folder);
    snprintf(options, sizeof options, "%s --set train.steps=200", often);
    run_must(folder, "unhurt", 2, options);
    for (int round = 0; round < 3; round++) {
        const pid_t pid = run_start(folder, "killed", 2, options);
        wait_for_step(folder, "killed", 8 + 32 * round);
        nanosleep(&(struct timespec){.tv_nsec = 7000000L * round}, NULL);
        kill(-pid, SIGKILL);
        finish(pid);
    }
    run_must(folder, "killed", 2, options);
    run_check_equal(folder, "unhurt", "killed");
}

/* As a job does that was given an imported model and goes back into the queue. */
TEST(a_run_that_begins_elsewhere_goes_on_with_its_own_checkpoints)
{
    const char *folder = test_folder();
    char options[2 * PATH_MAX], half[3 * PATH_MAX], from[PATH_MAX], gone[PATH_MAX];
    run_prepare(folder);
    run_must(folder, "origin", 1, "--set train.steps=5");
    snprintf(options, sizeof options, "--set checkpoint.resume=%s/origin", folder);
    snprintf(half, sizeof half, "%s --set train.steps=10 --set schedule.total_steps=20",
             options);
    run_must(folder, "begun", 2, options);
    run_must(folder, "begun_cut", 2, half);
    snprintf(from, sizeof from, "%s/origin/step-00000005", folder);
    snprintf(gone, sizeof gone, "%s/elsewhere", folder);
    assert_int_equal(rename(from, gone), 0); /* it is not needed any more */
    run_must(folder, "begun_cut", 2, options);
    run_check_equal(folder, "begun", "begun_cut");
}

TEST(a_folder_with_checkpoints_is_not_overwritten)
{
    const char *folder = test_folder();
    run_prepare(folder);
    run_must(folder, "kept", 1, "--set train.steps=6");
    assert_int_equal(run_train(folder, "kept", 2, "--resume never"),
                     status_exit_code(STATUS_CONFIG));
    assert_int_equal(run_train(folder, "kept", 1, "--set model.hidden=24"),
                     status_exit_code(STATUS_CHECKPOINT));
    assert_true(run_has_step(folder, "kept", 6));
}

TEST(a_run_leaves_before_its_time_ends)
{
    const char *folder = test_folder();
    run_prepare(folder);
    assert_int_equal(run_train(folder, "timed", 2,
                               "--set train.steps=1000000 --set train.time_limit=62 "
                               "--set train.time_margin=60"),
                     status_exit_code(STATUS_REQUEUE));
    char run[PATH_MAX], latest[PATH_MAX];
    snprintf(run, sizeof run, "%s/timed", folder);
    ASSERT_OK(checkpoint_find_latest(run, latest));
    assert_true(latest[0] != '\0');
}

TEST(only_the_checkpoints_that_are_wanted_stay)
{
    const char *folder = test_folder();
    run_prepare(folder);
    run_must(folder, "few", 2,
             "--set train.steps=20 --set checkpoint.interval=2 --set "
             "checkpoint.keep_last=1 --set checkpoint.keep_every=8");
    for (int step = 2; step <= 20; step += 2)
        assert_int_equal(run_has_step(folder, "few", step), step % 8 == 0 || step == 20);
}

/* A file in the place of a step's folder: that save fails. */
static void block(const char *folder, const char *name, int step)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s/step-%08d", folder, name, step);
    ASSERT_OK(file_make_parent(path));
    ASSERT_OK(file_replace(path, "", 0));
}

TEST(a_save_that_fails_costs_that_save_alone)
{
    const char *folder = test_folder();
    for (int async = 0; async < 2; async++) {
        char options[256], name[32];
        run_prepare(folder);
        snprintf(name, sizeof name, "blocked-%d", async);
        snprintf(options, sizeof options,
                 "--set train.steps=20 --set checkpoint.interval=4 --set "
                 "checkpoint.async=%s --set checkpoint.max_failures=2",
                 async ? "true" : "false");
        block(folder, name, 8);
        block(folder, name, 16); /* not in a row: 12 is saved */
        run_must(folder, name, 2, options);
        for (int step = 4; step <= 20; step += 4)
            assert_int_equal(run_has_step(folder, name, step), step != 8 && step != 16);
        snprintf(name, sizeof name, "row-%d", async);
        block(folder, name, 8);
        block(folder, name, 12);
        assert_int_equal(run_train(folder, name, 2, options),
                         status_exit_code(STATUS_IO));
        assert_true(run_has_step(folder, name, 4));
        snprintf(name, sizeof name, "last-%d", async);
        block(folder, name, 20);
        assert_int_equal(run_train(folder, name, 2, options),
                         status_exit_code(STATUS_IO));
    }
}
