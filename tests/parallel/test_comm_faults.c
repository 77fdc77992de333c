/* @timeout 300   @devices cpu cuda
 * Ranks that hang, die or disagree: the job ends in time, with one sentence that says who.
 *
 * Each fault is played by three ranks of this very program, started again under mpirun. */
#include "harness/harness.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/file.h"

enum { RANKS = 3, N = 1200, OK = 99 };

static const double LIMIT_SECONDS =
    4; /* more than a busy machine takes for an honest step */
/* for answers, and for a machine that is busy with other tests */
static const double MORE_SECONDS = 25;

/* ---- the parts of the ranks ---------------------------------------------------------------- */

static _Noreturn void never_come_back(void)
{
    for (;;) pause();
}

/* Four sums of vectors where the device has them, then wait for it. */
static void sum_vectors(struct comm *c, struct device *d)
{
    struct arena measure = arena_measure();
    struct comm_request *r = NULL;
    void *x = NULL, *memory = NULL;
    ASSERT_OK(comm_request_create(&r, c, N, &measure));
    ASSERT_OK(device_alloc_shared(d, measure.peak_bytes + 1, "a test", &memory));
    ASSERT_OK(device_alloc_shared(d, N * sizeof(float), "a test", &x));
    struct arena real = arena_over(memory, measure.peak_bytes);
    ASSERT_OK(comm_request_create(&r, c, N, &real));
    for (int i = 0; i < 4; i++) {
        comm_start_op(r, COMM_ALL_REDUCE, x, DTYPE_F32, N, 0);
        comm_wait(r);
    }
    device_wait(d);
    comm_request_destroy(&r);
}

static void play_vectors(struct comm *c, enum comm_transport t, const char *want_name,
                         bool rank_2_comes)
{
    struct device *d = NULL;
    const char *why;
    ASSERT_OK(test_device_open(&d));
    ASSERT_OK(comm_use_device(c, d, t, &why));
    if (strcmp(comm_transport_name(c), want_name) != 0)
        fail_msg("%s: %s", comm_transport_name(c), why);
    if (!rank_2_comes && comm_rank(c) == 2) never_come_back();
    sum_vectors(c, d);
}

/* 0 waits for 1, 1 for 2, and 2 for 0. */
static void play_ring(struct comm *c)
{
    float x[N];
    char memory[1 << 16] __attribute__((aligned(64)));
    struct arena arena = arena_over(memory, sizeof memory);
    struct comm_request *r = NULL;
    ASSERT_OK(comm_request_create(&r, c, N, &arena));
    const struct comm_message m = {(comm_rank(c) + 1) % RANKS, false, x, DTYPE_F32, N};
    comm_start_messages(r, &m, 1, 0);
    comm_wait(r);
}

/* Rank 1 takes one vector for another. */
static void play_different(struct comm *c)
{
    struct device *d = NULL;
    const char *why;
    void *x = NULL;
    struct arena arena;
    struct comm_request *r = NULL;
    char memory[1 << 16] __attribute__((aligned(64)));
    ASSERT_OK(test_device_open(&d));
    ASSERT_OK(comm_use_device(c, d, COMM_TRANSPORT_AUTO, &why));
    arena = arena_over(memory, sizeof memory);
    ASSERT_OK(comm_request_create(&r, c, N, &arena));
    ASSERT_OK(device_alloc_shared(d, N * sizeof(float), "a test", &x));
    comm_start_op(r, COMM_ALL_REDUCE, x, DTYPE_F32, comm_rank(c) == 1 ? N - 1 : N, 0);
    comm_wait(r);
}

static void play(const char *part)
{
    struct comm *c = test_world();
    const int rank = comm_rank(c);
    comm_set_timeout(c, LIMIT_SECONDS);
    if (strcmp(part, "late") == 0) {
        if (rank == 2) usleep(700000);
        comm_barrier(c);
    } else if (strcmp(part, "absent") == 0) {
        if (rank == 2) never_come_back();
        comm_barrier(c);
    } else if (strcmp(part, "killed") == 0) {
        if (rank == 1) raise(SIGKILL);
        comm_barrier(c);
    } else if (strcmp(part, "ring") == 0) {
        play_ring(c);
    } else if (strcmp(part, "different") == 0) {
        play_different(c);
    } else if (strcmp(part, "shared absent") == 0) {
        play_vectors(c, COMM_TRANSPORT_AUTO, "shared memory", false);
    } else if (strcmp(part, "nccl") == 0) {
        play_vectors(c, COMM_TRANSPORT_NCCL, "nccl", true);
    } else if (strcmp(part, "nccl absent") == 0) {
        play_vectors(c, COMM_TRANSPORT_NCCL, "nccl", false);
    } else if (strcmp(part, "mpi absent") == 0) {
        play_vectors(c, COMM_TRANSPORT_MPI,
                     strcmp(test_device_name(), "cpu") ? "mpi, staged" : "mpi", false);
    } else if (strcmp(part, "instead") == 0) {
        play_vectors(c, COMM_TRANSPORT_AUTO, "mpi, staged", true);
    }
}

__attribute__((constructor)) static void play_my_part(void)
{
    const char *part = getenv("YOKE_TEST_PART");
    if (!part) return;
    play(part);
    comm_barrier(test_world());
    _exit(OK); /* under mpirun a rank must not leave like that, unless all do */
}

/* ---- the play ------------------------------------------------------------------------------ */

static int n_errors(const char *log)
{
    int n = 0;
    for (const char *at = log; (at = strstr(at, "]: error: ")); at++) n++;
    return n;
}

/* Run it; exit code, and the log, which the caller frees. */
static int run(const char *part, const char *faults, char **log, double *seconds)
{
    char self[PATH_MAX] = "", path[PATH_MAX], command[3 * PATH_MAX];
    size_t bytes;
    assert_true(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    assert_true(snprintf(path, sizeof path, "%s/log", test_folder()) > 0);
    snprintf(
        command, sizeof command,
        "YOKE_TEST_PART='%s' YOKE_EMULATION_FAULT='%s' mpirun -n %d '%s' > '%s' 2>&1",
        part, faults, RANKS, self, path);
    const double start = clock_seconds();
    const int status = system(command);
    *seconds = clock_seconds() - start;
    ASSERT_OK(file_read(path, 1 << 20, log, &bytes));
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* It ends with one sentence, in which all the words are (a list ended by NULL). */
static void ends_with(const char *part, const char *faults, const char *const *words)
{
    char *log;
    double seconds;
    const int code = run(part, faults, &log, &seconds);
    if (code == 0 || code == OK) fail_msg("%s %s went well:\n%s", part, faults, log);
    if (seconds > LIMIT_SECONDS + MORE_SECONDS)
        fail_msg("%s %s: took %.1f s:\n%s", part, faults, seconds, log);
    if (n_errors(log) != 1) fail_msg("%s %s: not one error:\n%s", part, faults, log);
    for (; *words; words++)
        if (!strstr(log, *words))
            fail_msg("%s %s: nothing of \"%s\":\n%s", part, faults, *words, log);
    free(log);
}

#define ENDS_WITH(part, faults, ...)                                                     \
    ends_with(part, faults, (const char *const[]){__VA_ARGS__, NULL})

static void goes_well(const char *part, const char *faults)
{
    char *log;
    double seconds;
    const int code = run(part, faults, &log, &seconds);
    if (code != OK) fail_msg("%s %s: exit code %d:\n%s", part, faults, code, log);
    free(log);
}

/* Faults of the emulated device; on a GPU there is nobody to ask for them. */
static bool on_emulation(void)
{
    const char *plugin = getenv("YOKE_CUDA_PLUGIN");
    return strcmp(test_device_name(), "cuda") == 0 && plugin &&
           strstr(plugin, "emulated");
}

TEST(who_is_late_is_waited_for)
{
    goes_well("late", "");
}

TEST(a_rank_that_never_comes_is_named)
{
    ENDS_WITH("absent", "", "(the limit is 4)", "no answer from rank 2;",
              "rank 0 waits in barrier", "rank 1 waits in barrier");
    ENDS_WITH("mpi absent", "", "no answer from rank 2;",
              "rank 0 waits in all-reduce of 1200", "rank 1 waits in all-reduce of 1200");
}

TEST(a_rank_that_never_comes_to_shared_memory_is_named)
{
    if (strcmp(test_device_name(), "cpu") != 0) skip();
    ENDS_WITH("shared absent", "", "no answer from rank 2;",
              "rank 0 waits in all-reduce of 1200", "rank 1 waits in all-reduce of 1200");
}

TEST(ranks_that_begin_different_things_are_named)
{
    if (strcmp(test_device_name(), "cpu") != 0) skip();
    char *log;
    double seconds;
    const int code = run("different", "", &log, &seconds);
    assert_true(code != 0 && code != OK);
    assert_non_null(strstr(log, "began all-reduce of 1199 (tag 0)"));
    free(log);
}

TEST(ranks_that_wait_for_each_other_say_for_what)
{
    ENDS_WITH("ring", "", "every rank waits; rank 0 waits in messages of 1200",
              "rank 2 waits in messages of 1200");
}

TEST(a_rank_that_is_killed_ends_the_job)
{
    char *log;
    double seconds;
    const int code = run("killed", "", &log, &seconds);
    assert_true(code != 0 && code != OK);
    assert_true(seconds < LIMIT_SECONDS + MORE_SECONDS);
    free(log);
}

TEST(nccl_without_a_fault_goes_well)
{
    if (!on_emulation()) skip();
    goes_well("nccl", "");
}

TEST(a_rank_that_never_comes_to_nccl_is_named)
{
    if (!on_emulation()) skip();
    ENDS_WITH("nccl absent", "", "no answer from rank 2;",
              "rank 0 waits in all-reduce of 1200");
}

TEST(an_operation_of_nccl_that_hangs_ends_the_job)
{
    if (!on_emulation()) skip();
    ENDS_WITH("nccl", "nccl_hang=1,nccl_after=2", "every rank waits",
              "rank 0 waits in all-reduce of 1200", "rank 1 waits in all-reduce of 1200");
}

TEST(an_error_of_nccl_is_told_by_the_rank_that_has_it)
{
    if (!on_emulation()) skip();
    ENDS_WITH("nccl", "nccl_error=1,nccl_after=2", "yoke[rank 1]: error:",
              "all-reduce of 1200 elements by NCCL failed on rank 1 of 3",
              "the system refused NCCL something");
}

TEST(a_rank_that_dies_in_nccl_ends_the_job)
{
    if (!on_emulation()) skip();
    char *log;
    double seconds;
    const int code = run("nccl", "nccl_die=1,nccl_after=2", &log, &seconds);
    assert_true(code != 0 && code != OK);
    assert_true(seconds < LIMIT_SECONDS + MORE_SECONDS);
    free(log);
}

TEST(without_a_working_nccl_vectors_travel_over_mpi)
{
    if (!on_emulation()) skip();
    goes_well("instead", "nccl_init");
    /* so broken that the first all-reduce never ends */
    goes_well("instead", "nccl_hang=2");
    goes_well("instead", "nccl_error=0");
    goes_well("instead", "devices=2"); /* two ranks share a GPU */
}

TEST(nccl_that_was_asked_for_is_not_replaced)
{
    if (!on_emulation()) skip();
    char *log;
    double seconds;
    assert_true(run("nccl", "nccl_init", &log, &seconds) != OK);
    assert_non_null(strstr(log, "the system refused NCCL something"));
    free(log);
    assert_true(run("nccl", "devices=2", &log, &seconds) != OK);
    assert_non_null(strstr(log, "ranks 0 and 2 share GPU"));
    free(log);
}
