#include "parallel/comm/comm.h"

#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "parallel/comm/comm_impl.h"

int comm_rank(const struct comm *c)
{
    return c->rank;
}

int comm_size(const struct comm *c)
{
    return c->size;
}

struct comm_stats comm_stats(const struct comm *c)
{
    return c->stats;
}

/* ---- small: gathered by every rank and folded in rank order, so that all ranks get the same
 * bits whatever algorithm the library would have chosen ------------------------------------- */

typedef void fold_fn(void *into, const void *from, int n);

static void sum_f64(void *into, const void *from, int n)
{
    double *a = into;
    const double *b = from;
    for (int i = 0; i < n; i++) a[i] += b[i];
}

static void max_f64(void *into, const void *from, int n)
{
    double *a = into;
    const double *b = from;
    /* a NaN wins, so that no rank can hide one from the others */
    for (int i = 0; i < n; i++)
        if (b[i] > a[i] || b[i] != b[i]) a[i] = b[i];
}

static void sum_i64(void *into, const void *from, int n)
{
    int64_t *a = into;
    const int64_t *b = from;
    for (int i = 0; i < n; i++) a[i] += b[i];
}

static void max_i64(void *into, const void *from, int n)
{
    int64_t *a = into;
    const int64_t *b = from;
    for (int i = 0; i < n; i++)
        if (b[i] > a[i]) a[i] = b[i];
}

static void reduce_small(struct comm *c, void *x, int n, fold_fn *fold)
{
    enum { ELEMENT_BYTES = 8 };
    CHECK(n >= 0);
    if (c->size == 1) return;
    const double start = clock_seconds();
    char *p = x;
    for (int left = n; left > 0; left -= COMM_SMALL_MAX) {
        const int now = left < COMM_SMALL_MAX ? left : COMM_SMALL_MAX;
        const size_t bytes = (size_t)now * ELEMENT_BYTES;
        comm_mpi_gather_all(c, p, bytes, c->small);
        memcpy(p, c->small, bytes);
        for (int rank = 1; rank < c->size; rank++)
            fold(p, c->small + (size_t)rank * bytes, now);
        p += bytes;
    }
    c->stats.seconds += clock_seconds() - start;
}

void comm_sum_f64(struct comm *c, double *x, int n)
{
    reduce_small(c, x, n, sum_f64);
}

void comm_sum_i64(struct comm *c, int64_t *x, int n)
{
    reduce_small(c, x, n, sum_i64);
}

void comm_max_i64(struct comm *c, int64_t *x, int n)
{
    reduce_small(c, x, n, max_i64);
}

void comm_max_f64(struct comm *c, double *x, int n)
{
    reduce_small(c, x, n, max_f64);
}

status_t comm_agree(struct comm *c, status_t local)
{
    if (c->size == 1) return local;
    /* the largest is the lowest failing rank's; zero if there is none */
    int64_t worst = local == STATUS_OK ? 0 : c->size - c->rank;
    comm_max_i64(c, &worst, 1);
    if (worst == 0) return STATUS_OK;

    struct {
        status_t status;
        char sentence[2048];
    } verdict = {.status = local};
    const int who = c->size - (int)worst;
    strncpy(verdict.sentence, status_message(), sizeof verdict.sentence - 1);
    comm_broadcast(c, &verdict, sizeof verdict, who);
    return status_set(verdict.status, "rank %d of %d: %s", who, c->size,
                      verdict.sentence);
}

void comm_broadcast(struct comm *c, void *data, size_t bytes, int root)
{
    CHECK(root >= 0 && root < c->size);
    if (c->size == 1) return;
    const double start = clock_seconds();
    comm_mpi_broadcast(c, data, bytes, root);
    c->stats.seconds += clock_seconds() - start;
}

void comm_gather_all(struct comm *c, const void *mine, size_t bytes, void *all)
{
    const double start = clock_seconds();
    comm_mpi_gather_all(c, mine, bytes, all);
    c->stats.seconds += clock_seconds() - start;
}

void comm_gather_bytes(struct comm *c, const void *mine, size_t bytes, int root,
                       char **all, size_t *sizes)
{
    CHECK(root >= 0 && root < c->size);
    const double start = clock_seconds();
    comm_mpi_gather_bytes(c, mine, bytes, root, all, sizes);
    c->stats.seconds += clock_seconds() - start;
}

void comm_barrier(struct comm *c)
{
    const double start = clock_seconds();
    comm_mpi_barrier(c);
    c->stats.seconds += clock_seconds() - start;
}

/* ---- large ------------------------------------------------------------------------------- */

void comm_slice(int64_t n, int size, int rank, int64_t *first, int64_t *count)
{
    CHECK(n >= 0 && size > 0 && rank >= 0 && rank < size);
    const int64_t whole = n / size, rest = n % size;
    *first = whole * rank + (rank < rest ? rank : rest);
    *count = whole + (rank < rest ? 1 : 0);
}

status_t comm_request_create(struct comm_request **r, struct comm *c, int64_t max_n,
                             struct arena *arena)
{
    CHECK(max_n >= 0);
    *r = NULL;
    void *state = c->size > 1 ? c->ops->state(c, max_n, arena) : NULL;
    if (!arena->base) return STATUS_OK;
    *r = malloc(sizeof **r);
    if (!*r) return status_set(STATUS_NOMEM, "no memory for a communication request");
    **r = (struct comm_request){.c = c, .max_n = max_n, .state = state};
    return STATUS_OK;
}

void comm_request_destroy(struct comm_request **r)
{
    if (!*r) return;
    CHECK(!(*r)->busy);
    free(*r);
    *r = NULL;
}

void comm_start_op(struct comm_request *r, enum comm_op op, float *x, int64_t n, int tag)
{
    CHECK(!r->busy);
    CHECK(n >= 0 && n <= r->max_n);
    CHECK(tag >= 0 && tag < COMM_MAX_TAG);
    struct comm *c = r->c;
    if (c->size == 1) return;
    const double start = clock_seconds();
    r->op = op;
    r->x = x;
    r->n = n;
    r->tag = tag;
    r->busy = true;
    int64_t first, own;
    comm_slice(n, c->size, c->rank, &first, &own);
    uint64_t elements =
        0; /* sent: the others' slices, own slice to all others, or both */
    if (op != COMM_ALL_GATHER) elements += (uint64_t)(n - own);
    if (op != COMM_REDUCE_SCATTER) elements += (uint64_t)own * (uint64_t)(c->size - 1);
    c->stats.bytes_sent += elements * sizeof(float);
    c->ops->begin(r);
    c->stats.seconds += clock_seconds() - start;
}

static bool advance(struct comm_request *r, bool wait)
{
    if (!r->busy) return true;
    const double start = clock_seconds();
    if (r->c->ops->advance(r, wait)) r->busy = false;
    r->c->stats.seconds += clock_seconds() - start;
    return !r->busy;
}

bool comm_test(struct comm_request *r)
{
    return advance(r, false);
}

void comm_wait(struct comm_request *r)
{
    advance(r, true);
}
