#include "parallel/dp/units.h"

#include <stdlib.h>

#include "core/log.h"

/* Tags are not those of dp's buckets, which may be on their way at the same time. */
enum { RING = 2, FIRST_UNIT = 0, FIRST_TAG = 1 << 19 };

/* A working buffer and the unit that is on its way in it; -1: none. */
struct working {
    float *x;
    struct comm_request *request;
    int unit;
};

struct dp_units {
    struct comm *comm;
    const int64_t *bounds; /* [n + 1] */
    int n;
    struct working first, last, ring[RING];
    int64_t *offset; /* [n + 1]: of each unit's slice in the shard */
    float *shard;
};

static int64_t length_of(const struct dp_units *u, int unit)
{
    return u->bounds[unit + 1] - u->bounds[unit];
}

static void slice_of(const struct dp_units *u, int unit, int64_t *first, int64_t *count)
{
    comm_slice(length_of(u, unit), comm_size(u->comm), comm_rank(u->comm), first, count);
}

static struct working *working_of(struct dp_units *u, int unit)
{
    CHECK(unit >= 0 && unit < u->n);
    if (unit == FIRST_UNIT) return &u->first;
    return unit == u->n - 1 ? &u->last : &u->ring[unit % RING];
}

static status_t open_working(struct working *w, struct comm *c, int64_t n,
                             struct arena *arena)
{
    *w = (struct working){.x = arena_floats(arena, n), .unit = -1};
    return comm_request_create(&w->request, c, n, arena);
}

static status_t open_all(struct dp_units *u, struct arena *arena)
{
    int64_t longest = 0;
    for (int i = FIRST_UNIT + 1; i < u->n - 1; i++)
        if (length_of(u, i) > longest) longest = length_of(u, i);
    TRY(open_working(&u->first, u->comm, length_of(u, FIRST_UNIT), arena));
    TRY(open_working(&u->last, u->comm, length_of(u, u->n - 1), arena));
    for (int i = 0; i < RING; i++)
        TRY(open_working(&u->ring[i], u->comm, longest, arena));
    return STATUS_OK;
}

status_t dp_units_create(struct dp_units **u, struct comm *c, const struct dp_buckets *b,
                         struct arena *arena)
{
    CHECK(b->bounds && b->n_buckets >= 2);
    *u = NULL;
    struct dp_units *made = calloc(1, sizeof *made);
    if (made) made->offset = calloc((size_t)b->n_buckets + 1, sizeof *made->offset);
    if (!made || !made->offset) {
        free(made);
        return status_set(STATUS_NOMEM, "no memory for the shards of gradients");
    }
    made->comm = c;
    made->bounds = b->bounds;
    made->n = (int)b->n_buckets;
    for (int i = 0; i < made->n; i++) {
        int64_t first, count;
        slice_of(made, i, &first, &count);
        made->offset[i + 1] = made->offset[i] + count;
    }
    made->shard = arena_floats(arena, made->offset[made->n]);
    const status_t st = open_all(made, arena);
    if (st == STATUS_OK)
        *u = made;
    else
        dp_units_destroy(&made);
    return st;
}

void dp_units_destroy(struct dp_units **u)
{
    if (!*u) return;
    comm_request_destroy(&(*u)->first.request);
    comm_request_destroy(&(*u)->last.request);
    for (int i = 0; i < RING; i++) comm_request_destroy(&(*u)->ring[i].request);
    free((*u)->offset);
    free(*u);
    *u = NULL;
}

size_t dp_units_host_bytes(const struct dp_units *u)
{
    int64_t longest = 0;
    for (int i = FIRST_UNIT + 1; i < u->n - 1; i++)
        if (length_of(u, i) > longest) longest = length_of(u, i);
    return comm_request_host_bytes(u->comm, length_of(u, FIRST_UNIT)) +
           comm_request_host_bytes(u->comm, length_of(u, u->n - 1)) +
           RING * comm_request_host_bytes(u->comm, longest);
}

float *dp_units_buffer(const struct dp_units *u, int unit)
{
    return working_of((struct dp_units *)(uintptr_t)u, unit)->x;
}

float *dp_units_shard(const struct dp_units *u, int64_t x)
{
    int unit = 0;
    int64_t first, count;
    while (x >= u->bounds[unit + 1]) unit++;
    slice_of(u, unit, &first, &count);
    first += u->bounds[unit];
    CHECK(x >= first && x < first + count);
    return u->shard ? u->shard + u->offset[unit] + (x - first) : NULL;
}

/* What is on its way in the buffer is added to the shard. */
static void settle(struct dp_units *u, struct nn *nn, struct working *w)
{
    if (w->unit < 0) return;
    int64_t first, count;
    slice_of(u, w->unit, &first, &count);
    comm_wait(w->request);
    struct tensor sum = tensor_1d(u->shard + u->offset[w->unit], DTYPE_F32, count);
    const struct tensor part = tensor_1d(w->x + first, DTYPE_F32, count);
    if (count > 0) nn_add(nn, &sum, &part);
    w->unit = -1;
}

void dp_units_clear(struct dp_units *u, struct nn *nn)
{
    device_zero(nn_device(nn), u->shard, (size_t)u->offset[u->n] * sizeof *u->shard);
}

void dp_units_begin(struct dp_units *u, struct nn *nn, int unit)
{
    struct working *w = working_of(u, unit);
    settle(u, nn, w);
    device_zero(nn_device(nn), w->x, (size_t)length_of(u, unit) * sizeof *w->x);
}

void dp_units_end(struct dp_units *u, int unit)
{
    struct working *w = working_of(u, unit);
    CHECK(w->unit < 0);
    w->unit = unit;
    comm_start_op(w->request, COMM_REDUCE_SCATTER, w->x, DTYPE_F32, length_of(u, unit),
                  FIRST_TAG + unit);
    /* where only the host moves things, let what was begun before move on */
    if (!comm_needs_host(u->comm)) return;
    comm_test(u->first.request);
    comm_test(u->last.request);
    for (int i = 0; i < RING; i++) comm_test(u->ring[i].request);
}

void dp_units_finish(struct dp_units *u, struct nn *nn)
{
    settle(u, nn, &u->last);
    for (int i = 0; i < RING; i++) settle(u, nn, &u->ring[i]);
    settle(u, nn, &u->first);
}
