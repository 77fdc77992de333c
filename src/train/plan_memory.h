/* plan_memory - what the ranks of a layout would need, found without any ranks. */
#pragma once

#include <stdio.h>

#include "config/config.h"
#include "parallel/mesh/mesh.h"

/* Print the memory plan of the first rank of each pipeline stage of a layout of these sizes (the
 * ranks of a stage differ little), for the device that train.device finds here.  Nothing but a word
 * where there is none, or no vocabulary.  STATUS_CONFIG, STATUS_NOMEM.  Local. */
MUST_USE status_t plan_memory_print(const struct config *c, const int sizes[MESH_AXES],
                                    FILE *out);
