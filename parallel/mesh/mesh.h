/* mesh - the grid of ranks.
 *
 * Made once from MPI_COMM_WORLD; nobody else does arithmetic on ranks.  Axes, innermost first:
 * tp, cp, dp, pp; an axis of size 1 is there like any other.  Today every rank is on the dp
 * axis; the other axes are refused by the configuration until they exist. */
#pragma once

#include "core/status.h"

enum mesh_axis { MESH_TP, MESH_CP, MESH_DP, MESH_PP, MESH_AXES };

struct mesh {
    int world_rank, world_size;
    int size[MESH_AXES];
    int coord[MESH_AXES]; /* this rank's */
};

/* sizes: by axis; their product is world_size.  STATUS_CONFIG otherwise. */
MUST_USE status_t mesh_init(struct mesh *m, int world_rank, int world_size,
                            const int sizes[MESH_AXES]);
const char *mesh_axis_name(enum mesh_axis axis); /* "tp", ... */

/* World rank of the rank at `coord`. */
int mesh_rank_at(const struct mesh *m, const int coord[MESH_AXES]);
