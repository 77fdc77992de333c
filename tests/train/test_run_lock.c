/* One job at a time writes into a run folder: a live one keeps it, a dead one's is taken over, and
 * whoever was wrongly taken for dead finds out. */
#include "harness/harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/file.h"
#include "train/run_lock.h"

#define PATIENCE 0.6

static const char *fresh_run(void)
{
    static char run[4096];
    static int n;
    snprintf(run, sizeof run, "%s/%d", test_folder(), n++);
    ASSERT_OK(file_make_dirs(run));
    return run;
}

static const char *lock_path(const char *run)
{
    static char path[4200];
    snprintf(path, sizeof path, "%s/lock", run);
    return path;
}

/* A lock with the text of a process on another machine. */
static void write_foreign(const char *run, int beat)
{
    char text[512];
    memset(text, ' ', sizeof text);
    const int n = snprintf(text, sizeof text,
                           "{\"host\": \"elsewhere\", \"boot\": \"b\", \"namespace\": "
                           "\"n\", \"pid\": 7, \"start\": 1, \"job\": \"\", \"restart\": "
                           "0, \"beat\": %d}",
                           beat);
    text[n] = ' ';
    const int fd = open(lock_path(run), O_WRONLY | O_CREAT, 0644);
    assert_true(fd >= 0 && pwrite(fd, text, sizeof text, 0) == sizeof text);
    close(fd);
}

/* A child that takes the lock and dies with it. */
static void die_with_lock(const char *run)
{
    const pid_t child = fork();
    if (child == 0) {
        struct run_lock *l;
        _exit(run_lock_acquire(&l, run, PATIENCE) == STATUS_OK ? 0 : 1);
    }
    int code;
    assert_int_equal(waitpid(child, &code, 0), child);
    assert_int_equal(code, 0);
}

TEST(a_lock_that_is_held_is_refused_and_a_released_one_is_not)
{
    const char *run = fresh_run();
    struct run_lock *l, *second;
    ASSERT_OK(run_lock_acquire(&l, run, PATIENCE));
    ASSERT_REFUSED(run_lock_acquire(&second, run, PATIENCE), STATUS_LOCKED,
                   "is training into this folder");
    assert_null(second);
    ASSERT_OK(run_lock_check(l));
    run_lock_release(&l);
    assert_false(file_exists(lock_path(run)));
    ASSERT_OK(run_lock_acquire(&l, run, PATIENCE));
    run_lock_release(&l);
}

TEST(the_lock_of_a_process_that_died_is_taken_at_once)
{
    const char *run = fresh_run();
    struct run_lock *l;
    die_with_lock(run);
    assert_true(file_exists(lock_path(run)));
    const double begin = clock_seconds();
    ASSERT_OK(run_lock_acquire(&l, run, 30));
    assert_true(clock_seconds() - begin < 15);
    run_lock_release(&l);
}

TEST(the_lock_of_another_machine_is_taken_if_it_does_not_beat)
{
    const char *run = fresh_run();
    struct run_lock *l;
    write_foreign(run, 1);
    const double begin = clock_seconds();
    ASSERT_OK(run_lock_acquire(&l, run, PATIENCE));
    assert_true(clock_seconds() - begin >= PATIENCE);
    run_lock_release(&l);
}

TEST(the_lock_of_another_machine_that_beats_is_refused)
{
    const char *run = fresh_run();
    struct run_lock *l;
    write_foreign(run, 1);
    const pid_t child = fork();
    if (child == 0) {
        usleep(200000);
        write_foreign(run, 2);
        _exit(0);
    }
    ASSERT_REFUSED(run_lock_acquire(&l, run, 30), STATUS_LOCKED,
                   "process 7 on elsewhere");
    waitpid(child, NULL, 0);
}

TEST(an_empty_lock_is_taken_after_a_while)
{
    const char *run = fresh_run();
    struct run_lock *l;
    close(open(lock_path(run), O_WRONLY | O_CREAT, 0644));
    ASSERT_OK(run_lock_acquire(&l, run, PATIENCE));
    run_lock_release(&l);
}

TEST(whoever_was_taken_for_dead_finds_out_and_leaves_the_lock_alone)
{
    const char *run = fresh_run();
    struct run_lock *l;
    ASSERT_OK(run_lock_acquire(&l, run, PATIENCE));
    write_foreign(run, 1);
    ASSERT_REFUSED(run_lock_check(l), STATUS_LOCKED, "took this run for dead");
    usleep((useconds_t)(PATIENCE * 1e6)); /* beats go by */
    ASSERT_REFUSED(run_lock_check(l), STATUS_LOCKED, "took this run for dead");
    run_lock_release(&l);
    assert_true(file_exists(lock_path(run)));
}

TEST(a_lock_that_was_removed_by_hand_comes_back)
{
    const char *run = fresh_run();
    struct run_lock *l;
    ASSERT_OK(run_lock_acquire(&l, run, PATIENCE));
    unlink(lock_path(run));
    for (int i = 0; i < 100 && !file_exists(lock_path(run)); i++) usleep(20000);
    assert_true(file_exists(lock_path(run)));
    run_lock_release(&l);
}

TEST(of_many_that_find_a_stale_lock_one_gets_it)
{
    enum { N = 12 };
    const char *run = fresh_run();
    pid_t children[N];
    die_with_lock(run);
    for (int i = 0; i < N; i++) {
        children[i] = fork();
        if (children[i] != 0) continue;
        struct run_lock *l;
        const status_t st = run_lock_acquire(&l, run, PATIENCE);
        if (st == STATUS_LOCKED) _exit(1);
        if (st != STATUS_OK) _exit(2);
        usleep(2500000); /* longer than the others wait */
        _exit(run_lock_check(l) == STATUS_OK ? 0 : 3);
    }
    int got = 0, refused = 0;
    for (int i = 0; i < N; i++) {
        int code;
        waitpid(children[i], &code, 0);
        got += WIFEXITED(code) && WEXITSTATUS(code) == 0;
        refused += WIFEXITED(code) && WEXITSTATUS(code) == 1;
    }
    assert_int_equal(got, 1);
    assert_int_equal(refused, N - 1);
}

TEST(the_judgement_knows_machines_and_jobs)
{
    const struct run_lock_holder me = {"h", "b", "n", 1, 1, "77", 2};
    struct run_lock_holder x = me;
    assert_int_equal(run_lock_judge(&x, &me, true), RUN_LOCK_HELD);
    assert_int_equal(run_lock_judge(&x, &me, false), RUN_LOCK_STALE);
    snprintf(x.boot, sizeof x.boot, "other");
    assert_int_equal(run_lock_judge(&x, &me, true), RUN_LOCK_UNKNOWN);
    x.restart = 1; /* this job before it was requeued */
    assert_int_equal(run_lock_judge(&x, &me, true), RUN_LOCK_STALE);
    snprintf(x.job, sizeof x.job, "78");
    assert_int_equal(run_lock_judge(&x, &me, true), RUN_LOCK_UNKNOWN);
    x.job[0] = '\0';
    assert_int_equal(run_lock_judge(&x, &me, false), RUN_LOCK_UNKNOWN);
}
