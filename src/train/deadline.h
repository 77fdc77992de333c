/* deadline - when a run has to have saved and left, because its time ends. */
#pragma once

#include <stdbool.h>

#include "config/config.h"

/* Seconds since 1970 at which the run begins to leave: train.time_margin before the earlier of `now`
 * plus train.time_limit and the end of the job that Slurm tells.  0: never. */
double deadline_of(const struct config *c, double now, const char *slurm_job_end);

/* The same for this process, now, and said in the log. */
double deadline_begin(const struct config *c);
bool deadline_passed(double deadline);
