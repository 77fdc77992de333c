/* launch - ranks compare notes before any work.
 *
 * What goes wrong at the start of a job goes wrong silently: an mpirun of another MPI starts
 * four programs that each believe to be alone; one node still has yesterday's binary; a
 * launcher pins a rank with eight threads to one core.  Each rank writes down what it sees,
 * the notes are exchanged, and all ranks judge the same notes by the same rules. */
#pragma once

#include <stdint.h>

#include "core/status.h"
#include "parallel/comm/comm.h"

/* Exchange notes and judge them: this rank's number of threads in *threads.  `config_text` is
 * whatever must be equal on all ranks.  threads_wanted 0: the cores this rank may use, shared
 * evenly with ranks of its host that may use the same ones, within the container's CPU limit.  One line a host goes to the log,
 * and a warning with the option that cures it where a rank has fewer cores than it could.
 * STATUS_LAUNCH; the status is the same on all ranks.  Collective on world. */
MUST_USE status_t launch_check(struct comm *world, const char *config_text,
                               int threads_wanted, int *threads);

/* Which rank this is to be, as its launcher says before MPI runs; 0 when nothing says. */
int launch_early_rank(void);

/* ---- the parts, pure apart from launch_note_take ------------------------------------------ */

enum { LAUNCH_MAX_CPUS = 8192, LAUNCH_MASK_WORDS = LAUNCH_MAX_CPUS / 64 };

struct launch_note {
    char host[64];
    char
        size_variable[32]; /* what says how many ranks were started; "" if nothing does */
    int started;           /* its value */
    int host_cores;        /* that whoever started this rank could have given it */
    int quota_cores;       /* that the container's time limit is worth; 0: no limit */
    uint64_t binary, config;           /* hashes */
    char libraries[256];               /* launch_libraries */
    uint64_t cores[LAUNCH_MASK_WORDS]; /* bit c: this rank may run on core c */
};

/* What this rank sees.  STATUS_LAUNCH.  Local. */
MUST_USE status_t launch_note_take(struct launch_note *n, const char *config_text);

/* File names, with versions, of the libraries that this process has loaded and whose version
 * counts, in the order of loading; the rest of `text` is zero. */
void launch_libraries(char *text, size_t bytes);

/* May ranks with these notes work together?  STATUS_LAUNCH says what to do. */
MUST_USE status_t launch_judge(const struct launch_note *notes, int size);

/* Threads of `rank`, at least 1. */
int launch_threads(const struct launch_note *notes, int size, int rank, int wanted);

/* For the host of notes[rank]: the line that describes it, and what is to be said about lost
 * cores ("" if nothing).  Both buffers have `bytes`. */
void launch_describe(const struct launch_note *notes, int size, int rank, int wanted,
                     char *line, char *warning, size_t bytes);
