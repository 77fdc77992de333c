/* spike - is a loss far above those before it?
 *
 * Mean and variance are exponential averages over about the last SPIKE_WINDOW losses; nothing is a
 * spike before there have been SPIKE_FIRST. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { SPIKE_WINDOW = 128, SPIKE_FIRST = 32 };

struct spike {
    int64_t count; /* losses seen */
    double mean, variance;
};

/* sigma: standard deviations above the mean; 0: nothing is one. */
bool spike_is(const struct spike *s, double loss, double sigma);
/* A loss that was none. */
void spike_learn(struct spike *s, double loss);
