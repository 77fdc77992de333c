/* run_lock - one job at a time writes into a run folder.
 *
 * RUN/lock says who does: host, process, job, and a counter that grows while the job lives.  There are
 * no file locks, which network file systems do without or lose, and no times of files, which differ
 * between machines: the file is made with O_EXCL, and whoever finds one judges its text.
 *   - The process was on this machine: it lives, or the lock is stale.
 *   - It was an earlier start of this very Slurm job: stale.
 *   - Otherwise, somewhere else: stale if the text does not change for a while.
 * A job that was taken for dead and was not finds out before it commits its next checkpoint. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

struct run_lock;

/* How long a lock is watched before it is judged; a holder counts six times as often. */
#define RUN_LOCK_PATIENCE_SECONDS 12.0

/* Take the lock of `run_dir`, or wait up to `patience` for whoever has it to leave.  The folder
 * is made if it is not there, and goes with the lock if it is still empty then.
 * STATUS_LOCKED names the holder; STATUS_IO, STATUS_NOMEM.  For one rank of a run. */
MUST_USE status_t run_lock_acquire(struct run_lock **l, const char *run_dir,
                                   double patience);
/* STATUS_LOCKED if another job has taken it over.  NULL-safe; from any thread. */
MUST_USE status_t run_lock_check(const struct run_lock *l);
void run_lock_release(struct run_lock **l); /* NULL-safe; nulls */

/* ---- the judgement, pure ------------------------------------------------------------------ */

struct run_lock_holder {
    char host[64], boot[40], namespace[40]; /* of processes */
    int64_t pid, start;                     /* when, in ticks since the machine started */
    char job[32];                           /* of Slurm; "" if none */
    int64_t restart; /* how often Slurm has started that job again */
};

enum run_lock_verdict { RUN_LOCK_STALE, RUN_LOCK_HELD, RUN_LOCK_UNKNOWN };

/* `alive`: the process that `theirs` names exists here, should it be of this machine. */
enum run_lock_verdict run_lock_judge(const struct run_lock_holder *theirs,
                                     const struct run_lock_holder *mine, bool alive);
