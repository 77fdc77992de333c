/* Sizes of the axes from what was asked for. */
#include <stdint.h>
#include <stdio.h>

#include "core/log.h"
#include "parallel/mesh/mesh.h"

enum { TOO_MANY = 1 << 30 };

/* Product of the sizes given, without `but`; auto counts as 1; TOO_MANY or less. */
static int64_t product_but(const int wanted[MESH_AXES], int but)
{
    int64_t product = 1;
    for (int axis = 0; axis < MESH_AXES; axis++)
        if (axis != but && wanted[axis] > 1 && product < TOO_MANY)
            product *= wanted[axis];
    return product < TOO_MANY ? product : TOO_MANY;
}

/* "1, 2, 4": sizes of `axis` that go with the others, dp being free or as given. */
static void list_valid(char *text, size_t bytes, int world_size,
                       const int wanted[MESH_AXES], int axis)
{
    const int64_t others = product_but(wanted, axis);
    size_t n = 0;
    text[0] = '\0';
    for (int size = 1; size <= world_size && n + 16 < bytes; size++) {
        const int64_t product = others * size;
        const bool fits = wanted[MESH_DP] == 0 && axis != MESH_DP
                              ? world_size % product == 0
                              : product == world_size;
        if (fits) n += (size_t)snprintf(text + n, bytes - n, "%s%d", n ? ", " : "", size);
    }
    if (n == 0) snprintf(text, bytes, "none with the other axes as they are");
}

/* The axis that takes what the others leave; -1: none. */
static int free_axis(const int wanted[MESH_AXES])
{
    int found = -1;
    if (wanted[MESH_DP] == 0) return MESH_DP;
    for (int axis = 0; axis < MESH_AXES; axis++) {
        if (wanted[axis] != 0) continue;
        if (found >= 0) return -1;
        found = axis;
    }
    return found;
}

struct size_text {
    char text[12];
};

static struct size_text size_text(int size)
{
    struct size_text t = {"auto"};
    if (size > 0) snprintf(t.text, sizeof t.text, "%d", size);
    return t;
}

/* The largest axis given is the one to name. */
static status_t refuse(int world_size, const int wanted[MESH_AXES])
{
    int axis = MESH_DP;
    for (int i = 0; i < MESH_AXES; i++)
        if (wanted[i] > 1 && (wanted[axis] <= 1 || wanted[i] > wanted[axis])) axis = i;
    char valid[256];
    list_valid(valid, sizeof valid, world_size, wanted, axis);
    return status_set(
        STATUS_CONFIG,
        "parallel.%s: %s: dp %s x cp %s x tp %s x pp %s does not make the %d "
        "rank%s that were started; valid for %s: %s",
        mesh_axis_name((enum mesh_axis)axis), size_text(wanted[axis]).text,
        size_text(wanted[MESH_DP]).text, size_text(wanted[MESH_CP]).text,
        size_text(wanted[MESH_TP]).text, size_text(wanted[MESH_PP]).text, world_size,
        world_size == 1 ? "" : "s", mesh_axis_name((enum mesh_axis)axis), valid);
}

status_t mesh_sizes(int world_size, const int wanted[MESH_AXES], int sizes[MESH_AXES])
{
    const int64_t given = product_but(wanted, -1);
    const int rest = free_axis(wanted);
    CHECK(world_size > 0);
    for (int axis = 0; axis < MESH_AXES; axis++) {
        CHECK(wanted[axis] >= 0);
        sizes[axis] = wanted[axis] > 0 ? wanted[axis] : 1;
    }
    if (world_size % given != 0 || (rest < 0 && given != world_size))
        return refuse(world_size, wanted);
    if (rest >= 0) sizes[rest] = (int)(world_size / given);
    return STATUS_OK;
}
