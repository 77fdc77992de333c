/* Who is where, in words. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "parallel/mesh/mesh.h"

enum { LINE_BYTES = 160 };

/* Ranks first .. last of one host, with the coordinates of both ends. */
static int line(char *text, const struct mesh *m, const char *host, int first, int last)
{
    int a[MESH_AXES], b[MESH_AXES];
    mesh_coord_of(m, first, a);
    mesh_coord_of(m, last, b);
    int n = first == last ? snprintf(text, LINE_BYTES, "rank %d: host %.63s", first, host)
                          : snprintf(text, LINE_BYTES, "ranks %d to %d: host %.63s",
                                     first, last, host);
    static const enum mesh_axis order[] = {MESH_DP, MESH_CP, MESH_TP, MESH_PP};
    for (int i = 0; i < MESH_AXES; i++) {
        const enum mesh_axis axis = order[i];
        n += a[axis] == b[axis]
                 ? snprintf(text + n, (size_t)(LINE_BYTES - n), "%s %s %d", i ? "" : ",",
                            mesh_axis_name(axis), a[axis])
                 : snprintf(text + n, (size_t)(LINE_BYTES - n), "%s %s %d-%d",
                            i ? "" : ",", mesh_axis_name(axis), a[axis], b[axis]);
    }
    return n + snprintf(text + n, (size_t)(LINE_BYTES - n), "\n");
}

/* The one axis along which the two ranks differ; -1: there are several. */
static int axis_between(const struct mesh *m, int one, int other)
{
    int a[MESH_AXES], b[MESH_AXES], found = -1;
    mesh_coord_of(m, one, a);
    mesh_coord_of(m, other, b);
    for (int axis = 0; axis < MESH_AXES; axis++) {
        if (a[axis] == b[axis]) continue;
        if (found >= 0) return -1;
        found = axis;
    }
    return found;
}

/* The last rank of those from `first` on, on its host, that lie along one axis. */
static int last_of_run(const struct mesh *m, const char *hosts, size_t stride, int first)
{
    int last = first;
    for (int r = first + 1, along = -1; r < m->world_size; r++) {
        const int axis = axis_between(m, first, r);
        if (axis < 0 || (along >= 0 && axis != along) ||
            strncmp(hosts + (size_t)first * stride, hosts + (size_t)r * stride, stride) !=
                0)
            break;
        along = axis;
        last = r;
    }
    return last;
}

char *mesh_describe(const struct mesh *m, const char *hosts, size_t stride)
{
    enum { EACH = 16 }; /* so many ranks have a line each */
    char *text = malloc((size_t)m->world_size * LINE_BYTES + 1);
    if (!text) die("no memory to describe %d ranks", m->world_size);
    int n = 0;
    text[0] = '\0';
    for (int first = 0; first < m->world_size;) {
        const int last =
            m->world_size <= EACH ? first : last_of_run(m, hosts, stride, first);
        n += line(text + n, m, hosts + (size_t)first * stride, first, last);
        first = last + 1;
    }
    return text;
}
