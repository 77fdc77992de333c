/* @ranks 1 2   @timeout 120   @devices cpu cuda
 * @wrap spike_is
 * After bad steps in a row a run goes back and passes over their data. */
#include "run.h"

#include "checkpoint/checkpoint.h"
#include "train/spike.h"
#include "train/train.h"

enum { BATCH = 12 };

static int calls, bad_from, bad_until; /* steps computed so far; which of them are bad */

bool __wrap_spike_is(const struct spike *s, double loss, double sigma);
bool __wrap_spike_is(const struct spike *s, double loss, double sigma)
{
    (void)s, (void)loss, (void)sigma;
    calls++;
    return calls >= bad_from && calls < bad_until;
}

/* Behind the configuration of run_prepare. */
static const char *stages = "";

static void append_stages(const char *path)
{
    FILE *f = fopen(path, "a");
    assert_non_null(f);
    fputs(stages, f);
    assert_int_equal(fclose(f), 0);
}

/* Train FOLDER/`name` in this process, with bad steps from the given one on. */
static status_t train(const char *name, int from, int until, const char *option)
{
    static char texts[3][PATH_MAX];
    struct config c;
    struct comm *world = test_world(); /* first: it makes the folder one of all ranks */
    snprintf(texts[0], sizeof texts[0], "train.run_dir=%s/%s", test_folder(), name);
    snprintf(texts[1], sizeof texts[1], "checkpoint.interval=5");
    snprintf(texts[2], sizeof texts[2], "%s", option);
    /* as small as it goes: many steps, on an emulated device */
    const char *const all[] = {
        texts[0],         texts[1],
        texts[2],         "train.max_bad_steps=3",
        "model.layers=1", "data.sequence_length=9",
    };
    char path[PATH_MAX];
    calls = 0;
    bad_from = from;
    bad_until = until;
    file_join(path, sizeof path, test_folder(), "config.yaml");
    if (comm_rank(world) == 0) {
        run_prepare(test_folder());
        append_stages(path);
    }
    comm_barrier(world);
    ASSERT_OK(config_load(&c, path, all, 6));
    const status_t st = train_run(world, &c);
    config_release(&c);
    return st;
}

static void open_step(struct checkpoint **c, const char *name, int step)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s/step-%08d", test_folder(), name, step);
    ASSERT_OK(checkpoint_open(c, path));
}

static int64_t number(const json_t *record, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(record, key));
}

static void check_records(const char *name)
{
    json_t *all = run_metrics(test_folder(), name);
    int64_t step = 0, n_rollbacks = 0;
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *r = json_array_get(all, i);
        const char *kind = json_string_value(json_object_get(r, "kind"));
        if (strcmp(kind, "rollback") == 0) {
            n_rollbacks++;
            assert_int_equal(number(r, "step"), 10);
            assert_int_equal(step, 10);
            assert_int_equal(number(r, "from_step"), 15);
            assert_int_equal(number(r, "first_sample"), 12 * BATCH);
            assert_int_equal(number(r, "last_sample"), 15 * BATCH - 1);
        } else if (strcmp(kind, "train") == 0) {
            assert_int_equal(number(r, "step"), ++step);
        }
    }
    assert_int_equal(step, 20);
    assert_int_equal(n_rollbacks, 1);
    json_decref(all);
}

TEST(bad_steps_in_a_row_lead_back_and_their_data_is_passed_over)
{
    struct checkpoint *c;
    ASSERT_OK(train("back", 13, 16, "log.interval=1"));
    comm_barrier(test_world());
    open_step(&c, "back", 20);
    assert_int_equal(checkpoint_meta(c)->rollbacks, 1);
    assert_int_equal(checkpoint_meta(c)->next_sample, 25 * BATCH);
    checkpoint_close(&c);
    open_step(&c, "back", 10);
    assert_int_equal(checkpoint_meta(c)->rollbacks, 1);
    assert_int_equal(checkpoint_meta(c)->next_sample, 15 * BATCH);
    checkpoint_close(&c);
    if (comm_rank(test_world()) == 0) check_records("back");
}

static void remove_step(const char *name, int step)
{
    char command[PATH_MAX + 64];
    snprintf(command, sizeof command, "rm -r %s/%s/step-%08d", test_folder(), name, step);
    comm_barrier(test_world()); /* others may still look at it */
    if (comm_rank(test_world()) == 0) assert_int_equal(system(command), 0);
    comm_barrier(test_world());
}

static void check_place(const char *name, int step, int64_t next_sample)
{
    struct checkpoint *c;
    open_step(&c, name, step);
    assert_int_equal(checkpoint_meta(c)->next_sample, next_sample);
    assert_int_equal(checkpoint_meta(c)->data_step, 10);
    checkpoint_close(&c);
}

/* The checkpoint at the border is saved again, with a place in the data behind the border: who begins
 * with it goes on there. */
TEST(bad_steps_that_begin_a_stage_lead_back_to_the_border)
{
    char text[PATH_MAX + 256];
    snprintf(text, sizeof text,
             "stages:\n  - {name: one, steps: 10}\n"
             "  - {name: two, steps: 10, data: {train: %s/validation.h5}}\n",
             test_folder());
    stages = text;
    ASSERT_OK(train("border", 11, 14, "model.vocab_size=97"));
    comm_barrier(test_world());
    check_place("border", 10, 3 * BATCH);
    check_place("border", 20, 13 * BATCH);
    remove_step("border", 20);
    remove_step("border", 15);
    ASSERT_OK(train("border", 1000, 1000, "model.vocab_size=97"));
    comm_barrier(test_world());
    check_place("border", 20, 13 * BATCH);
    stages = "";
}

TEST(fewer_bad_steps_are_skipped_and_no_more)
{
    struct checkpoint *c;
    ASSERT_OK(train("skip", 13, 15, "log.interval=1"));
    comm_barrier(test_world());
    open_step(&c, "skip", 20);
    assert_int_equal(checkpoint_meta(c)->rollbacks, 0);
    assert_int_equal(checkpoint_meta(c)->skipped_steps, 2);
    assert_int_equal(checkpoint_meta(c)->next_sample, 20 * BATCH);
    checkpoint_close(&c);
}

TEST(a_run_that_cannot_go_back_or_not_again_stops)
{
    ASSERT_REFUSED(train("nowhere", 2, 1000, "log.interval=1"), STATUS_DIVERGED,
                   "holds no checkpoint of a step before 2 to return to");
    ASSERT_REFUSED(train("again", 13, 1000, "train.max_rollbacks=2"), STATUS_DIVERGED,
                   "after 2 rollbacks (train.max_rollbacks)");
}
