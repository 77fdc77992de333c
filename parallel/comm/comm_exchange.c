/* Large vectors in host memory by direct exchange over MPI.
 *
 * Reduce-scatter: every rank sends slice j to rank j and adds the contributions to its own
 * slice in rank order.  All-gather: every rank sends its own slice to all others that do not have it
 * (comm_window.c): those get an empty message, which says that it is there.  Both move
 * each element once per receiver, as few as can be; inside one node that beats the library's
 * ring, which also adds in an order of its own.  Broadcast: the root sends slice j to rank j, and
 * an all-gather follows, so that the root's link carries the vector about twice, whatever the
 * number of ranks.
 *
 * Slices travel in pieces, a round of pieces at a time: round k of a phase is piece k of every
 * slice (of every message), to and from all other ranks.  At most `window` rounds are under way,
 * so staging is small, stays in cache until it is added, and is independent of the length of the
 * vector.  Messages between two ranks under one tag do not overtake, and rounds are begun in order
 * (all of a phase before the next phase), so no message needs to say which round it is of.
 *
 * Pieces to be added are of 1 MiB: measured on 2 ranks of one host (16 and 256 MiB, pieces of
 * 32 KiB to 16 MiB), smaller ones pay per message, those of 16 MiB leave the cache before they
 * are added and run at a third of the speed.  Pieces that are only copied are as long as a
 * message may be: each round makes ranks wait for each other, and a long one lets more arrive
 * between two calls of comm_test. */
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "parallel/comm/comm_mpi_impl.h"

enum { PIECE_ELEMENTS = 1 << 18, WINDOW_MAX = 4 };

enum phase { PHASE_REDUCE, PHASE_SCATTER, PHASE_GATHER, PHASE_MESSAGES };

struct comm_exchange {
    struct comm *c;
    int64_t staged_piece; /* elements of a piece that is to be added */
    int window;           /* rounds under way at most */
    int legs;             /* messages of a round at most */
    float *staging;       /* [window][size - 1][staged_piece] */
    MPI_Request *pending; /* [window][legs] */
    MPI_Status *statuses; /* [legs] of the oldest round */
    const void **parts;   /* [size] of the sum */
    struct comm_job job;
    enum phase phase;
    int64_t piece;                      /* elements, in this phase; bytes of messages */
    int64_t n_rounds, n_posted, n_done; /* of this phase */
};

static int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t rounds_of(int64_t n, int64_t piece)
{
    return (n + piece - 1) / piece;
}

static int64_t longest_slice(const struct comm *c, int64_t n)
{
    return (n + c->size - 1) / c->size;
}

static int64_t staged_piece(const struct comm *c, int64_t max_n)
{
    const int64_t piece = min_i64(PIECE_ELEMENTS, longest_slice(c, max_n));
    return piece < 1 ? 1 : piece;
}

/* Also of phases without staging. */
static int64_t window_of(const struct comm *c, int64_t max_n)
{
    const int64_t rounds = rounds_of(longest_slice(c, max_n), staged_piece(c, max_n));
    return rounds < 1 ? 1 : min_i64(WINDOW_MAX, rounds);
}

size_t comm_exchange_staging_bytes(const struct comm *c, int64_t max_n)
{
    const int64_t n = window_of(c, max_n) * (c->size - 1) * staged_piece(c, max_n);
    return (size_t)n * sizeof(float);
}

status_t comm_exchange_create(struct comm_exchange **e, struct comm *c, int64_t max_n,
                              void *staging)
{
    *e = NULL;
    struct comm_exchange *made = calloc(1, sizeof *made);
    if (!made) goto no_memory;
    made->c = c;
    made->staged_piece = staged_piece(c, max_n);
    made->window = (int)window_of(c, max_n);
    made->legs = 2 * (c->size - 1);
    if (made->legs < COMM_MAX_MESSAGES) made->legs = COMM_MAX_MESSAGES;
    made->staging = staging;
    const size_t legs = (size_t)made->legs;
    made->pending = calloc((size_t)made->window * legs, sizeof *made->pending);
    made->statuses = calloc(legs, sizeof *made->statuses);
    made->parts = calloc((size_t)c->size, sizeof *made->parts);
    if (!made->pending || !made->statuses || !made->parts) goto no_memory;
    *e = made;
    return STATUS_OK;
no_memory:
    comm_exchange_destroy(&made);
    return status_set(STATUS_NOMEM, "no memory for an exchange between %d ranks",
                      c->size);
}

void comm_exchange_destroy(struct comm_exchange **e)
{
    if (!*e) return;
    free((*e)->pending);
    free((*e)->statuses);
    free((*e)->parts);
    free(*e);
    *e = NULL;
}

/* ---- who sends what in a round -------------------------------------------------------------- */

struct leg {
    int peer;
    bool send;
    char *p;
    int bytes;  /* 0 and no token: nothing to do */
    bool token; /* also an empty message is one */
};

/* Piece `round` of rank's slice; *count is 0 behind its end. */
static char *piece_of(const struct comm_exchange *e, int rank, int64_t round, int *count)
{
    int64_t first, length;
    comm_job_slice(&e->job, e->c->size, rank, &first, &length);
    const int64_t start = round * e->piece;
    const int64_t left = start < length ? length - start : 0;
    *count = (int)min_i64(left, e->piece);
    char *x = e->job.x;
    return x + (size_t)(first + (*count ? start : 0)) * dtype_bytes(e->job.t);
}

/* Where the piece of the rank `distance` before us lies in staging, whatever its type. */
static char *staged(const struct comm_exchange *e, int64_t round, int distance)
{
    const int64_t slot = round % e->window;
    return (char *)(e->staging +
                    (slot * (e->c->size - 1) + distance - 1) * e->staged_piece);
}

/* Do the numbers of this phase travel in another type than the vector's?  Then pieces of all phases
 * are staged, those that go out behind those that come in. */
static bool packs(const struct comm_exchange *e)
{
    return e->phase != PHASE_MESSAGES && comm_wire(e->c, &e->job) != e->job.t;
}

static char *staged_out(const struct comm_exchange *e, int64_t round, int distance)
{
    return staged(e, round, distance) +
           (size_t)e->staged_piece * dtype_bytes(comm_wire(e->c, &e->job));
}

static struct leg message_leg(const struct comm_exchange *e, int64_t round, int k)
{
    if (k >= e->job.n_messages) return (struct leg){.peer = -1};
    const struct comm_message *m = &e->job.messages[k];
    const int64_t bytes = m->n * (int64_t)dtype_bytes(m->t);
    const int64_t start = round * e->piece;
    const int64_t left = start < bytes ? bytes - start : 0;
    return (struct leg){.peer = m->peer,
                        .send = m->send,
                        .p = (char *)m->x + (left ? start : 0),
                        .bytes = (int)min_i64(left, e->piece)};
}

/* Leg k of a round: even ones receive from the rank k / 2 + 1 before us, odd ones send to the one
 * as far behind us, so that no rank is everybody's first. */
static struct leg leg_of(const struct comm_exchange *e, int64_t round, int k)
{
    const struct comm *c = e->c;
    if (e->phase == PHASE_MESSAGES) return message_leg(e, round, k);
    const int distance = k / 2 + 1;
    if (distance >= c->size) return (struct leg){.peer = -1};
    struct leg leg = {.send = k % 2};
    leg.peer = (c->rank + (leg.send ? distance : c->size - distance)) % c->size;
    const bool rooted = e->job.kind == COMM_KIND_BROADCAST;
    const int receiver = leg.send ? leg.peer : c->rank;
    const int sender = leg.send ? c->rank : leg.peer;
    int count = 0;
    switch (e->phase) {
    case PHASE_REDUCE:
        leg.p = piece_of(e, receiver, round, &count);
        if (!leg.send) leg.p = staged(e, round, distance);
        break;
    case PHASE_SCATTER:
        if (sender == e->job.root) leg.p = piece_of(e, receiver, round, &count);
        break;
    default: /* PHASE_GATHER; a window's slices are with near ranks, the root has everything */
        leg.token = e->job.window && round == 0 && comm_is_near(c, leg.peer);
        if (e->job.window && comm_is_near(c, leg.peer)) break;
        if (!rooted || receiver != e->job.root)
            leg.p = piece_of(e, sender, round, &count);
        if (!leg.send && packs(e)) leg.p = staged(e, round, distance);
    }
    leg.bytes = count * (int)dtype_bytes(comm_wire(c, &e->job));
    return leg;
}

/* What is sent becomes a copy in the wire's type. */
static void pack(const struct comm_exchange *e, int64_t round, int distance,
                 struct leg *leg)
{
    const enum dtype wire = comm_wire(e->c, &e->job);
    char *packed = staged_out(e, round, distance);
    dtype_convert(packed, wire, leg->p, e->job.t,
                  leg->bytes / (int64_t)dtype_bytes(wire));
    leg->p = packed;
}

/* What has come becomes part of the vector. */
static void unpack(const struct comm_exchange *e, int64_t round)
{
    const struct comm *c = e->c;
    for (int distance = 1; distance < c->size; distance++) {
        const int rank = (c->rank - distance + c->size) % c->size;
        int count;
        char *x = piece_of(e, rank, round, &count);
        dtype_convert(x, e->job.t, staged(e, round, distance), comm_wire(c, &e->job),
                      count);
    }
}

static void post(struct comm_exchange *e, int64_t round)
{
    const struct comm *c = e->c;
    MPI_Request *pending = e->pending + (round % e->window) * e->legs;
    for (int k = 0; k < e->legs; k++) {
        struct leg leg = leg_of(e, round, k);
        pending[k] = MPI_REQUEST_NULL;
        if (leg.bytes && leg.send && packs(e)) pack(e, round, k / 2 + 1, &leg);
        if ((leg.bytes || leg.token) && leg.send)
            comm_mpi_check(c,
                           MPI_Isend(leg.p, leg.bytes, MPI_BYTE, leg.peer, e->job.tag,
                                     c->mpi->line, &pending[k]),
                           "Isend", leg.bytes);
        else if (leg.bytes || leg.token)
            comm_mpi_check(c,
                           MPI_Irecv(leg.p, leg.bytes, MPI_BYTE, leg.peer, e->job.tag,
                                     c->mpi->line, &pending[k]),
                           "Irecv", leg.bytes);
    }
}

/* own piece = sum over ranks 0, 1, ... in this order. */
static void add(struct comm_exchange *e, int64_t round)
{
    const struct comm *c = e->c;
    int count;
    void *own = piece_of(e, c->rank, round, &count);
    for (int rank = 0; rank < c->size; rank++) {
        const int distance = (c->rank - rank + c->size) % c->size;
        e->parts[rank] = distance ? staged(e, round, distance) : own;
    }
    comm_sum_range(&(struct comm_sum){.parts = e->parts,
                                      .n_parts = c->size,
                                      .into = &own,
                                      .n_into = 1,
                                      .own = c->rank,
                                      .t = e->job.t,
                                      .wire = comm_wire(c, &e->job),
                                      .packed = true,
                                      .rounds = e->job.kind == COMM_KIND_ALL_REDUCE},
                   0, count);
}

/* ---- phases ---------------------------------------------------------------------------------- */

static int64_t longest_message_bytes(const struct comm_job *job)
{
    int64_t longest = 0;
    for (int i = 0; i < job->n_messages; i++) {
        const struct comm_message *m = &job->messages[i];
        const int64_t bytes = m->n * (int64_t)dtype_bytes(m->t);
        if (bytes > longest) longest = bytes;
    }
    return longest;
}

static void enter(struct comm_exchange *e, enum phase phase)
{
    int64_t first, longest; /* the first slice is never shorter than another */
    comm_job_slice(&e->job, e->c->size, 0, &first, &longest);
    e->phase = phase;
    e->piece = COMM_MESSAGE_BYTES / (int64_t)dtype_bytes(e->job.t);
    if (phase == PHASE_REDUCE || packs(e)) e->piece = e->staged_piece;
    if (phase == PHASE_MESSAGES) {
        e->piece = COMM_MESSAGE_BYTES;
        longest = longest_message_bytes(&e->job);
    }
    e->n_rounds = rounds_of(longest, e->piece);
    e->n_done = 0;
    e->n_posted = min_i64(e->n_rounds, e->window);
    for (int64_t round = 0; round < e->n_posted; round++) post(e, round);
}

void comm_exchange_begin(struct comm_exchange *e, const struct comm_job *job)
{
    static const enum phase first[] = {[COMM_KIND_REDUCE_SCATTER] = PHASE_REDUCE,
                                       [COMM_KIND_ALL_REDUCE] = PHASE_REDUCE,
                                       [COMM_KIND_ALL_GATHER] = PHASE_GATHER,
                                       [COMM_KIND_BROADCAST] = PHASE_SCATTER,
                                       [COMM_KIND_MESSAGES] = PHASE_MESSAGES};
    e->job = *job;
    enter(e, first[job->kind]);
}

/* Does a gather follow the phase that has ended? */
static bool gather_follows(const struct comm_exchange *e)
{
    return e->phase == PHASE_SCATTER ||
           (e->phase == PHASE_REDUCE && e->job.kind == COMM_KIND_ALL_REDUCE);
}

/* Name the message of the round that failed; statuses say which. */
static _Noreturn void round_failed(const struct comm_exchange *e, int rc)
{
    int peer = -1;
    for (int k = 0; rc == MPI_ERR_IN_STATUS && k < e->legs; k++) {
        const int code = e->statuses[k].MPI_ERROR;
        if (code == MPI_SUCCESS || code == MPI_ERR_PENDING) continue;
        peer = leg_of(e, e->n_done, k).peer;
        rc = code;
    }
    char text[MPI_MAX_ERROR_STRING];
    comm_mpi_describe(rc, text);
    die_with(STATUS_COMM,
             "%s of %lld elements, round %lld, failed on rank %d of %d (peer %d): %s",
             comm_kind_name(e->job.kind), (long long)comm_job_elements(&e->job),
             (long long)e->n_done, e->c->rank, e->c->size, peer, text);
}

/* True when every message of the oldest round has come and gone. */
static bool oldest_complete(struct comm_exchange *e, bool wait)
{
    MPI_Request *pending = e->pending + (e->n_done % e->window) * e->legs;
    struct comm_wait w = {0};
    for (int complete = 0;;) {
        const int rc = MPI_Testall(e->legs, pending, &complete, e->statuses);
        if (rc != MPI_SUCCESS) round_failed(e, rc);
        if (complete || !wait) return complete;
        if (!w.c)
            w = comm_wait_begin(e->c, comm_kind_name(e->job.kind),
                                comm_job_elements(&e->job));
        comm_wait_more(&w);
    }
}

bool comm_exchange_advance(struct comm_exchange *e, bool wait)
{
    for (;;) {
        while (e->n_done < e->n_rounds) {
            if (!oldest_complete(e, wait)) return false;
            if (e->phase == PHASE_REDUCE)
                add(e, e->n_done);
            else if (packs(e))
                unpack(e, e->n_done);
            e->n_done++;
            if (e->n_posted < e->n_rounds) post(e, e->n_posted++);
        }
        if (!gather_follows(e)) return true;
        enter(e, PHASE_GATHER);
    }
}

/* ---- the transport: exchange between the caller's own buffers -------------------------------- */

static status_t request_open(struct comm_request *r, void *from_arena)
{
    struct comm_exchange *e = NULL;
    const status_t st = comm_exchange_create(&e, r->c, r->max_n, from_arena);
    r->state = e;
    return st;
}

static void request_close(struct comm_request *r)
{
    struct comm_exchange *e = r->state;
    comm_exchange_destroy(&e);
}

static void begin(struct comm_request *r)
{
    comm_exchange_begin(r->state, &r->job);
}

static bool advance(struct comm_request *r, bool wait)
{
    return comm_exchange_advance(r->state, wait);
}

const struct comm_ops comm_exchange_ops = {
    .name = "mpi",
    /* Measured on 2 ranks of one host, 124 million elements, 56 calls of dp_ready: with buckets
     * of 4 to 25 MiB, dp_finish still had to wait for most of the traffic with 1, for a quarter
     * of it with 2, and for less than a twentieth with 4. */
    .in_flight = 4,
    .needs_host = true,
    .arena_bytes = comm_exchange_staging_bytes,
    .request_open = request_open,
    .request_close = request_close,
    .begin = begin,
    .advance = advance,
};
