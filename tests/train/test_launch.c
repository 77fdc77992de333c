/* @ranks 1 2 3 4
 * What ranks conclude from each other's notes, and that all of them do. */
#include "harness/harness.h"

#include <sched.h>
#include <stdio.h>

#include "train/launch.h"

/* A rank on `host` that may run on cores [first, first + n) of `all`. */
static struct launch_note note(const char *host, int first, int n, int all)
{
    struct launch_note note = {
        .binary = 1, .config = 2, .physical_cores = n, .host_cores = all};
    snprintf(note.host, sizeof note.host, "%s", host);
    for (int c = first; c < first + n; c++) note.cores[c / 64] |= UINT64_C(1) << c % 64;
    return note;
}

static void describe(const struct launch_note *notes, int size, int rank, int wanted,
                     const char *line, const char *warning)
{
    char got_line[512], got_warning[512];
    memset(got_line, 'x', sizeof got_line);
    memset(got_warning, 'x', sizeof got_warning);
    launch_describe(notes, size, rank, wanted, got_line, got_warning, sizeof got_line);
    assert_string_equal(got_line, line);
    assert_string_equal(got_warning, warning);
}

TEST(ranks_with_the_same_cores_share_them)
{
    struct launch_note notes[5] = {note("a", 0, 8, 8), note("a", 0, 8, 8),
                                   note("b", 0, 8, 8), note("b", 0, 4, 8),
                                   note("b", 4, 4, 8)};
    const int want[] = {4, 4, 8, 4, 4};
    for (int r = 0; r < 5; r++) {
        assert_int_equal(launch_threads(notes, 5, r, 0), want[r]);
        assert_int_equal(launch_threads(notes, 5, r, 3), 3);
    }
    describe(notes, 5, 0, 0, "host a: ranks 0-1, 8 cores, 4 threads each", "");
    describe(notes, 5, 4, 0,
             "host b: ranks 2-4, 8 cores, 4 to 8 threads each (more threads than cores)",
             "");
    /* more ranks than cores; cores beyond the first word of the mask */
    struct launch_note many[3] = {note("a", 100, 2, 2), note("a", 100, 2, 2),
                                  note("a", 100, 2, 2)};
    assert_int_equal(launch_threads(many, 3, 2, 0), 1);
    describe(many, 3, 0, 0,
             "host a: ranks 0-2, 2 cores, 1 thread each (more threads than cores)", "");
    struct launch_note last = note("a", LAUNCH_MAX_CPUS - 1, 1, 1);
    describe(&last, 1, 0, 0, "host a: rank 0, 1 core, 1 thread", "");
}

TEST(a_container_that_limits_time_limits_threads)
{
    struct launch_note notes[2] = {note("a", 0, 64, 64), note("a", 0, 64, 64)};
    notes[0].quota_cores = notes[1].quota_cores = 8;
    assert_int_equal(launch_threads(notes, 2, 0, 0), 4);
    notes[0].quota_cores = notes[1].quota_cores = 1;
    assert_int_equal(launch_threads(notes, 2, 0, 0), 1);
    notes[0].quota_cores = notes[1].quota_cores = 100;
    assert_int_equal(launch_threads(notes, 2, 0, 0), 32);
}

TEST(a_pinned_rank_is_told_the_option_that_frees_it)
{
    /* mpirun -n 2 on 8 cores, as Open MPI does it when nothing is said */
    struct launch_note notes[2] = {note("a", 0, 1, 8), note("a", 1, 1, 8)};
    describe(
        notes, 2, 0, 0, "host a: ranks 0-1, 2 cores, 1 thread each",
        "host a: pinning to 1 core a rank leaves 6 of 8 cores idle: start with mpirun "
        "--bind-to none, or --map-by ppr:2:node:PE=4");
    describe(
        notes, 2, 0, 4,
        "host a: ranks 0-1, 2 cores, 4 threads each (more threads than cores)",
        "host a: train.threads is 4, but a rank may use only 1 of 8 cores: start with "
        "mpirun --bind-to none, or --map-by ppr:2:node:PE=4");
    strcpy(notes[0].size_variable, "SLURM_STEP_NUM_TASKS");
    describe(
        notes, 2, 0, 4,
        "host a: ranks 0-1, 2 cores, 4 threads each (more threads than cores)",
        "host a: train.threads is 4, but a rank may use only 1 of 8 cores: start with "
        "srun --cpus-per-task=4");
    /* the only two cores there are: pinning loses nothing, unless more is asked for */
    struct launch_note all[2] = {note("a", 0, 1, 2), note("a", 1, 1, 2)};
    describe(all, 2, 0, 0, "host a: ranks 0-1, 2 cores, 1 thread each", "");
    describe(
        all, 2, 0, 2,
        "host a: ranks 0-1, 2 cores, 2 threads each (more threads than cores)",
        "host a: 4 threads in all on 2 cores: train.threads 0 picks what fits; or set "
        "OMP_WAIT_POLICY=passive, so that those that wait leave their cores to the "
        "others");
    /* bound to a socket each: as it should be */
    struct launch_note socket[2] = {note("a", 0, 4, 8), note("a", 4, 4, 8)};
    describe(socket, 2, 1, 0, "host a: ranks 0-1, 8 cores, 4 threads each", "");
    describe(socket, 2, 1, 2, "host a: ranks 0-1, 8 cores, 2 threads each", "");
}

TEST(the_first_rank_that_differs_in_binary_libraries_or_configuration_is_named)
{
    struct launch_note notes[6];
    for (int r = 0; r < 6; r++) notes[r] = note(r < 3 ? "a" : "b", 0, 4, 4);
    ASSERT_OK(launch_judge(notes, 6));
    notes[5].config = 99;
    ASSERT_REFUSED(launch_judge(notes, 6), STATUS_LAUNCH,
                   "rank 5 has another configuration than rank 0 on a");
    notes[1].config = 98;
    notes[2].config = 97;
    ASSERT_REFUSED(launch_judge(notes, 6), STATUS_LAUNCH,
                   "ranks 1-2, 5 have another configuration");
    strcpy(notes[3].libraries, "libmpi.so.40.30.4 libdnnl.so.2.6");
    ASSERT_REFUSED(launch_judge(notes, 6), STATUS_LAUNCH,
                   "rank 3 has other versions of libraries than rank 0 on a: "
                   "libmpi.so.40.30.4 instead of none");
    for (int r = 0; r < 6; r++)
        strcpy(notes[r].libraries, "libmpi.so.40.30.4 libdnnl.so.2.6");
    strcpy(notes[5].libraries, "libmpi.so.40.30.4 libdnnl.so.3.0");
    ASSERT_REFUSED(launch_judge(notes, 6), STATUS_LAUNCH,
                   "libdnnl.so.3.0 instead of libdnnl.so.2.6");
    notes[4].binary = 9;
    ASSERT_REFUSED(launch_judge(notes, 6), STATUS_LAUNCH,
                   "rank 4 runs another yoke binary than rank 0 on a");
    notes[2].binary = 9;
    ASSERT_REFUSED(launch_judge(notes, 6), STATUS_LAUNCH, "ranks 2, 4 run another");
}

TEST(a_list_of_very_many_ranks_is_cut)
{
    enum { MANY = 2000 };
    struct launch_note *notes = test_alloc(MANY * sizeof *notes);
    for (int r = 0; r < MANY; r++) {
        notes[r] = note("a", 0, 1, 1);
        notes[r].config = (uint64_t)(r % 2);
    }
    ASSERT_REFUSED(launch_judge(notes, MANY), STATUS_LAUNCH, ", ... have another");
    assert_true(strlen(status_message()) < 500);
}

TEST(a_world_of_another_size_than_was_started_is_refused)
{
    struct launch_note notes[4];
    for (int r = 0; r < 4; r++) notes[r] = note("a", 0, 4, 4);
    notes[0].started = 4;
    strcpy(notes[0].size_variable, "PMI_SIZE");
    ASSERT_OK(launch_judge(notes, 4));
    ASSERT_REFUSED(launch_judge(notes, 1), STATUS_LAUNCH,
                   "MPI connects 1 rank, but PMI_SIZE says that 4 were started: this "
                   "mpirun belongs to another MPI");
    strcpy(notes[0].size_variable, "SLURM_NTASKS");
    ASSERT_REFUSED(launch_judge(notes, 1), STATUS_LAUNCH, "srun --mpi=pmix");
}

/* Environment variables as another launcher would set them; all ranks alike. */
static const char *const variables[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE",
                                        "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"};
enum { VARIABLES = sizeof variables / sizeof *variables };

TEST(the_launcher_nearest_to_the_process_is_believed)
{
    char *before[VARIABLES];
    struct launch_note n;
    for (int i = 0; i < VARIABLES; i++) {
        before[i] = getenv(variables[i]) ? strdup(getenv(variables[i])) : NULL;
        unsetenv(variables[i]);
    }
    ASSERT_OK(launch_note_take(&n, "text"));
    assert_int_equal(n.started, 0);
    for (int i = VARIABLES - 1; i >= 0; i--) {
        char value[8];
        snprintf(value, sizeof value, "%d", 20 + i);
        setenv(variables[i], value, 1);
        ASSERT_OK(launch_note_take(&n, "text"));
        assert_int_equal(n.started, 20 + i);
        assert_string_equal(n.size_variable, variables[i]);
    }
    const char *const nonsense[] = {"", "x", "0", "-3", "4x", "99999999999"};
    for (size_t i = 0; i < sizeof nonsense / sizeof *nonsense; i++) {
        setenv(variables[0], nonsense[i], 1);
        ASSERT_OK(launch_note_take(&n, "text"));
        assert_string_equal(n.size_variable, variables[1]);
    }
    for (int i = 0; i < VARIABLES; i++) {
        unsetenv(variables[i]);
        if (before[i]) setenv(variables[i], before[i], 1);
        free(before[i]);
    }
}

TEST(a_note_tells_the_truth_about_this_process)
{
    struct launch_note n, other;
    memset(&n, 0x5a, sizeof n);
    ASSERT_OK(launch_note_take(&n, "text"));
    ASSERT_OK(launch_note_take(&other, "text."));
    assert_int_equal(n.binary, other.binary);
    assert_true(n.binary != 0 && n.config != other.config);
    assert_non_null(strstr(n.libraries, "libmpi.so."));
    assert_non_null(strstr(n.libraries, "libc.so."));
    assert_string_equal(n.libraries, other.libraries);
    cpu_set_t set;
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    int cores = 0;
    for (int c = 0; c < LAUNCH_MAX_CPUS; c++) {
        const bool mine = n.cores[c / 64] >> c % 64 & 1;
        assert_int_equal(mine, c < CPU_SETSIZE && CPU_ISSET((size_t)c, &set));
        cores += mine;
    }
    assert_true(cores >= 1 && n.host_cores >= cores);

    /* pinned to one core, as mpirun does it: the launcher's others are still known */
    cpu_set_t one;
    CPU_ZERO(&one);
    for (size_t c = 0; c < CPU_SETSIZE; c++)
        if (CPU_ISSET(c, &set)) {
            CPU_SET(c, &one);
            break;
        }
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    ASSERT_OK(launch_note_take(&other, "text"));
    assert_int_equal(launch_threads(&other, 1, 0, 0), 1);
    assert_int_equal(other.host_cores, n.host_cores);
    assert_int_equal(sched_setaffinity(0, sizeof set, &set), 0);
}

TEST(ranks_that_fit_get_their_threads)
{
    struct comm *c = test_world();
    struct launch_share share = {0};
    ASSERT_OK(launch_check(c, "the same text", 3, &share));
    assert_int_equal(share.threads, 3);
    struct launch_note n;
    ASSERT_OK(launch_note_take(&n, ""));
    ASSERT_OK(launch_check(c, "the same text", 0, &share));
    assert_true(share.threads >= 1 &&
                (share.threads == 1 || share.threads <= n.host_cores / comm_size(c)));
}

TEST(another_configuration_on_any_rank_is_refused_on_all)
{
    struct comm *c = test_world();
    for (int k = 1; k < comm_size(c); k++) {
        struct launch_share share = {.threads = -1};
        char want[64];
        snprintf(want, sizeof want, "rank %d has another configuration", k);
        ASSERT_REFUSED(
            launch_check(c, comm_rank(c) == k ? "other text" : "text", 0, &share),
            STATUS_LAUNCH, want);
        assert_int_equal(share.threads, -1);
    }
}

TEST(a_foreign_launcher_is_refused_on_all_ranks)
{
    struct comm *c = test_world();
    char *before =
        getenv("OMPI_COMM_WORLD_SIZE") ? strdup(getenv("OMPI_COMM_WORLD_SIZE")) : NULL;
    setenv("OMPI_COMM_WORLD_SIZE", "7", 1);
    struct launch_share share;
    ASSERT_REFUSED(launch_check(c, "text", 0, &share), STATUS_LAUNCH,
                   "OMPI_COMM_WORLD_SIZE says that 7 were started");
    unsetenv("OMPI_COMM_WORLD_SIZE");
    if (before) setenv("OMPI_COMM_WORLD_SIZE", before, 1);
    free(before);
    ASSERT_OK(launch_check(c, "text", 0, &share));
}
