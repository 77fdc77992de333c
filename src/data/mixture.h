/* mixture - which source the i-th sample comes from, and how many of that source came before.
 *
 * A pure function of (weights, i): sources are laid out over a period of MIXTURE_PERIOD slots
 * so that after every slot each source is as near to its share as whole numbers allow (largest
 * deficit first), and the period repeats.  O(1) per question. */
#pragma once

#include <stdint.h>

#include "core/status.h"

enum { MIXTURE_PERIOD = 1 << 20 };

struct mixture;

/* Weights need not sum to 1; each finite and > 0.  n >= 1.  STATUS_CONFIG, STATUS_NOMEM. */
MUST_USE status_t mixture_create(struct mixture **m, const double *weights, int n);
void mixture_destroy(struct mixture **m); /* NULL-safe; nulls */

/* Sample i (i >= 0) is number *nth (from 0) of source *source. */
void mixture_at(const struct mixture *m, int64_t i, int *source, int64_t *nth);
