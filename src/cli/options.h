/* options - what the subcommands' command lines have in common. */
#pragma once

#include <stdint.h>

#include "core/status.h"
#include "parallel/comm/comm.h"

/* A whole number in [min, max] out of `text`; STATUS_USAGE names `option` and the bounds. */
MUST_USE status_t option_int(const char *option, const char *text, int64_t min,
                             int64_t max, int64_t *value);
MUST_USE status_t option_double(const char *option, const char *text, double *value);

/* The processor cores this process may use: the default of --threads. */
int64_t option_cores(void);

/* Print the sentence of a failed status as an error (on rank 0 if `world` is not NULL) and
 * return its exit code; 0 and silence for STATUS_OK. */
int cli_exit(status_t st, const struct comm *world);

/* "yoke NAME: what" on stderr; returns the exit code of STATUS_USAGE. */
int cli_usage(const char *name, const char *what);

/* The same two for what all ranks see alike before MPI runs, i.e. the command line: of the
 * ranks that a launcher started only the first speaks. */
int cli_exit_early(status_t st);
int cli_usage_early(const char *name, const char *what);

/* cli_usage_early for the option of `argv` that getopt_long has just answered '?' for. */
int cli_usage_option(const char *name, char *const *argv);
