/* @ranks 1 2
 * Which checkpoints stay, and that saving goes on in the background. */
#include "fixture.h"

#include <math.h>

#include "checkpoint/checkpoint_impl.h"

/* The steps that stay, newest first, as text. */
static const char *kept(const struct checkpoint_keep *keep, const double *losses)
{
    static char text[128];
    struct ckpt_candidate c[6];
    for (int i = 0; i < 6; i++)
        c[i] = (struct ckpt_candidate){.step = 60 - 10 * i, .validation_loss = losses[i]};
    ckpt_choose(c, 6, keep);
    text[0] = '\0';
    for (int i = 0; i < 6; i++)
        if (!c[i].remove)
            snprintf(text + strlen(text), sizeof text - strlen(text), "%lld ",
                     (long long)c[i].step);
    return text;
}

TEST(what_stays_is_what_any_rule_keeps)
{
    const double losses[6] = {3, 2, (double)NAN, 1, 2, 5}; /* of steps 60, 50, ... */
    const struct {
        struct checkpoint_keep keep;
        const char *want;
    } cases[] = {
        {{0, 0, 0}, "60 50 40 30 20 10 "},
        {{1, 0, 0}, "60 "},
        {{3, 0, 0}, "60 50 40 "},
        {{9, 0, 0}, "60 50 40 30 20 10 "},
        {{0, 20, 0}, "60 40 20 "},
        {{0, 50, 0}, "60 50 "},
        {{0, 0, 1}, "60 30 "},
        {{0, 0, 2}, "60 30 20 "},
        {{0, 0, 3}, "60 50 30 20 "},
        {{2, 30, 1}, "60 50 30 "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(kept(&cases[i].keep, losses), cases[i].want);
}

static bool is_there(const char *run, int64_t step)
{
    char folder[PATH_MAX];
    ckpt_step_folder(folder, run, step);
    return file_is_dir(folder);
}

TEST(a_saver_keeps_what_it_should_and_clears_what_was_never_finished)
{
    char run[PATH_MAX];
    struct comm *world = test_world();
    const bool root = comm_rank(world) == 0;
    const struct param_table t = small_table();
    struct checkpoint_range ranges[MAX_RANGES];
    struct checkpoint_saver *s;
    struct checkpoint_saved saved;
    file_join(run, sizeof run, test_folder(), "run");
    const int n = cut_ranges(&t, comm_rank(world), comm_size(world), 2, 0, ranges);
    const struct checkpoint_saver_options o = {.run_dir = run,
                                               .world = world,
                                               .whole = &t,
                                               .local = &t,
                                               .ranges = ranges,
                                               .n_ranges = n,
                                               .keep = {.last = 2, .every = 4}};
    ASSERT_OK(checkpoint_saver_create(&s, &o));
    if (root) { /* a kill in the middle of a save; something of the user's */
        ASSERT_OK(file_make_dirs(path_in(run, "step-00000003")));
        ASSERT_OK(file_replace(path_in(run, "step-00000003/shard-00000.h5"), "x", 1));
        ASSERT_OK(file_make_dirs(path_in(run, "step-00000001")));
        ASSERT_OK(file_replace(path_in(run, "step-00000001/notes"), "x", 1));
    }
    comm_barrier(world);
    for (int64_t step = 2; step <= 10; step += 2) {
        const struct checkpoint_meta meta = some_meta(step);
        fill_ranges((uint64_t)step, ranges, n);
        checkpoint_saver_begin(s, &meta);
        assert_true(checkpoint_saver_busy(s));
        ASSERT_OK(checkpoint_saver_finish(s, &saved));
        assert_false(checkpoint_saver_busy(s));
        assert_int_equal(saved.step, step);
        assert_true(saved.bytes > 12 * t.n_real);
    }
    checkpoint_saver_destroy(&s); /* waits for the removals */
    comm_barrier(world);
    const int there[] = {0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 1};
    for (int step = 0; step <= 10; step++)
        assert_int_equal(is_there(run, step), there[step]);
    assert_true(file_exists(path_in(run, "step-00000001/notes")));
    ASSERT_OK(load_state(path_in(run, "step-00000010"), 10));
    ASSERT_OK(load_state(path_in(run, "step-00000004"), 4));
    comm_barrier(world);
    if (root) checkpoint_remove_after(run, 8);
    comm_barrier(world);
    assert_false(is_there(run, 10));
    ASSERT_OK(load_state(path_in(run, "step-00000008"), 8));
}
