#include "train/pin.h"

#include <errno.h>
#include <omp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/env.h"
#include "core/log.h"

/* ---- the rule -------------------------------------------------------------------------------- */

/* A part: cores [first, first + n) of the list, `physical` of them if hyper-threads count once. */
struct part {
    int first, n, physical;
};

/* Where the i-th physical core begins. */
static int begin_of(const struct launch_core *cores, int n, int i)
{
    int at = 0;
    for (int seen = 0; at < n; at++) {
        if (at > 0 && cores[at].physical != cores[at - 1].physical) seen++;
        if (seen == i) break;
    }
    return at;
}

static struct part part_of(const struct launch_core *cores, int n,
                           const struct launch_share *s)
{
    const int physical = launch_count_physical(cores, n) / s->n_ranks;
    struct part p = {.n = n / s->n_ranks, .physical = n / s->n_ranks};
    p.first = s->index * p.n;
    if (physical == 0) return p; /* ranks share physical cores, too */
    p.first = begin_of(cores, n, s->index * physical);
    p.n = begin_of(cores, n, (s->index + 1) * physical) - p.first;
    p.physical = physical;
    return p;
}

/* The first hyper-thread of every physical core, then the second ones, until `threads` have a core. */
static void seat(struct pin_plan *p, const struct launch_core *cores, int n, int threads)
{
    int seated = 0;
    for (int round = 0; seated < threads; round++) {
        int sibling = 0;
        for (int i = 0; i < n && seated < threads; i++) {
            sibling =
                i > 0 && cores[i].physical == cores[i - 1].physical ? sibling + 1 : 0;
            if (sibling == round) p->cpu[seated++] = cores[i].cpu;
        }
    }
}

void pin_plan_make(struct pin_plan *p, const struct launch_core *cores, int n,
                   const struct launch_share *s, enum pin_mode mode)
{
    *p = (struct pin_plan){.why_not = NULL};
    const struct part part = part_of(cores, n, s);
    const bool fills = s->threads == part.physical || s->threads == part.n;
    if (mode == PIN_NEVER)
        p->why_not = "train.pin is never";
    else if (s->overlaps)
        p->why_not = "other ranks may use some of its cores, but not the same ones";
    else if (part.n == 0)
        p->why_not = "there are fewer cores than ranks";
    else if (s->threads > part.n)
        p->why_not = "there are more threads than cores";
    else if (mode == PIN_AUTO && !fills)
        p->why_not = "its threads leave cores free";
    if (p->why_not) return;
    p->n_threads = s->threads;
    seat(p, cores + part.first, part.n, s->threads);
    for (int i = part.first; i < part.first + part.n; i++)
        p->part[cores[i].cpu / 64] |= UINT64_C(1) << cores[i].cpu % 64;
}

/* ---- the system ------------------------------------------------------------------------------ */

/* What tells OpenMP where its threads go.  Whoever sets one of these has decided. */
static const char *decided_by_user(void)
{
    static const char *const variables[] = {"OMP_PROC_BIND", "OMP_PLACES",
                                            "GOMP_CPU_AFFINITY"};
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        if (config_env(variables[i])) return variables[i];
    return NULL;
}

/* The calling thread alone.  0 or the errno. */
static int stay_on(const uint64_t cores[LAUNCH_MASK_WORDS])
{
    const size_t bytes = LAUNCH_MASK_WORDS * sizeof *cores;
    return sched_setaffinity(0, bytes, (const cpu_set_t *)cores) == 0 ? 0 : errno;
}

static int stay_on_one(int cpu)
{
    uint64_t cores[LAUNCH_MASK_WORDS] = {0};
    cores[cpu / 64] = UINT64_C(1) << cpu % 64;
    return stay_on(cores);
}

/* 0, or the errno of one that was refused. */
static int place(const struct pin_plan *plan)
{
    int refused = stay_on(plan->part);
#pragma omp parallel num_threads(plan->n_threads) reduction(max : refused)
    if (omp_get_thread_num() > 0) refused = stay_on_one(plan->cpu[omp_get_thread_num()]);
    return refused;
}

static void describe(const struct pin_plan *plan, char *text, size_t bytes)
{
    char part[128];
    launch_name_cores(plan->part, part, sizeof part);
    if (plan->n_threads == 1)
        snprintf(text, bytes, "pinned to cores %s", part);
    else
        snprintf(text, bytes, "%d pinned to cores %s, one each", plan->n_threads, part);
}

static void carry_out(struct pin *p, const struct pin_plan *plan, char *text,
                      size_t bytes)
{
    p->n_threads = plan->n_threads;
    const int refused = place(plan);
    if (refused) {
        pin_release(p);
        log_warn("threads are not pinned: %s", strerror(refused));
        snprintf(text, bytes, "not pinned: %s", strerror(refused));
    } else {
        describe(plan, text, bytes);
    }
}

void pin_team(struct pin *p, const struct launch_share *s, enum pin_mode mode, char *text,
              size_t bytes)
{
    *p = (struct pin){0};
    memcpy(p->before, s->cores, sizeof p->before);
    const char *variable = decided_by_user();
    if (variable) {
        snprintf(text, bytes, "where %s says", variable);
        return;
    }
    struct pin_plan *plan = malloc(sizeof *plan);
    struct launch_core *cores = malloc(LAUNCH_MAX_CPUS * sizeof *cores);
    if (!plan || !cores) die("no memory for a list of cores");
    pin_plan_make(plan, cores, launch_list_cores(s->cores, cores), s, mode);
    if (plan->n_threads > 0)
        carry_out(p, plan, text, bytes);
    else
        snprintf(text, bytes, "not pinned: %s", plan->why_not);
    if (plan->n_threads == 0 && mode == PIN_ALWAYS)
        log_warn("train.pin: threads cannot be pinned: %s", plan->why_not);
    free(cores);
    free(plan);
}

void pin_team_alone(struct pin *p, int threads)
{
    char text[256];
    struct launch_share s = {.threads = threads, .n_ranks = 1};
    *p = (struct pin){0};
    if (sched_getaffinity(0, sizeof s.cores, (cpu_set_t *)s.cores) == 0)
        pin_team(p, &s, PIN_AUTO, text, sizeof text);
}

void pin_release(struct pin *p)
{
    if (p->n_threads > 0) {
#pragma omp parallel num_threads(p->n_threads)
        (void)stay_on(p->before); /* a cpuset that has changed keeps what it has */
    }
    *p = (struct pin){0};
}
