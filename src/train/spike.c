#include "train/spike.h"

#include <math.h>

bool spike_is(const struct spike *s, double loss, double sigma)
{
    return sigma > 0 && s->count >= SPIKE_FIRST &&
           loss > s->mean + sigma * sqrt(s->variance);
}

void spike_learn(struct spike *s, double loss)
{
    const int64_t n = s->count < SPIKE_WINDOW ? s->count + 1 : SPIKE_WINDOW;
    const double share = 1 / (double)n, difference = loss - s->mean;
    s->mean += share * difference;
    s->variance = (1 - share) * (s->variance + share * difference * difference);
    s->count++;
}
