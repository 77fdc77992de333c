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

/* For `ranks` ranks (0: as few as the configuration's axes ask for).  Reads the vocabulary from the
 * token files if the configuration leaves it to them and they are there.  Release it also after a
 * failure.  STATUS_CONFIG, STATUS_DATA, STATUS_NOMEM.  Local. */
MUST_USE status_t plan_make(struct plan *p, struct config *c, int ranks);
void plan_release(struct plan *p);
void plan_print(const struct plan *p, const struct config *c, FILE *out);
