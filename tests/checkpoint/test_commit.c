/* @ranks 1 3
 * Whatever stops a save, what was there before stays and is found. */
#include "fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char run[PATH_MAX];

static struct comm *new_run(const char *name)
{
    struct comm *world = test_world();
    file_join(run, sizeof run, test_folder(), name);
    return world;
}

static bool root(struct comm *world)
{
    return comm_rank(world) == 0;
}

static int n_entries(const char *folder)
{
    DIR *d = opendir(folder);
    if (!d) return -1;
    int n = 0;
    for (const struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void touch(const char *name)
{
    ASSERT_OK(file_replace(path_in(run, name), "junk", 4));
}

static void assert_latest(const char *want)
{
    char path[PATH_MAX] = "dirt";
    ASSERT_OK(checkpoint_find_latest(run, path));
    assert_string_equal(path, want[0] ? path_in(run, want) : "");
}

TEST(a_run_without_checkpoints_has_no_latest)
{
    struct comm *world = new_run("none");
    assert_latest("");
    if (root(world)) {
        ASSERT_OK(file_make_dirs(run));
        touch("step-x");
        touch("step-12");
        touch("readme");
    }
    comm_barrier(world);
    assert_latest("");
}

TEST(the_newest_by_number_is_the_latest)
{
    struct comm *world = new_run("newest");
    ASSERT_OK(save_state(run, world, 9, 1, 2));
    ASSERT_OK(save_state(run, world, 100, 2, 2));
    ASSERT_OK(save_state(run, world, 20, 3, 2));
    ASSERT_OK(save_state(run, world, 1234567890, 4, 2));
    assert_latest("step-1234567890");
    ASSERT_OK(load_state(path_in(run, "step-00000020"), 3));
}

TEST(a_crash_between_any_two_steps_leaves_the_older_checkpoint)
{
    struct comm *world = new_run("crash");
    ASSERT_OK(save_state(run, world, 1, 1, 2));
    ASSERT_OK(save_state(run, world, 3, 3, 2));
    if (root(world)) {
        /* what step 3 looked like at each moment, from the last to the first */
        ASSERT_OK(file_make_dirs(path_in(run, "step-00000002")));
        assert_latest("step-00000003");
        rename(path_in(run, "step-00000003/model.h5"),
               path_in(run, "step-00000003/model.h5.tmp"));
        assert_latest("step-00000001");
        unlink(path_in(run, "step-00000003/model.h5.tmp"));
        assert_latest("step-00000001");
        rename(path_in(run, "step-00000003/shard-00000.h5"),
               path_in(run, "step-00000003/shard-00000.h5.tmp"));
        assert_latest("step-00000001");
        truncate(path_in(run, "step-00000003/shard-00000.h5.tmp"), 100) == 0 ? (void)0
                                                                             : abort();
        assert_latest("step-00000001");
        touch("step-00000003/shard-00077.h5"); /* left by a save of more ranks */
        touch("step-00000003/shard-00078.h5.tmp");
    }
    comm_barrier(world);
    ASSERT_OK(save_state(run, world, 3, 4, 2)); /* and the next save clears it away */
    comm_barrier(world);
    assert_latest("step-00000003");
    ASSERT_OK(load_state(path_in(run, "step-00000003"), 4));
    assert_int_equal(n_entries(path_in(run, "step-00000003")), comm_size(world) + 1);
    assert_true(file_exists(path_in(run, "step-00000003/shard-00000.h5")));
}

TEST(a_damaged_newest_checkpoint_gives_way_to_the_one_before)
{
    struct comm *world = new_run("damaged");
    ASSERT_OK(save_state(run, world, 1, 1, 2));
    ASSERT_OK(save_state(run, world, 2, 2, 2));
    if (root(world)) unlink(path_in(run, "step-00000002/shard-00000.h5"));
    comm_barrier(world);
    assert_latest("step-00000001");
    comm_barrier(world);
    if (root(world)) touch("step-00000001/model.h5");
    comm_barrier(world);
    char path[PATH_MAX];
    ASSERT_REFUSED(checkpoint_find_latest(run, path), STATUS_CHECKPOINT,
                   "holds 2 checkpoints and all are refused");
    assert_string_equal(path, "");
    /* the run goes on from older state and comes to the same step again */
    comm_barrier(world);
    ASSERT_OK(save_state(run, world, 2, 5, 3));
    assert_latest("step-00000002");
    ASSERT_OK(load_state(path_in(run, "step-00000002"), 5));
}

TEST(saving_a_step_again_replaces_it_in_one_rename)
{
    struct comm *world = new_run("again");
    for (uint64_t salt = 10; salt < 13; salt++) {
        ASSERT_OK(save_state(run, world, 7, salt, (int)salt - 8));
        comm_barrier(world);
        ASSERT_OK(load_state(path_in(run, "step-00000007"), salt));
        assert_int_equal(n_entries(path_in(run, "step-00000007")), comm_size(world) + 1);
        comm_barrier(world);
    }
    /* dying in the middle of such a save: new shards lie beside the old ones */
    if (root(world)) {
        touch("step-00000007/shard-00000.3.h5");
        touch("step-00000007/shard-00001.3.h5.tmp");
        touch("step-00000007/model.h5.tmp");
    }
    comm_barrier(world);
    ASSERT_OK(load_state(path_in(run, "step-00000007"), 12));
    comm_barrier(world);
    ASSERT_OK(save_state(run, world, 7, 13, 2));
    comm_barrier(world);
    ASSERT_OK(load_state(path_in(run, "step-00000007"), 13));
    assert_int_equal(n_entries(path_in(run, "step-00000007")), comm_size(world) + 1);
}

/* Writes behind `bytes` of a file fail as on a full disk. */
static void limit_files(rlim_t bytes)
{
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = bytes == RLIM_INFINITY ? limit.rlim_max : bytes;
    setrlimit(RLIMIT_FSIZE, &limit);
}

TEST(a_full_disk_on_one_rank_fails_all_ranks_and_leaves_nothing)
{
    struct comm *world = new_run("full");
    const int last = comm_size(world) - 1;
    ASSERT_OK(save_state(run, world, 1, 1, 2));
    ASSERT_OK(save_state(run, world, 2, 2, 2));
    for (rlim_t bytes = 0; bytes < 4000; bytes += bytes < 1000 ? 100 : 700) {
        for (int step = 2; step <= 3; step++) { /* step 2 is there, step 3 is new */
            if (comm_rank(world) == last) limit_files(bytes);
            const status_t st = save_state(run, world, step, 9, 2);
            if (comm_rank(world) == last) limit_files(RLIM_INFINITY);
            assert_int_equal(st, STATUS_IO);
            assert_non_null(strstr(status_message(), "shard-"));
            assert_null(strchr(status_message(), '\n'));
            comm_barrier(world);
            assert_false(file_exists(path_in(run, "step-00000003")));
            assert_latest("step-00000002");
            assert_int_equal(n_entries(path_in(run, "step-00000002")), last + 2);
            ASSERT_OK(load_state(path_in(run, "step-00000002"), 2));
            comm_barrier(world);
        }
    }
}

TEST(a_full_disk_at_model_h5_fails_all_ranks_and_leaves_nothing)
{
    struct comm *world = new_run("fuller");
    ASSERT_OK(save_state(run, world, 2, 2, 20));
    struct stat shard;
    stat(path_in(run, "step-00000002/shard-00000.h5"), &shard);
    if (root(world)) limit_files((rlim_t)shard.st_size);
    const status_t st = save_state(run, world, 3, 9, 20);
    if (root(world)) limit_files(RLIM_INFINITY);
    assert_int_equal(st, STATUS_IO);
    assert_non_null(strstr(status_message(), "model.h5"));
    comm_barrier(world);
    assert_false(file_exists(path_in(run, "step-00000003")));
    assert_latest("step-00000002");
}

TEST(a_file_where_the_folder_should_be_fails_all_ranks)
{
    struct comm *world = new_run("blocked");
    if (root(world)) {
        ASSERT_OK(file_make_dirs(run));
        touch("step-00000001");
    }
    comm_barrier(world);
    ASSERT_REFUSED(save_state(run, world, 1, 1, 1), STATUS_IO, "step-00000001");
    assert_true(file_exists(path_in(run, "step-00000001")));
}

TEST(ranges_that_leave_out_or_repeat_elements_are_refused)
{
    struct comm *world = new_run("cover");
    const struct param_table t = small_table();
    struct checkpoint_range ranges[MAX_RANGES];
    const struct checkpoint_meta meta = some_meta(1);
    const int n = cut_ranges(&t, comm_rank(world), comm_size(world), 3, 0, ranges);
    const bool last = comm_rank(world) == comm_size(world) - 1;
    ranges[2].count -= last;
    ASSERT_OK(
        checkpoint_save(run, world, &t, &t, ranges, n, &meta)); /* that was padding */
    ranges[0].count -= last;
    ASSERT_REFUSED(checkpoint_save(run, world, &t, &t, ranges, n, &meta), STATUS_INTERNAL,
                   "do not cover parameter embed.weight exactly once");
    ranges[0].count += last;
    ranges[1].start -= root(world);
    ASSERT_REFUSED(checkpoint_save(run, world, &t, &t, ranges, n, &meta), STATUS_INTERNAL,
                   "do not cover parameter embed.weight exactly once");
    assert_latest("step-00000001");
}

TEST(ranks_at_different_steps_are_refused)
{
    struct comm *world = new_run("steps");
    const int rank = comm_rank(world);
    if (comm_size(world) == 1) return;
    ASSERT_REFUSED(save_state(run, world, 5 + (rank == 1), 1, 1), STATUS_INTERNAL,
                   "saves step 6 while rank 0 saves step 5");
    comm_barrier(world);
    assert_latest("");
}
