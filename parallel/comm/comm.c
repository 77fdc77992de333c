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

const char *comm_transport_name(const struct comm *c)
{
    return c->ops->name;
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

void comm_job_slice(const struct comm_job *job, int size, int rank, int64_t *first,
                    int64_t *count)
{
    if (job->unit == 0) { /* no rows, or rows without columns */
        *first = *count = 0;
        return;
    }
    comm_slice(job->n / job->unit, size, rank, first, count);
    *first *= job->unit;
    *count *= job->unit;
}

void comm_set_wire(struct comm *c, enum dtype wire)
{
    CHECK(wire == DTYPE_F32 || wire == DTYPE_BF16);
    CHECK(wire == DTYPE_F32 || c->ops != &comm_queued_ops);
    c->wire = wire;
}

enum dtype comm_wire(const struct comm *c, const struct comm_job *job)
{
    const bool sums =
        job->kind == COMM_KIND_REDUCE_SCATTER || job->kind == COMM_KIND_ALL_REDUCE;
    return sums && job->t == DTYPE_F32 ? c->wire : job->t;
}

/* The others' slices, own slice to all others who do not have it, or both; what a root sends to
 * all. */
static uint64_t bytes_to_send(const struct comm *c, const struct comm_job *job)
{
    int64_t first, own;
    int index;
    const int n_near = job->window ? comm_near(c, &index) : 1;
    const uint64_t others = (uint64_t)(c->size - n_near);
    comm_job_slice(job, c->size, c->rank, &first, &own);
    uint64_t elements = 0, bytes = 0;
    if (job->kind == COMM_KIND_REDUCE_SCATTER || job->kind == COMM_KIND_ALL_REDUCE)
        elements += (uint64_t)(job->n - own);
    if (job->kind == COMM_KIND_ALL_GATHER || job->kind == COMM_KIND_ALL_REDUCE)
        elements += (uint64_t)own * others;
    if (job->kind == COMM_KIND_BROADCAST && job->root == c->rank)
        elements += (uint64_t)job->n * others;
    for (int i = 0; i < job->n_messages; i++)
        if (job->messages[i].send)
            bytes += (uint64_t)job->messages[i].n * dtype_bytes(job->messages[i].t);
    return bytes + elements * dtype_bytes(comm_wire(c, job));
}

const char *comm_kind_name(enum comm_kind kind)
{
    static const char *const names[] = {[COMM_KIND_REDUCE_SCATTER] = "reduce-scatter",
                                        [COMM_KIND_ALL_GATHER] = "all-gather",
                                        [COMM_KIND_ALL_REDUCE] = "all-reduce",
                                        [COMM_KIND_BROADCAST] = "broadcast",
                                        [COMM_KIND_MESSAGES] = "messages"};
    return names[kind];
}

int64_t comm_job_elements(const struct comm_job *job)
{
    int64_t n = job->n;
    for (int i = 0; i < job->n_messages; i++) n += job->messages[i].n;
    return n;
}

int comm_in_flight(const struct comm *c)
{
    return c->ops->in_flight;
}

bool comm_needs_host(const struct comm *c)
{
    return c->ops->needs_host;
}

size_t comm_request_host_bytes(const struct comm *c, int64_t max_n)
{
    return c->size > 1 && c->ops->host_bytes ? c->ops->host_bytes(c, max_n) : 0;
}

status_t comm_request_create(struct comm_request **r, struct comm *c, int64_t max_n,
                             struct arena *arena)
{
    CHECK(max_n >= 0);
    *r = NULL;
    void *from_arena = NULL;
    if (c->size > 1 && c->ops->arena_bytes)
        from_arena = arena_alloc(arena, c->ops->arena_bytes(c, max_n));
    if (!arena->base) return STATUS_OK;
    struct comm_request *made = malloc(sizeof *made);
    if (!made) return status_set(STATUS_NOMEM, "no memory for a communication request");
    *made = (struct comm_request){.c = c, .max_n = max_n};
    if (c->size > 1) {
        const status_t st = c->ops->request_open(made, from_arena);
        if (st != STATUS_OK) {
            free(made);
            return st;
        }
    }
    made->peer = c->world->peers;
    c->world->peers = made;
    *r = made;
    return STATUS_OK;
}

void comm_request_destroy(struct comm_request **r)
{
    if (!*r) return;
    CHECK(!(*r)->busy);
    struct comm_request **at = &(*r)->c->world->peers;
    while (*at != *r) at = &(*at)->peer;
    *at = (*r)->peer;
    if ((*r)->c->size > 1) (*r)->c->ops->request_close(*r);
    free(*r);
    *r = NULL;
}

static bool has_room(const struct comm_request *r, int64_t bytes)
{
    return bytes >= 0 && bytes <= r->max_n * (int64_t)sizeof(float);
}

static void start(struct comm_request *r, const struct comm_job *job)
{
    CHECK(!r->busy);
    CHECK(job->tag >= 0 && job->tag < COMM_MAX_TAG);
    struct comm *c = r->c;
    if (c->size == 1) return;
    const double begun = clock_seconds();
    r->job = *job;
    r->job.window = comm_window_find(c, job->x, (size_t)job->n * dtype_bytes(job->t),
                                     &r->job.window_offset);
    CHECK(!r->job.window || job->kind == COMM_KIND_ALL_GATHER);
    r->busy = true;
    r->begun = begun;
    c->stats.bytes_sent += bytes_to_send(c, &r->job);
    c->ops->begin(r);
    c->stats.seconds += clock_seconds() - begun;
}

void comm_start_rows(struct comm_request *r, enum comm_op op, void *x, enum dtype t,
                     int64_t rows, int64_t cols, int tag)
{
    const int64_t n = rows * cols;
    CHECK(rows >= 0 && cols >= 0 && has_room(r, n * (int64_t)dtype_bytes(t)));
    CHECK(t <= DTYPE_F16 || op == COMM_ALL_GATHER);
    start(r, &(struct comm_job){.kind = (enum comm_kind)op,
                                .x = x,
                                .t = t,
                                .n = n,
                                .unit = cols,
                                .tag = tag});
}

void comm_start_op(struct comm_request *r, enum comm_op op, void *x, enum dtype t,
                   int64_t n, int tag)
{
    comm_start_rows(r, op, x, t, n, 1, tag);
}

void comm_start_broadcast(struct comm_request *r, void *x, enum dtype t, int64_t n,
                          int root, int tag)
{
    CHECK(n >= 0 && has_room(r, n * (int64_t)dtype_bytes(t)));
    CHECK(root >= 0 && root < r->c->size);
    start(r, &(struct comm_job){.kind = COMM_KIND_BROADCAST,
                                .x = x,
                                .t = t,
                                .n = n,
                                .unit = 1,
                                .root = root,
                                .tag = tag});
}

void comm_start_messages(struct comm_request *r, const struct comm_message *messages,
                         int n_messages, int tag)
{
    CHECK(n_messages >= 0 && n_messages <= COMM_MAX_MESSAGES);
    struct comm_job job = {.kind = COMM_KIND_MESSAGES,
                           .t = DTYPE_F32,
                           .unit = 1,
                           .n_messages = n_messages,
                           .tag = tag};
    int64_t bytes = 0;
    for (int i = 0; i < n_messages; i++) {
        const struct comm_message *m = &messages[i];
        CHECK(m->peer >= 0 && m->peer < r->c->size && m->peer != r->c->rank);
        CHECK(m->n >= 0);
        bytes += m->n * (int64_t)dtype_bytes(m->t);
        job.messages[i] = *m;
    }
    CHECK(has_room(r, bytes));
    start(r, &job);
}

static bool advance(struct comm_request *r, bool wait)
{
    if (!r->busy) return true;
    r->inside = true;
    if (r->c->ops->advance(r, wait)) r->busy = false;
    r->inside = false;
    if (!r->busy) r->c->stats.busy_seconds += clock_seconds() - r->begun;
    return !r->busy;
}

static bool advance_for_caller(struct comm_request *r, bool wait)
{
    const double before = clock_seconds();
    const bool done = advance(r, wait);
    r->c->stats.seconds += clock_seconds() - before;
    return done;
}

/* Its time is the waiting caller's, and counted there. */
void comm_progress(struct comm *world)
{
    for (struct comm_request *r = world->peers; r; r = r->peer)
        if (r->busy && !r->inside && r->c->ops->needs_host) advance(r, false);
}

bool comm_test(struct comm_request *r)
{
    return advance_for_caller(r, false);
}

void comm_wait(struct comm_request *r)
{
    advance_for_caller(r, true);
}
