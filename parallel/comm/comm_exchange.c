/* Large vectors by direct exchange over MPI.
 *
 * Reduce-scatter: every rank sends slice j to rank j and adds the contributions to its own
 * slice in rank order.  All-gather: every rank sends its own slice to all others.  Both move
 * each element once per receiver, as few as can be; inside one node that beats the library's
 * ring, which also adds in an order of its own.
 *
 * Slices travel in pieces, a round of pieces at a time: round k of a phase is piece k of every
 * slice, to and from all other ranks.  At most `window` rounds are under way, so staging is
 * small, stays in cache until it is added, and is independent of the length of the vector.
 * Messages between two ranks under one tag do not overtake, and rounds are begun in order (all
 * of a phase before the next phase), so no message needs to say which round it is of.
 *
 * Pieces to be added are of 1 MiB: measured on 2 ranks of one host (16 and 256 MiB, pieces of
 * 32 KiB to 16 MiB), smaller ones pay per message, those of 16 MiB leave the cache before they
 * are added and run at a third of the speed.  Pieces that are only copied are as long as a
 * message may be: each round makes ranks wait for each other, and a long one lets more arrive
 * between two calls of comm_test. */
#include "parallel/comm/comm_impl.h"

#include <string.h>

#include "core/log.h"

enum {
    PIECE_ELEMENTS = 1 << 18,
    LONGEST_PIECE = COMM_MESSAGE_BYTES / (int)sizeof(float),
    WINDOW_MAX = 4,
    ADD_BLOCK = 1024
};

enum phase { PHASE_REDUCE, PHASE_GATHER };

struct exchange {
    int64_t staged_piece; /* elements of a piece that is to be added */
    int window;           /* rounds under way at most */
    float *staging;       /* [window][size - 1][staged_piece] */
    MPI_Request *pending; /* [window][size - 1][2]: from and to the rank at a distance */
    MPI_Status *statuses; /* [size - 1][2] of the oldest round */
    enum phase phase;
    int64_t piece;                      /* elements, in this phase */
    int64_t n_rounds, n_posted, n_done; /* of this phase */
};

static int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t rounds_of(int64_t n, int size, int64_t piece)
{
    const int64_t longest = (n + size - 1) / size;
    return (longest + piece - 1) / piece;
}

static void *exchange_state(const struct comm *c, int64_t max_n, struct arena *arena)
{
    const int64_t others = c->size - 1;
    const int64_t longest = (max_n + c->size - 1) / c->size;
    int64_t piece = min_i64(PIECE_ELEMENTS, longest);
    if (piece < 1) piece = 1;
    const int64_t window = min_i64(WINDOW_MAX, rounds_of(max_n, c->size, piece));
    struct exchange *e = arena_alloc(arena, sizeof *e);
    float *staging = arena_floats(arena, window * others * piece);
    MPI_Request *pending =
        arena_alloc(arena, (size_t)(window * 2 * others) * sizeof *pending);
    MPI_Status *statuses = arena_alloc(arena, (size_t)(2 * others) * sizeof *statuses);
    if (!e) return NULL;
    *e = (struct exchange){.staged_piece = piece,
                           .window = (int)window,
                           .staging = staging,
                           .pending = pending,
                           .statuses = statuses};
    return e;
}

/* Piece `round` of rank's slice; *count is 0 behind its end. */
static float *piece_of(const struct comm_request *r, int rank, int64_t round, int *count)
{
    const struct exchange *e = r->state;
    int64_t first, length;
    comm_slice(r->n, r->c->size, rank, &first, &length);
    const int64_t start = round * e->piece;
    const int64_t left = start < length ? length - start : 0;
    *count = (int)min_i64(left, e->piece);
    return r->x + first + (*count ? start : 0);
}

/* Where the piece of the rank `distance` before us lies in staging. */
static float *staged(const struct comm_request *r, int64_t round, int distance)
{
    const struct exchange *e = r->state;
    const int64_t slot = round % e->window;
    return e->staging + (slot * (r->c->size - 1) + distance - 1) * e->staged_piece;
}

static void post(struct comm_request *r, int64_t round)
{
    struct exchange *e = r->state;
    struct comm *c = r->c;
    MPI_Request *pending = e->pending + (round % e->window) * 2 * (c->size - 1);
    int own_count, count;
    float *own = piece_of(r, c->rank, round, &own_count);
    /* each rank begins with its right neighbour, so that no one is everybody's first */
    for (int distance = 1; distance < c->size; distance++) {
        const int to = (c->rank + distance) % c->size;
        const int from = (c->rank - distance + c->size) % c->size;
        const float *out = own;
        float *in = staged(r, round, distance);
        int out_count = own_count, in_count = own_count;
        if (e->phase == PHASE_REDUCE) {
            out = piece_of(r, to, round, &out_count);
        } else {
            in = piece_of(r, from, round, &count);
            in_count = count;
        }
        pending[0] = pending[1] = MPI_REQUEST_NULL;
        if (in_count)
            comm_mpi_check(
                c, MPI_Irecv(in, in_count, MPI_FLOAT, from, r->tag, c->mpi, &pending[0]),
                "Irecv", (int64_t)in_count * 4);
        if (out_count)
            comm_mpi_check(
                c, MPI_Isend(out, out_count, MPI_FLOAT, to, r->tag, c->mpi, &pending[1]),
                "Isend", (int64_t)out_count * 4);
        pending += 2;
    }
}

/* own piece = sum over ranks 0, 1, ... in this order, block by block in the first cache. */
static void add(struct comm_request *r, int64_t round)
{
    struct comm *c = r->c;
    int count;
    float *own = piece_of(r, c->rank, round, &count);
    float sum[ADD_BLOCK];
    for (int start = 0; start < count; start += ADD_BLOCK) {
        const int n = count - start < ADD_BLOCK ? count - start : ADD_BLOCK;
        for (int rank = 0; rank < c->size; rank++) {
            const int distance = (c->rank - rank + c->size) % c->size;
            const float *part = (distance ? staged(r, round, distance) : own) + start;
            if (rank == 0)
                memcpy(sum, part, (size_t)n * sizeof *sum);
            else
                for (int i = 0; i < n; i++) sum[i] += part[i];
        }
        memcpy(own + start, sum, (size_t)n * sizeof *sum);
    }
}

static void enter(struct comm_request *r, enum phase phase)
{
    struct exchange *e = r->state;
    e->phase = phase;
    e->piece = phase == PHASE_REDUCE ? e->staged_piece : LONGEST_PIECE;
    e->n_rounds = rounds_of(r->n, r->c->size, e->piece);
    e->n_done = 0;
    e->n_posted = min_i64(e->n_rounds, e->window);
    for (int64_t round = 0; round < e->n_posted; round++) post(r, round);
}

static void exchange_begin(struct comm_request *r)
{
    enter(r, r->op == COMM_ALL_GATHER ? PHASE_GATHER : PHASE_REDUCE);
}

/* Name the message of the round that failed; statuses say which. */
static _Noreturn void round_failed(const struct comm_request *r, int rc)
{
    static const char *const names[] = {[COMM_REDUCE_SCATTER] = "reduce-scatter",
                                        [COMM_ALL_GATHER] = "all-gather",
                                        [COMM_ALL_REDUCE] = "all-reduce"};
    const struct exchange *e = r->state;
    const struct comm *c = r->c;
    int peer = -1;
    for (int i = 0; rc == MPI_ERR_IN_STATUS && i < 2 * (c->size - 1); i++) {
        const int code = e->statuses[i].MPI_ERROR;
        if (code == MPI_SUCCESS || code == MPI_ERR_PENDING) continue;
        const int distance = i / 2 + 1;
        peer = (c->rank + (i % 2 ? distance : -distance) + c->size) % c->size;
        rc = code;
    }
    char text[MPI_MAX_ERROR_STRING];
    comm_mpi_describe(rc, text);
    die("%s of %lld elements, round %lld, failed on rank %d of %d (peer %d): %s",
        names[r->op], (long long)r->n, (long long)e->n_done, c->rank, c->size, peer,
        text);
}

/* True when every message of the oldest round has come and gone. */
static bool oldest_complete(struct comm_request *r, bool wait)
{
    struct exchange *e = r->state;
    const int n = 2 * (r->c->size - 1);
    MPI_Request *pending = e->pending + (e->n_done % e->window) * n;
    int complete = 1;
    const int rc = wait ? MPI_Waitall(n, pending, e->statuses)
                        : MPI_Testall(n, pending, &complete, e->statuses);
    if (rc != MPI_SUCCESS) round_failed(r, rc);
    return complete;
}

static bool exchange_advance(struct comm_request *r, bool wait)
{
    struct exchange *e = r->state;
    for (;;) {
        while (e->n_done < e->n_rounds) {
            if (!oldest_complete(r, wait)) return false;
            if (e->phase == PHASE_REDUCE) add(r, e->n_done);
            e->n_done++;
            if (e->n_posted < e->n_rounds) post(r, e->n_posted++);
        }
        if (e->phase == PHASE_GATHER || r->op == COMM_REDUCE_SCATTER) return true;
        enter(r, PHASE_GATHER);
    }
}

const struct comm_ops comm_exchange_ops = {
    .name = "mpi",
    .state = exchange_state,
    .begin = exchange_begin,
    .advance = exchange_advance,
};
