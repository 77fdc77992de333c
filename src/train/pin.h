/* pin - a core for each thread of a rank.
 *
 * Ranks of a host that were given the same cores share them out: equal parts, of whole physical
 * cores where there are enough, cores of one NUMA node together.  A rank that has its cores to
 * itself has them all.  Every thread of OpenMP's team but the first then stays on a core of its
 * own, hyper-threads of one physical core last.
 *
 * The first thread may run on the whole part: threads that it starts inherit its cores, and the
 * loader, the writer of checkpoints, and OpenMP's own after a smaller team (libgomp ends the
 * threads that it left out, and starts new ones for the next) must not all sit on one.  Where the
 * team fills the part, the core that the others leave is its own anyway. */
#pragma once

#include "core/status.h"
#include "train/launch.h"

enum pin_mode { PIN_AUTO, PIN_ALWAYS, PIN_NEVER }; /* as train.pin */

struct pin {
    int n_threads;                      /* that are pinned; 0: none */
    uint64_t before[LAUNCH_MASK_WORDS]; /* what the rank had */
};

/* Pin the team of the calling process, which the rank with this share has sized.  What cannot be
 * done is left: a warning says so where `mode` asked for it or the system refused.  `text`: how it
 * went, "not pinned: why" or where the threads are.  Local. */
void pin_team(struct pin *p, const struct launch_share *s, enum pin_mode mode, char *text,
              size_t bytes);
/* The same for a process that works by itself: `threads` on the cores it may use. */
void pin_team_alone(struct pin *p, int threads);
/* Whatever was pinned may run where it did before.  Accepts a zeroed pin, and leaves one. */
void pin_release(struct pin *p);

/* ---- the rule, pure ------------------------------------------------------------------------ */

struct pin_plan {
    int n_threads;                    /* 0: nothing is pinned */
    const char *why_not;              /* then; static */
    uint64_t part[LAUNCH_MASK_WORDS]; /* of the cores, this rank's */
    int cpu[LAUNCH_MAX_CPUS];         /* of each thread */
};

/* The n cores of s->cores, as launch_list_cores lists them.  PIN_AUTO pins only teams that fill their part, one
 * thread a physical core or one a hyper-thread: a job that leaves cores free leaves the choice to
 * the system, which sees what else runs there. */
void pin_plan_make(struct pin_plan *p, const struct launch_core *cores, int n,
                   const struct launch_share *s, enum pin_mode mode);
