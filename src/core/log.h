/* log - the only module that prints diagnostics, and the end of a rank that cannot go on.
 *
 * Lines go to stderr with the rank in front when there is more than one; results a user asked
 * for go to stdout from the subcommand that makes them.  Thread-safe. */
#pragma once

#include <stdbool.h>

#include "core/status.h"

/* Say who we are; before this call the process is rank 0 of 1. */
void log_init(int rank, int size);
int log_rank(void);

void log_info(const char *fmt, ...) PRINTF_LIKE(1, 2); /* printed by rank 0 only */
/* log_info prints nothing while this is true; returns what it was. */
bool log_set_quiet(bool quiet);
void log_warn(const char *fmt, ...)
    PRINTF_LIKE(1, 2); /* printed by every rank that calls */
void log_error(const char *fmt, ...)
    PRINTF_LIKE(1, 2); /* printed by every rank that calls */

/* Is stderr a terminal?  Only then does log_progress print: one transient line that the next
 * call redraws and the next log line wipes out. */
bool log_is_terminal(void);
void log_progress(const char *fmt, ...) PRINTF_LIKE(1, 2); /* rank 0 only */

/* What runs before `die` ends the process; parallel/comm installs MPI_Abort here. */
void log_set_abort(void (*abort_all)(int exit_code));

/* The step the training loop is in, for messages of `die`; -1 outside a step. */
void log_set_step(long long step);
long long log_step(void);

/* The step regime's only failure: print rank, step, file, line and the sentence, then end all
 * ranks.  Never returns. */
#define die(...) log_die(STATUS_INTERNAL, __FILE__, __LINE__, __VA_ARGS__)
/* The same where the fault is not yoke's: with the exit code of `status`. */
#define die_with(status, ...) log_die(status, __FILE__, __LINE__, __VA_ARGS__)
_Noreturn void log_die(status_t status, const char *file, int line, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

/* Misuse of an interface: always checked.  No side effects inside. */
#define CHECK(cond)                                                                      \
    do {                                                                                 \
        if (!(cond)) die("check failed: %s", #cond);                                     \
    } while (0)

/* Inner invariants: debug builds only. */
#ifdef NDEBUG
#define DCHECK(cond) ((void)sizeof(cond))
#else
#define DCHECK(cond) CHECK(cond)
#endif
