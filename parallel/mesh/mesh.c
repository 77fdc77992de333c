#include "parallel/mesh/mesh.h"

#include <stdint.h>

#include "core/log.h"

static const char *const names[MESH_AXES] = {
    [MESH_TP] = "tp", [MESH_CP] = "cp", [MESH_DP] = "dp", [MESH_PP] = "pp"};

const char *mesh_axis_name(enum mesh_axis axis)
{
    CHECK((int)axis >= 0 && axis < MESH_AXES);
    return names[axis];
}

status_t mesh_init(struct mesh *m, int world_rank, int world_size,
                   const int sizes[MESH_AXES])
{
    CHECK(world_size > 0 && world_rank >= 0 && world_rank < world_size);
    int64_t product = 1;
    for (int axis = 0; axis < MESH_AXES; axis++) {
        if (sizes[axis] < 1)
            return status_set(STATUS_CONFIG, "parallel.%s is %d; valid is 1 or more",
                              names[axis], sizes[axis]);
        product *= sizes[axis];
        if (product > world_size) break; /* enough to know, and it cannot overflow */
    }
    if (product != world_size)
        return status_set(STATUS_CONFIG,
                          "tp %d x cp %d x dp %d x pp %d does not make the %d ranks that "
                          "were started",
                          sizes[MESH_TP], sizes[MESH_CP], sizes[MESH_DP], sizes[MESH_PP],
                          world_size);
    *m = (struct mesh){.world_rank = world_rank, .world_size = world_size};
    for (int axis = 0; axis < MESH_AXES; axis++) m->size[axis] = sizes[axis];
    mesh_coord_of(m, world_rank, m->coord);
    return STATUS_OK;
}

void mesh_coord_of(const struct mesh *m, int rank, int coord[MESH_AXES])
{
    CHECK(rank >= 0 && rank < m->world_size);
    for (int axis = 0; axis < MESH_AXES; axis++) {
        coord[axis] = rank % m->size[axis];
        rank /= m->size[axis];
    }
}

int mesh_group(const struct mesh *m, mesh_axes axes)
{
    int coord[MESH_AXES];
    for (int axis = 0; axis < MESH_AXES; axis++)
        coord[axis] = axes & MESH_BIT(axis) ? 0 : m->coord[axis];
    return mesh_rank_at(m, coord);
}

int mesh_rank_at(const struct mesh *m, const int coord[MESH_AXES])
{
    int rank = 0;
    for (int axis = MESH_AXES - 1; axis >= 0; axis--) {
        CHECK(coord[axis] >= 0 && coord[axis] < m->size[axis]);
        rank = rank * m->size[axis] + coord[axis];
    }
    return rank;
}
