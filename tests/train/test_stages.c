/* @needs-binary  @timeout 240
 * The stages of a run: what goes on from one to the next, what begins anew, and that no kill at a
 * border, and no other layout behind it, makes another run of it. */
#include "run.h"

#include <dirent.h>
#include <signal.h>
#include <time.h>

#include "checkpoint/checkpoint.h"
#include "config/config.h"

enum { FIRST = 8, SECOND = 6, THIRD = 6, BATCH = 12 };

/* The configuration of run_prepare, and these stages. */
static void prepare(const char *folder, const char *stages)
{
    char path[PATH_MAX], all[16384], *text;
    size_t bytes;
    run_prepare(folder);
    snprintf(path, sizeof path, "%s/other.h5", folder);
    run_write_tokens(path, 3, 300);
    snprintf(path, sizeof path, "%s/config.yaml", folder);
    ASSERT_OK(file_read(path, sizeof all, &text, &bytes));
    const int n = snprintf(all, sizeof all, "%s%s", text, stages);
    assert_true(n > 0 && (size_t)n < sizeof all);
    free(text);
    ASSERT_OK(file_replace(path, all, (size_t)n));
}

/* Stages that change nothing. */
static const char nothing[] = "stages: [{name: one, steps: 8}, {name: two, steps: 6},\n"
                              "         {name: three, steps: 6}]\n";

/* Other data and a schedule of its own in the second; the third goes on with that data. */
static const char *changes(const char *folder)
{
    static char text[3 * PATH_MAX];
    snprintf(text, sizeof text,
             "stages:\n"
             "  - {name: one, steps: 8}\n"
             "  - name: two\n"
             "    steps: 6\n"
             "    data: {train: %s/other.h5}\n"
             "    optim: {lr: 1.0e-3}\n"
             "    schedule: {kind: linear}\n"
             "  - name: three\n"
             "    steps: 6\n"
             "    data: {train: %s/other.h5}\n"
             "    train: {micro_batch: 2}\n",
             folder, folder);
    return text;
}

static const char vocabulary[] = "--set model.vocab_size=97";
_Static_assert(RUN_VOCAB == 97, "above");

/* Records of training alone, without the names of stages.  Caller decrefs. */
static json_t *training(const char *folder, const char *name)
{
    json_t *all = run_metrics(folder, name), *picked = json_array();
    for (size_t i = 0; i < json_array_size(all); i++) {
        json_t *r = json_array_get(all, i);
        if (strcmp(json_string_value(json_object_get(r, "kind")), "train") != 0) continue;
        json_object_del(r, "stage");
        json_array_append(picked, r);
    }
    json_decref(all);
    return picked;
}

static struct checkpoint_meta meta_of(const char *folder, const char *name, int step)
{
    char path[PATH_MAX];
    struct checkpoint *c;
    snprintf(path, sizeof path, "%s/%s/step-%08d", folder, name, step);
    ASSERT_OK(checkpoint_open(&c, path));
    struct checkpoint_meta m = *checkpoint_meta(c);
    m.config = m.versions = m.data = NULL;
    checkpoint_close(&c);
    return m;
}

TEST(stages_that_change_nothing_are_the_run_without_them_bitwise)
{
    const char *folder = test_folder();
    run_prepare(folder);
    run_must(folder, "plain", 2, vocabulary);
    prepare(folder, nothing);
    run_must(folder, "staged", 2, vocabulary);
    json_t *plain = training(folder, "plain"), *staged = training(folder, "staged");
    assert_int_equal(json_array_size(plain), FIRST + SECOND + THIRD);
    for (size_t i = 0; i < json_array_size(plain); i++)
        if (!json_equal(json_array_get(plain, i), json_array_get(staged, i)))
            fail_msg("record %zu: %s and %s", i, json_dumps(json_array_get(plain, i), 0),
                     json_dumps(json_array_get(staged, i), 0));
    json_decref(plain);
    json_decref(staged);
    assert_int_equal(meta_of(folder, "staged", FIRST).next_sample, FIRST * BATCH);
    assert_int_equal(meta_of(folder, "staged", 20).next_sample, 20 * BATCH);
    assert_int_equal(meta_of(folder, "staged", 20).data_step, 0);
}

TEST(data_and_schedule_begin_anew_where_a_stage_says_so)
{
    const char *folder = test_folder();
    prepare(folder, changes(folder));
    run_must(folder, "run", 2, vocabulary);
    json_t *all = run_metrics(folder, "run");
    const struct schedule base = {
        .kind = SCHEDULE_COSINE, .warmup_steps = 5, .total_steps = 20, .min_ratio = 0.1};
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *r = json_array_get(all, i), *lr = json_object_get(r, "lr");
        const int64_t done = json_integer_value(json_object_get(r, "step"));
        const int64_t step = done - 1; /* that the record is of */
        const bool first = step < FIRST, second = !first && step < FIRST + SECOND;
        assert_string_equal(json_string_value(json_object_get(r, "stage")),
                            first    ? "one"
                            : second ? "two"
                                     : "three");
        if (!lr) continue;
        const double want = second ? 1e-3 * (1 - (double)(step - FIRST) / SECOND)
                                   : 3e-3 * schedule_factor(&base, step);
        if (fabs(json_real_value(lr) - want) > 1e-15)
            fail_msg("step %lld: lr %.17g, want %.17g", (long long)step,
                     json_real_value(lr), want);
    }
    json_decref(all);
    const struct checkpoint_meta one = meta_of(folder, "run", FIRST),
                                 two = meta_of(folder, "run", FIRST + SECOND),
                                 three = meta_of(folder, "run", 20);
    assert_int_equal(one.next_sample, FIRST * BATCH);
    assert_int_equal(one.data_step, 0);
    assert_int_equal(two.next_sample, SECOND * BATCH);
    assert_int_equal(two.data_step, FIRST);
    assert_int_equal(three.next_sample, (SECOND + THIRD) * BATCH);
    assert_int_equal(three.data_step, FIRST);
}

/* The first steps of a stage with data of its own see what a run on that data sees first: with a
 * learning rate of 0 the weights stay, so losses tell the data alone. */
TEST(a_stage_with_other_data_begins_at_its_first_sample)
{
    const char *folder = test_folder();
    char options[2048];
    run_prepare(folder);
    snprintf(options, sizeof options,
             "%s --set optim.lr=0 --set train.steps=6 --set schedule.kind=constant "
             "--set data.train=%s/other.h5",
             vocabulary, folder);
    prepare(folder, "");
    run_must(folder, "alone", 2, options);
    prepare(folder, changes(folder));
    snprintf(options, sizeof options, "%s --set optim.lr=0 --set stages.two.optim.lr=0",
             vocabulary);
    run_must(folder, "still", 2, options);
    json_t *alone = training(folder, "alone"), *staged = training(folder, "still");
    for (int i = 0; i < SECOND; i++) {
        const json_t *x = json_array_get(alone, (size_t)i),
                     *y = json_array_get(staged, (size_t)(FIRST + i));
        if (!json_equal(json_object_get(x, "loss"), json_object_get(y, "loss")))
            fail_msg("step %d: %s and %s", i, json_dumps(x, 0), json_dumps(y, 0));
    }
    json_decref(alone);
    json_decref(staged);
}

TEST(a_kill_around_a_border_changes_nothing)
{
    const char *folder = test_folder();
    char options[1024];
    prepare(folder, changes(folder));
    snprintf(options, sizeof options,
             "%s --set stages.one.steps=40 --set stages.two.steps=40 --set "
             "checkpoint.interval=16 --set train.steps=86",
             vocabulary);
    run_must(folder, "unhurt", 2, options);
    /* on the way to each border, at it, and a little later */
    static const int wait_for[] = {32, 40, 40, 48, 80, 80};
    for (size_t i = 0; i < sizeof wait_for / sizeof *wait_for; i++) {
        const pid_t pid = run_start(folder, "killed", 2, options);
        for (int k = 0; k < 3000 && !run_has_step(folder, "killed", wait_for[i]); k++)
            nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        assert_true(run_has_step(folder, "killed", wait_for[i]));
        nanosleep(&(struct timespec){.tv_nsec = 20000000L * (long)(i % 3)}, NULL);
        kill(-pid, SIGKILL);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
    }
    run_must(folder, "killed", 2, options);
    run_check_equal(folder, "unhurt", "killed");
}

TEST(a_run_that_ended_goes_on_with_a_new_stage)
{
    const char *folder = test_folder();
    prepare(folder, changes(folder));
    run_must(folder, "whole", 2, vocabulary);
    run_prepare(folder);
    char options[1024];
    snprintf(options, sizeof options,
             "%s --set train.steps=8 --set schedule.total_steps=20", vocabulary);
    run_must(folder, "grown", 2, options);
    prepare(folder, changes(folder));
    run_must(folder, "grown", 2, vocabulary);
    json_t *whole = training(folder, "whole"), *grown = training(folder, "grown");
    assert_true(json_equal(whole, grown));
    json_decref(whole);
    json_decref(grown);
}

TEST(another_layout_goes_on_behind_a_border_and_inside_a_stage)
{
    const char *folder = test_folder();
    char options[1024];
    prepare(folder, changes(folder));
    run_must(folder, "straight", 2, vocabulary);
    /* a stage says its layout itself */
    snprintf(options, sizeof options,
             "%s --set stages.two.parallel.tp=2 --set stages.three.parallel.pp=2",
             vocabulary);
    run_must(folder, "turns", 2, options);
    run_check_close(folder, "straight", "turns", 1e-5);
    /* four ranks take over at the border, and two others in the middle of the last stage */
    snprintf(options, sizeof options,
             "%s --set train.steps=8 --set "
             "schedule.total_steps=20",
             vocabulary);
    run_prepare(folder);
    run_must(folder, "passed", 2, options);
    prepare(folder, changes(folder));
    snprintf(options, sizeof options,
             "%s --set parallel.tp=2 --set checkpoint.interval=1 --set "
             "stages.three.steps=2 --set schedule.total_steps=20 --set train.steps=16",
             vocabulary);
    run_must(folder, "passed", 4, options);
    snprintf(options, sizeof options, "%s --set parallel.cp=2", vocabulary);
    run_must(folder, "passed", 2, options);
    const double u = run_last_loss(folder, "straight"),
                 v = run_last_loss(folder, "passed");
    if (!(fabs(u - v) <= 1e-5 * u)) fail_msg("%.9g against %.9g", v, u);
}

/* The status of a run that must not have begun. */
static void check_refused(const char *folder, const char *options, status_t want,
                          const char *words)
{
    char path[PATH_MAX], all[2048], *text;
    size_t n;
    snprintf(all, sizeof all, "%s %s", vocabulary, options);
    snprintf(path, sizeof path, "%s/refused.log", folder);
    remove(path);
    assert_int_equal(run_train(folder, "refused", 2, all), status_exit_code(want));
    ASSERT_OK(file_read(path, 1 << 20, &text, &n));
    if (!strstr(text, words)) fail_msg("%s: no \"%s\" in\n%s", options, words, text);
    free(text);
    snprintf(path, sizeof path, "%s/refused", folder);
    if (file_exists(path)) fail_msg("%s: the run folder was made", options);
}

TEST(what_is_wrong_with_a_later_stage_is_said_before_the_first_step)
{
    const char *folder = test_folder();
    prepare(folder, changes(folder));
    check_refused(folder, "--set stages.three.data.train=none.h5", STATUS_CONFIG,
                  "stage three: data.train: none.h5");
    check_refused(folder, "--set stages.two.parallel.tp=3", STATUS_CONFIG,
                  "parallel.tp: 3: ");
    check_refused(folder, "--set stages.three.data.validation=config.yaml", STATUS_CONFIG,
                  "stage three: ");
    check_refused(folder, "--set model.vocab_size=90", STATUS_DATA, "other.h5: has 97");
    check_refused(folder, "--set model.vocab_size=auto", STATUS_CONFIG,
                  "model.vocab_size: is missing");
}
