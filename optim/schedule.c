#include "optim/optim.h"

#include <math.h>

/* From 1 at p = 0 to the floor at p = 1. */
static double fall(const struct schedule *s, double shape)
{
    return s->min_ratio + (1 - s->min_ratio) * shape;
}

/* How far `step` is on the way of `length` steps that starts at `first`, in [0, 1]. */
static double progress(int64_t step, int64_t first, int64_t length)
{
    if (step < first) return 0;
    if (step - first >= length) return 1;
    return (double)(step - first) / (double)length;
}

static int64_t warmup_count(int clock, int64_t step)
{
    switch ((enum schedule_clock)clock) {
    case SCHEDULE_CLOCK_AHEAD:
    case SCHEDULE_CLOCK_ONE:
        return step + 1;
    case SCHEDULE_CLOCK_ZERO:
        return step;
    case SCHEDULE_CLOCK_NOT_ZERO:
        return step > 1 ? step : 1;
    }
    return step;
}

/* Cosine: Loshchilov and Hutter 2017, arXiv:1608.03983, equation 5, without restarts.
 * Warmup-stable-decay: Hu et al. 2024, arXiv:2404.06395, section 4; its 1 - sqrt decay:
 * Haegele et al. 2024, arXiv:2405.18392, section 3. */
double schedule_factor(const struct schedule *s, int64_t step)
{
    if (step < s->warmup_steps)
        return (double)warmup_count(s->clock, step) / (double)s->warmup_steps;
    const int64_t count = s->clock == SCHEDULE_CLOCK_ONE ? step + 1 : step;
    const double way = progress(count, s->warmup_steps, s->total_steps - s->warmup_steps);
    const double end = progress(count, s->total_steps - s->decay_steps, s->decay_steps);
    switch ((enum schedule_kind)s->kind) {
    case SCHEDULE_CONSTANT:
        return 1;
    case SCHEDULE_LINEAR:
        return fall(s, 1 - way);
    case SCHEDULE_COSINE:
        return fall(s, 0.5 * (1 + cos(acos(-1) * way)));
    case SCHEDULE_WSD:
        return fall(s, s->decay == SCHEDULE_DECAY_SQRT ? 1 - sqrt(end) : 1 - end);
    }
    return 1;
}
