/* launch - ranks compare notes before any work.
 *
 * What goes wrong at the start of a job goes wrong silently: an mpirun of another MPI starts
 * four programs that each believe to be alone; one node still has yesterday's binary; a
 * launcher pins a rank with eight threads to one core.  Each rank writes down what it sees,
 * the notes are exchanged, and all ranks judge the same notes by the same rules. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "parallel/comm/comm.h"

enum { LAUNCH_MAX_CPUS = 8192, LAUNCH_MASK_WORDS = LAUNCH_MAX_CPUS / 64 };

/* What of its host a rank has. */
struct launch_share {
    int threads;
    /* bit c: it may run on core c, hyper-threads counted */
    uint64_t cores[LAUNCH_MASK_WORDS];
    int n_ranks, index; /* that were given the same cores; which of them it is */
    bool overlaps;      /* some other rank was given some of them, and not the same */
};

/* Exchange notes and judge them: this rank's share in *share.  `config_text` is whatever must be
 * equal on all ranks.  threads_wanted 0: the physical cores this rank may use, shared evenly with
 * ranks of its host that may use the same ones, within the container's CPU limit.  One line a host
 * goes to the log, and a warning with the option that cures it where a rank has fewer cores than it
 * could.  STATUS_LAUNCH; the status is the same on all ranks.  Collective on world. */
MUST_USE status_t launch_check(struct comm *world, const char *config_text,
                               int threads_wanted, struct launch_share *share);

/* Which rank this is to be, as its launcher says before MPI runs; 0 when nothing says. */
int launch_early_rank(void);

/* ---- the parts, pure apart from launch_note_take ------------------------------------------ */

struct launch_note {
    char host[64];
    char
        size_variable[32]; /* what says how many ranks were started; "" if nothing does */
    int started;           /* its value */
    int physical_cores;    /* those of `cores`, hyper-threads of one counted once */
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

/* One core that a rank may use. */
struct launch_core {
    int cpu, physical; /* its number; the least one among its hyper-threads */
    int node;          /* of NUMA */
};
/* The cores of a mask, ordered by node, physical core and number; how many.  cores: [LAUNCH_MAX_CPUS]. */
int launch_list_cores(const uint64_t mask[LAUNCH_MASK_WORDS], struct launch_core *cores);
/* Those of such a list, hyper-threads counted once; those of a mask, hyper-threads counted. */
int launch_count_physical(const struct launch_core *cores, int n);
int launch_count_cores(const uint64_t mask[LAUNCH_MASK_WORDS]);
/* A mask as "0-3,8"; cut with "..." where it does not fit. */
void launch_name_cores(const uint64_t mask[LAUNCH_MASK_WORDS], char *text, size_t bytes);
/* cores, physical_cores and host_cores of a note.  STATUS_LAUNCH, STATUS_NOMEM. */
MUST_USE status_t launch_take_cores(struct launch_note *n);

/* The share of `rank`; its threads alone, at least 1. */
void launch_divide(const struct launch_note *notes, int size, int rank, int wanted,
                   struct launch_share *s);
int launch_threads(const struct launch_note *notes, int size, int rank, int wanted);

/* For the host of notes[rank]: the line that describes it, and what is to be said about lost
 * cores ("" if nothing).  Both buffers have `bytes`. */
void launch_describe(const struct launch_note *notes, int size, int rank, int wanted,
                     char *line, char *warning, size_t bytes);
