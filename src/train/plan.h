/* plan - what a layout would do, found without any ranks. */
#pragma once

#include <stdio.h>

#include "config/config.h"
#include "parallel/mesh/mesh.h"
#include "parallel/pp/simulate.h"

struct plan {
    int sizes[MESH_AXES];
    int64_t micro_batches; /* of a step, in a pipeline */
    int n_parts;
    int64_t *first_layer; /* [n_parts + 1] */
    struct pp_schedule schedule;
    struct pp_simulation simulation; /* in forwards of an average part */
};

/* The fewest ranks that the axes of all segments of a run go together with. */
int plan_fewest_ranks(struct config *run);

/* For `ranks` ranks, of one segment of a run.  Reads the vocabulary from the
 * token files if the configuration leaves it to them and they are there.  Release it also after a
 * failure.  STATUS_CONFIG, STATUS_DATA, STATUS_NOMEM.  Local. */
MUST_USE status_t plan_make(struct plan *p, struct config *c, int ranks);
void plan_release(struct plan *p);
/* One line of log_info: how much of a step stages of a pipeline wait, and what would make it less. */
void plan_log_idle(const struct config *c, const struct pp_schedule *s,
                   const int64_t *first_layer);
void plan_print(const struct plan *p, const struct config *c, FILE *out);
