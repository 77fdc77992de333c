/* mixture - which source the i-th sample comes from, and how many of that source came before.
 *
 * A pure function of (weights, i).  Each source gets a whole number c of the MIXTURE_PERIOD
 * slots of a period: its share, rounded by the largest remainder, at least one.  Inside the
 * period copy j of a source lies in slots [floor(j P/c), ceil((j+1) P/c)), which keeps the
 * count of every source less than one from its share c/P after every slot; taking the earliest
 * deadline first finds such an order (Tijdeman 1980, "The chairman assignment problem"; Baruah
 * et al. 1996, "Proportionate progress", section 2).  The period repeats.  O(1) per question. */
#pragma once

#include <stdint.h>

#include "core/status.h"

enum { MIXTURE_PERIOD = 1 << 20, MIXTURE_MAX_SOURCES = 4096 };

struct mixture;

/* Weights need not sum to 1; each finite and > 0.  1 <= n <= MIXTURE_MAX_SOURCES.
 * STATUS_CONFIG, STATUS_NOMEM. */
MUST_USE status_t mixture_create(struct mixture **m, const double *weights, int n);
void mixture_destroy(struct mixture **m); /* NULL-safe; nulls */

/* Slots of `source` among MIXTURE_PERIOD. */
int64_t mixture_slots(const struct mixture *m, int source);

/* Sample i (i >= 0) is number *nth (from 0) of source *source. */
void mixture_at(const struct mixture *m, int64_t i, int *source, int64_t *nth);
