#include "train/deadline.h"

#include <stdlib.h>
#include <time.h>

#include "config/env.h"
#include "core/log.h"

static double now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

double deadline_of(const struct config *c, double now, const char *slurm_job_end)
{
    double end = c->time_limit > 0 ? now + c->time_limit : 0;
    char *rest = NULL;
    const double slurm = slurm_job_end ? strtod(slurm_job_end, &rest) : 0;
    const bool told = slurm_job_end && rest != slurm_job_end && !*rest && slurm > 0;
    if (told && (end == 0 || slurm < end)) end = slurm;
    return end > 0 ? end - c->time_margin : 0;
}

double deadline_begin(const struct config *c)
{
    const double now = now_seconds();
    const double deadline = deadline_of(c, now, config_env("SLURM_JOB_END_TIME"));
    if (deadline > 0)
        log_info("time: the run saves and leaves in %.0f s (train.time_limit, "
                 "train.time_margin, SLURM_JOB_END_TIME)",
                 deadline > now ? deadline - now : 0.0);
    return deadline;
}

bool deadline_passed(double deadline)
{
    return deadline > 0 && now_seconds() >= deadline;
}
