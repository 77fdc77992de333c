/* Large vectors of ranks of one host, in each other's memory.
 *
 * Nobody sends: a rank that has begun an operation says on its board where its vector lies
 * (comm_host.h), and as soon as all have, every rank does its part of the work on all vectors.
 * Reduce-scatter: it adds the parts of its slice in rank order.  All-reduce: the same, and it
 * writes the sums to everybody's vector while they are in its cache.  All-gather: it copies each
 * slice from its owner, unless they have the vector together (comm_window.c).  Broadcast: it copies
 * the root's vector.  Nobody needs what another is still to make, so a rank's part is one piece of
 * work, and a rank that computes instead keeps nobody from doing his.  An operation is done when all
 * have said that they are.
 *
 * Measured on 2 ranks of one host (16 MiB, GB/s of vector): sums 17 with these, 6 when the parts
 * are copied to a buffer between the ranks, 8 with process_vm_readv.
 *
 * Operations are told apart by their number on the comm, which is the same on all ranks as all
 * begin the same in the same order.  Vectors outside of shared memory, on any rank, and messages,
 * travel over MPI (comm_exchange.c). */
#include <omp.h>
#include <stdlib.h>

#include "core/log.h"
#include "parallel/comm/comm_host.h"

enum {
    PIECE_BYTES = 1 << 16,   /* that a thread sums at a time */
    THREADED_BYTES = 1 << 18 /* from this length on the rank's threads share the work */
};

enum stage { STAGE_QUEUED, STAGE_BEGUN, STAGE_EXCHANGE, STAGE_LEFT };

struct shared {
    struct comm_exchange *exchange;
    enum stage stage;
    uint64_t number; /* of the operation, from 0 */
    int n_seen;      /* ranks in front of this one have begun, or left */
    void **vectors;  /* [size] where they lie here */
};

static struct comm_notice *notice_of(const struct comm *c, int rank, uint64_t number)
{
    return &c->host->boards[rank]->notices[number % COMM_NOTICES];
}

static bool has_begun(const struct comm_notice *n, uint64_t number)
{
    return atomic_load_explicit(&n->begun, memory_order_acquire) > number;
}

static bool has_left(const struct comm_notice *n, uint64_t number)
{
    return atomic_load_explicit(&n->left, memory_order_acquire) > number;
}

/* ---- begin ----------------------------------------------------------------------------------- */

/* Tell the others; false while the notice that would be used tells of an operation under way. */
static bool announce(struct comm_request *r)
{
    struct shared *s = r->state;
    struct comm *c = r->c;
    const struct comm_job *job = &r->job;
    struct comm_notice *n = notice_of(c, c->rank, s->number);
    bool *busy = &c->host->busy[s->number % COMM_NOTICES];
    if (*busy) return false;
    *busy = true;
    n->n = job->n;
    n->unit = job->unit;
    n->kind = (int32_t)job->kind;
    n->type = (int32_t)job->t;
    n->root = job->root;
    n->tag = job->tag;
    size_t offset = job->window_offset;
    n->window = job->window;
    n->in_place = n->window || device_find_shared(c->world->shares, job->x,
                                                  (size_t)job->n * dtype_bytes(job->t),
                                                  &n->block, &offset);
    n->offset = offset;
    atomic_store_explicit(&n->begun, s->number + 1, memory_order_release);
    s->n_seen = 0;
    s->stage = STAGE_BEGUN;
    return true;
}

static void begin(struct comm_request *r)
{
    struct shared *s = r->state;
    if (r->job.kind == COMM_KIND_MESSAGES) {
        comm_exchange_begin(s->exchange, &r->job);
        s->stage = STAGE_EXCHANGE;
        return;
    }
    s->number = r->c->host->n_begun++;
    s->stage = STAGE_QUEUED;
    announce(r);
}

/* Do all ranks say so?  Those that have said it are not asked again. */
static bool all(struct comm_request *r,
                bool (*says)(const struct comm_notice *n, uint64_t number))
{
    struct shared *s = r->state;
    while (s->n_seen < r->c->size &&
           says(notice_of(r->c, s->n_seen, s->number), s->number))
        s->n_seen++;
    return s->n_seen == r->c->size;
}

/* Have all begun the same? */
static void compare(const struct comm_request *r)
{
    const struct shared *s = r->state;
    const struct comm *c = r->c;
    const struct comm_notice *mine = notice_of(c, c->rank, s->number);
    for (int rank = 0; rank < c->size; rank++) {
        const struct comm_notice *n = notice_of(c, rank, s->number);
        if (n->kind != mine->kind || n->n != mine->n || n->unit != mine->unit ||
            n->type != mine->type || n->root != mine->root || n->tag != mine->tag)
            die_with(STATUS_COMM,
                     "rank %d of %d began %s of %lld (tag %d) where rank %d began %s of "
                     "%lld (tag %d)",
                     c->rank, c->size, comm_kind_name(r->job.kind), (long long)mine->n,
                     mine->tag, rank, comm_kind_name((enum comm_kind)n->kind),
                     (long long)n->n, n->tag);
        if (n->window != mine->window || (n->window && n->offset != mine->offset))
            die_with(
                STATUS_COMM,
                "ranks %d and %d of %d began %s (tag %d) in different parts of a window",
                c->rank, rank, c->size, comm_kind_name(r->job.kind), mine->tag);
    }
}

static bool all_in_place(const struct comm_request *r)
{
    const struct shared *s = r->state;
    for (int rank = 0; rank < r->c->size; rank++)
        if (!notice_of(r->c, rank, s->number)->in_place) return false;
    return true;
}

/* ---- work ------------------------------------------------------------------------------------ */

static bool shares_threads(size_t bytes)
{
    return bytes >= THREADED_BYTES && omp_get_max_threads() > 1;
}

/* The own slice of every rank's vector (everywhere), or of this rank's, becomes the sum. */
static void sum(const struct comm_request *r, bool everywhere)
{
    const struct shared *s = r->state;
    const struct comm *c = r->c;
    const struct comm_sum job = {.parts = (const void *const *)s->vectors,
                                 .n_parts = c->size,
                                 .into = everywhere ? s->vectors : &s->vectors[c->rank],
                                 .n_into = everywhere ? c->size : 1,
                                 .own = c->rank,
                                 .t = r->job.t,
                                 .wire = comm_wire(c, &r->job),
                                 .rounds = everywhere};
    int64_t first, count;
    comm_job_slice(&r->job, c->size, c->rank, &first, &count);
    const int64_t end = first + count, piece = PIECE_BYTES / (int64_t)dtype_bytes(job.t);
#pragma omp parallel for if (shares_threads((size_t)count * dtype_bytes(job.t)))
    for (int64_t at = first; at < end; at += piece)
        comm_sum_range(&job, at, end - at < piece ? end : at + piece);
}

/* Elements [first, first + count) of the vector from that of another rank. */
static void fetch(const struct comm_request *r, int rank, int64_t first, int64_t count)
{
    const struct shared *s = r->state;
    const size_t element = dtype_bytes(r->job.t), bytes = (size_t)count * element;
    char *into = (char *)r->job.x + (size_t)first * element;
    const char *from = (const char *)s->vectors[rank] + (size_t)first * element;
    const int n = shares_threads(bytes) ? omp_get_max_threads() : 1;
    const size_t share = arena_align((bytes + (size_t)n - 1) / (size_t)n);
#pragma omp parallel for if (n > 1)
    for (int i = 0; i < n; i++) {
        const size_t start = (size_t)i * share;
        if (start < bytes)
            comm_copy(into + start, from + start,
                      bytes - start < share ? bytes - start : share);
    }
}

/* Beginning with the rank behind us, so that no rank is everybody's first. */
static void fetch_slices(const struct comm_request *r)
{
    const struct shared *s = r->state;
    const struct comm *c = r->c;
    for (int distance = 1; distance < c->size; distance++) {
        const int rank = (c->rank + distance) % c->size;
        int64_t first, count;
        if (s->vectors[rank] == r->job.x) continue; /* in a window */
        comm_job_slice(&r->job, c->size, rank, &first, &count);
        fetch(r, rank, first, count);
    }
}

static void work(const struct comm_request *r)
{
    const struct comm_job *job = &r->job;
    if (job->kind == COMM_KIND_REDUCE_SCATTER || job->kind == COMM_KIND_ALL_REDUCE)
        sum(r, job->kind == COMM_KIND_ALL_REDUCE);
    else if (job->kind == COMM_KIND_ALL_GATHER)
        fetch_slices(r);
    else if (job->root != r->c->rank)
        fetch(r, job->root, 0, job->n);
}

/* ---- the operation --------------------------------------------------------------------------- */

/* This rank looks at nobody's vector any more. */
static void leave(struct comm_request *r)
{
    struct shared *s = r->state;
    atomic_store_explicit(&notice_of(r->c, r->c->rank, s->number)->left, s->number + 1,
                          memory_order_release);
    s->n_seen = 0;
    s->stage = STAGE_LEFT;
}

/* All have begun. */
static void work_together(struct comm_request *r)
{
    struct shared *s = r->state;
    struct comm *c = r->c;
    compare(r);
    if (!all_in_place(r)) {
        comm_exchange_begin(s->exchange, &r->job);
        s->stage = STAGE_EXCHANGE;
        return;
    }
    for (int rank = 0; rank < c->size; rank++) {
        const struct comm_notice *n = notice_of(c, rank, s->number);
        const bool mine = rank == c->rank || n->window;
        s->vectors[rank] = mine ? r->job.x : comm_map(c, rank, &n->block) + n->offset;
    }
    work(r);
    leave(r);
}

/* One step, if it can be made: *moved.  True: the operation is done. */
static bool step(struct comm_request *r, bool wait, bool *moved)
{
    struct shared *s = r->state;
    switch (s->stage) {
    case STAGE_QUEUED:
        *moved = announce(r);
        return false;
    case STAGE_BEGUN:
        *moved = all(r, has_begun);
        if (*moved) work_together(r);
        return false;
    case STAGE_EXCHANGE:
        *moved = comm_exchange_advance(s->exchange, wait);
        if (*moved && r->job.kind == COMM_KIND_MESSAGES) return true;
        if (*moved) leave(r);
        return false;
    default: /* STAGE_LEFT */
        *moved = all(r, has_left);
        if (*moved) r->c->host->busy[s->number % COMM_NOTICES] = false;
        return *moved;
    }
}

static bool advance(struct comm_request *r, bool wait)
{
    struct comm_wait w = {0};
    for (bool moved; !step(r, wait, &moved);) {
        if (moved) continue;
        if (!wait) return false;
        if (!w.c)
            w = comm_wait_begin(r->c, comm_kind_name(r->job.kind),
                                comm_job_elements(&r->job));
        comm_wait_more(&w);
        comm_wait_pause(&w);
    }
    return true;
}

/* ---- requests -------------------------------------------------------------------------------- */

static void request_close(struct comm_request *r)
{
    struct shared *s = r->state;
    comm_exchange_destroy(&s->exchange);
    free(s->vectors);
    free(s);
    r->state = NULL;
}

static status_t request_open(struct comm_request *r, void *from_arena)
{
    const size_t size = (size_t)r->c->size;
    struct shared *s = calloc(1, sizeof *s);
    if (!s) return status_set(STATUS_NOMEM, "no memory for a communication request");
    r->state = s;
    s->vectors = calloc(size, sizeof *s->vectors);
    status_t st = comm_exchange_create(&s->exchange, r->c, r->max_n, from_arena);
    if (st == STATUS_OK && !s->vectors)
        st = status_set(STATUS_NOMEM, "no memory for a communication request");
    if (st != STATUS_OK) request_close(r);
    return st;
}

const struct comm_ops comm_shared_ops = {
    .name = "shared memory",
    .in_flight = 4, /* as over MPI: a plan does not know which it will be */
    .needs_host = true,
    .arena_bytes = comm_exchange_staging_bytes,
    .request_open = request_open,
    .request_close = request_close,
    .begin = begin,
    .advance = advance,
};
