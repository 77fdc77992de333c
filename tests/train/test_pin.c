/* @ranks 1 2 3
 * Who gets which core, and that threads are where they were put. */
#include "harness/harness.h"

#include <omp.h>
#include <sched.h>

#include "train/pin.h"

enum { MOST = 64 };

/* Cores 0 to n - 1 of a machine with `nodes` NUMA nodes, each with an equal run of them, and, if
 * `smt`, core c + n/2 as second hyper-thread of c; those in `mask` only. */
static int machine(struct launch_core *cores, int n, int nodes, bool smt, uint64_t mask)
{
    const int physical = smt ? n / 2 : n;
    int count = 0;
    for (int p = 0; p < physical; p++)
        for (int c = p; c < n; c += physical)
            if (mask >> c & 1)
                cores[count++] = (struct launch_core){c, p, p * nodes / physical};
    return count;
}

static struct launch_share share(int threads, int n_ranks, int index)
{
    return (struct launch_share){.threads = threads, .n_ranks = n_ranks, .index = index};
}

static void expect(const struct launch_core *cores, int n, struct launch_share s,
                   enum pin_mode mode, uint64_t part, const int *cpu)
{
    static struct pin_plan p; /* as large as a machine may be */
    memset(&p, 0x5a, sizeof p);
    pin_plan_make(&p, cores, n, &s, mode);
    assert_null(p.why_not);
    assert_int_equal(p.n_threads, s.threads);
    assert_int_equal(p.part[0], part);
    for (int w = 1; w < LAUNCH_MASK_WORDS; w++) assert_int_equal(p.part[w], 0);
    for (int t = 0; t < s.threads; t++) assert_int_equal(p.cpu[t], cpu[t]);
}

static void refuse(const struct launch_core *cores, int n, struct launch_share s,
                   enum pin_mode mode, const char *why)
{
    static struct pin_plan p;
    memset(&p, 0x5a, sizeof p);
    pin_plan_make(&p, cores, n, &s, mode);
    assert_int_equal(p.n_threads, 0);
    assert_string_equal(p.why_not, why);
}

TEST(a_rank_alone_fills_its_cores)
{
    struct launch_core c[MOST];
    const int n = machine(c, 8, 1, false, 0xb4); /* 2, 4, 5, 7 */
    expect(c, n, share(4, 1, 0), PIN_AUTO, 0xb4, (const int[]){2, 4, 5, 7});
    expect(c, n, share(2, 1, 0), PIN_ALWAYS, 0xb4, (const int[]){2, 4});
    refuse(c, n, share(4, 1, 0), PIN_NEVER, "train.pin is never");
}

TEST(ranks_with_the_same_cores_get_equal_parts)
{
    struct launch_core c[MOST];
    int n = machine(c, 8, 2, false, 0xff);
    expect(c, n, share(4, 2, 0), PIN_AUTO, 0x0f, (const int[]){0, 1, 2, 3});
    expect(c, n, share(4, 2, 1), PIN_AUTO, 0xf0, (const int[]){4, 5, 6, 7});
    /* what does not divide stays free, and the parts are equal all the same */
    expect(c, n, share(2, 3, 2), PIN_AUTO, 0x30, (const int[]){4, 5});
    n = machine(c, 2, 1, false, 3);
    expect(c, n, share(1, 2, 1), PIN_AUTO, 2, (const int[]){1});
}

TEST(hyper_threads_come_last_and_stay_together)
{
    struct launch_core c[MOST];
    int n = machine(c, 16, 1, true, 0xffff);
    expect(c, n, share(8, 1, 0), PIN_AUTO, 0xffff, (const int[]){0, 1, 2, 3, 4, 5, 6, 7});
    expect(c, n, share(4, 2, 1), PIN_AUTO, 0xf0f0, (const int[]){4, 5, 6, 7});
    expect(c, n, share(8, 2, 1), PIN_AUTO, 0xf0f0,
           (const int[]){4, 5, 6, 7, 12, 13, 14, 15});
    expect(c, n, share(6, 2, 0), PIN_ALWAYS, 0x0f0f, (const int[]){0, 1, 2, 3, 8, 9});
    /* as many ranks as hyper-threads: two of them share a physical core */
    expect(c, n, share(1, 16, 1), PIN_AUTO, 0x100, (const int[]){8});
    /* second hyper-threads only: they are cores like any */
    n = machine(c, 16, 1, true, 0xf000);
    expect(c, n, share(4, 1, 0), PIN_AUTO, 0xf000, (const int[]){12, 13, 14, 15});
}

TEST(what_would_crowd_or_waste_cores_is_not_pinned)
{
    struct launch_core c[MOST];
    const int n = machine(c, 8, 1, true, 0xff);
    struct launch_share s = share(4, 1, 0);
    s.overlaps = true;
    refuse(c, n, s, PIN_AUTO,
           "other ranks may use some of its cores, but not the same ones");
    refuse(c, n, s, PIN_ALWAYS,
           "other ranks may use some of its cores, but not the same ones");
    refuse(c, n, share(9, 1, 0), PIN_ALWAYS, "there are more threads than cores");
    refuse(c, n, share(5, 2, 0), PIN_AUTO, "there are more threads than cores");
    refuse(c, n, share(1, 9, 3), PIN_ALWAYS, "there are fewer cores than ranks");
    refuse(c, n, share(3, 1, 0), PIN_AUTO, "its threads leave cores free");
    refuse(c, n, share(6, 1, 0), PIN_AUTO, "its threads leave cores free");
}

TEST(cores_are_listed_with_hyper_threads_next_to_each_other)
{
    static struct launch_core c[LAUNCH_MAX_CPUS];
    uint64_t mask[LAUNCH_MASK_WORDS] = {0};
    assert_true(sched_getaffinity(0, sizeof mask, (cpu_set_t *)mask) == 0);
    const int n = launch_list_cores(mask, c);
    assert_int_equal(n, launch_count_cores(mask));
    const int physical = launch_count_physical(c, n);
    assert_in_range(physical, 1, n);
    for (int i = 0; i < n; i++) {
        assert_true(mask[c[i].cpu / 64] >> c[i].cpu % 64 & 1);
        assert_true(c[i].physical <= c[i].cpu && c[i].node >= 0);
        for (int k = 0; k < i; k++) assert_int_not_equal(c[i].cpu, c[k].cpu);
        if (i > 0) assert_true(c[i].node >= c[i - 1].node);
    }
    /* hyper-threads of a core that is not there are cores of their own */
    const struct launch_core some[] = {{1, 1, 0}, {5, 1, 0}, {6, 2, 0}, {3, 3, 1}};
    assert_int_equal(launch_count_physical(some, 4), 3);
}

/* ---- the threads of this process ------------------------------------------------------------- */

static int cores_of_thread(uint64_t mask[LAUNCH_MASK_WORDS])
{
    memset(mask, 0, LAUNCH_MASK_WORDS * sizeof *mask);
    return sched_getaffinity(0, LAUNCH_MASK_WORDS * sizeof *mask, (cpu_set_t *)mask);
}

TEST(threads_are_on_cores_of_their_own_until_released)
{
    struct comm *w = test_world();
    struct launch_share s;
    struct pin p;
    char text[256];
    ASSERT_OK(launch_check(w, "", 0, &s));
    omp_set_num_threads(s.threads);
    pin_team(&p, &s, PIN_ALWAYS, text, sizeof text);
    static uint64_t masks[MOST][LAUNCH_MASK_WORDS];
    assert_in_range(s.threads, 1, MOST);
    int failed = 0;
#pragma omp parallel num_threads(s.threads) reduction(+ : failed)
    failed += cores_of_thread(masks[omp_get_thread_num()]);
    assert_int_equal(failed, 0);
    const int all = launch_count_cores(s.cores);
    if (s.n_ranks > all || s.overlaps) { /* more ranks than cores: as it was */
        assert_int_equal(p.n_threads, 0);
        assert_memory_equal(masks[0], s.cores, sizeof s.cores);
    } else {
        assert_int_equal(p.n_threads, s.threads);
        assert_non_null(strstr(text, "pinned to cores"));
        static struct pin_plan plan;
        static struct launch_core cores[LAUNCH_MAX_CPUS];
        pin_plan_make(&plan, cores, launch_list_cores(s.cores, cores), &s, PIN_ALWAYS);
        assert_memory_equal(masks[0], plan.part, sizeof plan.part);
        for (int t = 1; t < s.threads; t++) {
            assert_int_equal(launch_count_cores(masks[t]), 1);
            assert_true(masks[t][plan.cpu[t] / 64] >> plan.cpu[t] % 64 & 1);
        }
        /* no core is of two ranks */
        int64_t n_of[MOST] = {0};
        for (int c = 0; c < MOST; c++) n_of[c] = masks[0][0] >> c & 1;
        comm_sum_i64(w, n_of, MOST);
        for (int c = 0; c < MOST; c++) assert_in_range(n_of[c], 0, 1);
    }
    pin_release(&p);
#pragma omp parallel num_threads(s.threads) reduction(+ : failed)
    failed += cores_of_thread(masks[omp_get_thread_num()]);
    for (int t = 0; t < s.threads; t++)
        assert_memory_equal(masks[t], s.cores, sizeof s.cores);
}

TEST(who_has_placed_openmps_threads_is_not_overruled)
{
    struct launch_share s = {.threads = 1, .n_ranks = 1};
    struct pin p;
    char text[256];
    assert_int_equal(cores_of_thread(s.cores), 0);
    setenv("OMP_PLACES", "cores", 1);
    pin_team(&p, &s, PIN_ALWAYS, text, sizeof text);
    unsetenv("OMP_PLACES");
    assert_int_equal(p.n_threads, 0);
    assert_string_equal(text, "where OMP_PLACES says");
}

TEST(cores_that_are_gone_are_a_warning)
{
    struct launch_share s = {.threads = 1, .n_ranks = 1};
    struct pin p;
    char text[256];
    uint64_t before[LAUNCH_MASK_WORDS], after[LAUNCH_MASK_WORDS];
    assert_int_equal(cores_of_thread(before), 0);
    s.cores[LAUNCH_MASK_WORDS - 1] = UINT64_C(1) << 63;
    pin_team(&p, &s, PIN_ALWAYS, text, sizeof text);
    assert_int_equal(p.n_threads, 0);
    assert_non_null(strstr(text, "not pinned: Invalid argument"));
    assert_int_equal(cores_of_thread(after), 0);
    assert_memory_equal(before, after, sizeof before);
}
