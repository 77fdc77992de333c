/* weights - where a rank's weights lie: in memory of its own, or in one copy with ranks of its host. */
#pragma once

#include "parallel/dp/dp.h"

/* Memory of d, zero, for `bytes` of weights: a window of `data`, or, if that is NULL, this rank's own.
 * Collective on data; agreed there.  STATUS_NOMEM, STATUS_COMM. */
MUST_USE status_t weights_alloc(void **w, struct comm *data, struct device *d,
                                size_t bytes);
void weights_free(void **w, struct comm *data, struct device *d,
                  size_t bytes); /* NULL-safe; nulls */

/* Touch every page before one thread writes it: all of them by the team, or those of a copy that several
 * ranks have by the ranks that will update them (dp_owned). */
void weights_touch(void *w, const struct dp *dp, struct device *d, enum dtype t,
                   bool together);
