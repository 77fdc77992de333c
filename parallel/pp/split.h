/* split - which layers each part of a pipeline has.  Pure. */
#pragma once

#include <stdint.h>

#include "core/status.h"

/* Cut n layers into n_parts runs, each at least one layer, so that the most expensive part costs as
 * little as can be; the first part costs `first_extra` more (embedding), the last `last_extra`
 * (head and loss).  first_layer[n_parts + 1]: part i has layers [first_layer[i], first_layer[i + 1]).
 * Of equally good cuts the one that fills early parts most.  n >= n_parts. */
void pp_split(const double *costs, int64_t n, double first_extra, double last_extra,
              int n_parts, int64_t *first_layer);

/* The same from a list like "4,4,3".  STATUS_CONFIG names parallel.stages and what is valid. */
MUST_USE status_t pp_split_parse(const char *list, int64_t n, int n_parts,
                                 int64_t *first_layer);
