/* mesh - the grid of ranks.
 *
 * Made once from MPI_COMM_WORLD; nobody else does arithmetic on ranks.  Axes, innermost first:
 * tp, cp, dp, pp; an axis of size 1 is there like any other. */
#pragma once

#include <stddef.h>

#include "core/status.h"

enum mesh_axis { MESH_TP, MESH_CP, MESH_DP, MESH_PP, MESH_AXES };

struct mesh {
    int world_rank, world_size;
    int size[MESH_AXES];
    int coord[MESH_AXES]; /* this rank's */
};

/* A set of axes, and one of them. */
typedef unsigned mesh_axes;
#define MESH_BIT(axis) (1u << (axis))

/* Sizes of the axes from those wanted (0: auto).  dp auto is what the others leave, of which auto
 * is then 1; next to a given dp, the one other axis that is auto takes what is left.  STATUS_CONFIG
 * says what would be valid.  Pure. */
MUST_USE status_t mesh_sizes(int world_size, const int wanted[MESH_AXES],
                             int sizes[MESH_AXES]);

/* sizes: by axis; their product is world_size.  STATUS_CONFIG otherwise. */
MUST_USE status_t mesh_init(struct mesh *m, int world_rank, int world_size,
                            const int sizes[MESH_AXES]);
const char *mesh_axis_name(enum mesh_axis axis); /* "tp", ... */

/* One line a rank, or a run of ranks where there are many: host and coordinates.  hosts: names at
 * every `stride` bytes, by rank.  Caller frees. */
char *mesh_describe(const struct mesh *m, const char *hosts, size_t stride);

/* World rank of the rank at `coord`. */
int mesh_rank_at(const struct mesh *m, const int coord[MESH_AXES]);
/* Coordinates of a world rank. */
void mesh_coord_of(const struct mesh *m, int rank, int coord[MESH_AXES]);
/* The lowest world rank of those that differ from this one only along `axes`: the same for all of
 * them, and for nobody else. */
int mesh_group(const struct mesh *m, mesh_axes axes);
