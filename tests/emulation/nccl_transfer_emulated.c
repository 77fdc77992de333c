/* The emulated NCCL's operations: parts that travel over MPI, and what is made of them. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "core/dtype.h"
#include "nccl_emulated.h"

/* In front of every part, so that ranks that do not do the same find out. */
struct header {
    int32_t kind, type, peer, unused;
    uint64_t count;
};

/* ---- who sends what ------------------------------------------------------------------------- */

/* Bytes of the part that `from` sends to `to`. */
static size_t part_bytes(const struct ncclComm *comm, const struct nccl_call *c, int from,
                         int to)
{
    const size_t bytes = c->count * nccl_type_bytes(c->type);
    switch (c->kind) {
    case NCCL_REDUCE:
        return to == c->peer ? bytes : 0;
    case NCCL_BROADCAST:
        return from == c->peer ? bytes : 0;
    case NCCL_SEND:
        return from == comm->rank && to == c->peer ? bytes : 0;
    case NCCL_RECEIVE:
        return to == comm->rank && from == c->peer ? bytes : 0;
    default:
        return bytes;
    }
}

/* Where the part for `to` begins in what this rank sends. */
static const char *part_to(const struct nccl_call *c, int to)
{
    const size_t bytes = c->count * nccl_type_bytes(c->type);
    return c->kind == NCCL_REDUCE_SCATTER ? c->send + (size_t)to * bytes : c->send;
}

/* What the other side of a call must say. */
static struct header header_of(const struct nccl_call *c, bool theirs)
{
    struct header h = {.kind = (int32_t)c->kind,
                       .type = (int32_t)c->type,
                       .peer = c->peer,
                       .count = c->count};
    if (c->kind == NCCL_SEND || c->kind == NCCL_RECEIVE) {
        h.kind = theirs ? NCCL_SEND : (int32_t)c->kind;
        h.peer = 0;
    }
    return h;
}

static void *host_memory(size_t bytes)
{
    void *p = calloc(1, bytes ? bytes : 1);
    if (!p) emulation_fail("NCCL: no host memory for %zu bytes", bytes);
    return p;
}

static void check(int rc, const char *call)
{
    if (rc == MPI_SUCCESS) return;
    char text[MPI_MAX_ERROR_STRING];
    int length = 0;
    MPI_Error_string(rc, text, &length);
    emulation_fail("NCCL: %s: %.*s: do all ranks call the same operations?", call, length,
                   text);
}

static void post_call(struct nccl_group *g, struct nccl_call *c)
{
    const struct ncclComm *comm = g->comm;
    for (int rank = 0; rank < comm->size; rank++) {
        if (rank == comm->rank) continue;
        const size_t in = part_bytes(comm, c, rank, comm->rank);
        const size_t out = part_bytes(comm, c, comm->rank, rank);
        if (in) {
            c->in[rank] = host_memory(sizeof(struct header) + in);
            check(MPI_Irecv(c->in[rank], (int)(sizeof(struct header) + in), MPI_BYTE,
                            rank, c->tag, comm->mpi, &g->pending[g->n_pending++]),
                  "Irecv");
        }
        if (out) {
            const struct header h = header_of(c, false);
            c->out[rank] = host_memory(sizeof h + out);
            memcpy(c->out[rank], &h, sizeof h);
            memcpy(c->out[rank] + sizeof h, part_to(c, rank), out);
            check(MPI_Isend(c->out[rank], (int)(sizeof h + out), MPI_BYTE, rank, c->tag,
                            comm->mpi, &g->pending[g->n_pending++]),
                  "Isend");
        }
    }
}

/* ---- what is made of it --------------------------------------------------------------------- */

static void check_header(const struct ncclComm *comm, const struct nccl_call *c, int rank)
{
    struct header theirs, want = header_of(c, true);
    memcpy(&theirs, c->in[rank], sizeof theirs);
    if (memcmp(&theirs, &want, sizeof want) != 0)
        emulation_fail(
            "NCCL: rank %d of %d calls %s of %zu (type %d, root %d), but rank %d "
            "%s of %zu (type %d, root %d)",
            comm->rank, comm->size, nccl_kind_name(c->kind), c->count, c->type, c->peer,
            rank, nccl_kind_name((enum nccl_kind)theirs.kind), (size_t)theirs.count,
            theirs.type, theirs.peer);
}

static const char *payload(const struct nccl_call *c, int rank)
{
    return c->in[rank] + sizeof(struct header);
}

static enum dtype dtype_of(ncclDataType_t type)
{
    return type == ncclBfloat16  ? DTYPE_BF16
           : type == ncclFloat16 ? DTYPE_F16
                                 : DTYPE_F32;
}

/* The sum over ranks 0, 1, ... of their parts for this rank.  What this rank sends may lie where
 * the sum goes, so it is not written before all is added. */
static void sum(const struct ncclComm *comm, const struct nccl_call *c)
{
    const enum dtype t = dtype_of(c->type);
    const int64_t n = (int64_t)c->count;
    const size_t bytes = c->count * nccl_type_bytes(c->type);
    float *total = host_memory(c->count * sizeof *total);
    float *x = host_memory(c->count * sizeof *x);
    char *rounded = host_memory(bytes);
    for (int rank = 0; rank < comm->size; rank++) {
        const char *part = rank == comm->rank ? part_to(c, rank) : payload(c, rank);
        dtype_convert(x, DTYPE_F32, part, t, n);
        for (int64_t i = 0; i < n; i++) total[i] = rank ? total[i] + x[i] : x[i];
        dtype_convert(rounded, t, total, DTYPE_F32, n);
        dtype_convert(total, DTYPE_F32, rounded, t, n);
    }
    memcpy(c->receive, rounded, bytes);
    free(total);
    free(x);
    free(rounded);
}

static void finish_call(const struct ncclComm *comm, const struct nccl_call *c)
{
    const size_t bytes = c->count * nccl_type_bytes(c->type);
    for (int rank = 0; rank < comm->size; rank++)
        if (c->in[rank]) check_header(comm, c, rank);
    switch (c->kind) {
    case NCCL_REDUCE:
        if (comm->rank != c->peer) return;
        /* fallthrough */
    case NCCL_ALL_REDUCE:
    case NCCL_REDUCE_SCATTER:
        sum(comm, c);
        return;
    case NCCL_ALL_GATHER:
        for (int rank = 0; rank < comm->size; rank++)
            memmove(c->receive + (size_t)rank * bytes,
                    rank == comm->rank ? c->send : payload(c, rank), bytes);
        return;
    case NCCL_BROADCAST:
        memmove(c->receive, comm->rank == c->peer ? c->send : payload(c, c->peer), bytes);
        return;
    case NCCL_RECEIVE:
        memcpy(c->receive, payload(c, c->peer), bytes);
        return;
    case NCCL_SEND:
        return;
    }
}

/* ---- the queue entry ------------------------------------------------------------------------ */

static void post(struct nccl_group *g)
{
    const size_t size = (size_t)g->comm->size;
    g->pending = host_memory((size_t)g->n_calls * 2 * size * sizeof *g->pending);
    g->n_pending = 0;
    for (int i = 0; i < g->n_calls; i++) {
        g->calls[i].in = host_memory(size * sizeof(char *));
        g->calls[i].out = host_memory(size * sizeof(char *));
        post_call(g, &g->calls[i]);
    }
    g->posted = true;
}

static void forget(struct nccl_group *g)
{
    for (int i = 0; g->posted && i < g->n_calls; i++) {
        for (int rank = 0; rank < g->comm->size; rank++) {
            free(g->calls[i].in[rank]);
            free(g->calls[i].out[rank]);
        }
        free(g->calls[i].in);
        free(g->calls[i].out);
    }
    if (g->posted) free(g->pending);
    g->posted = false;
}

enum emulation_progress nccl_group_run(void *group)
{
    struct nccl_group *g = group;
    struct ncclComm *comm = g->comm;
    if (comm->aborted) return EMULATION_DONE;
    if (!pthread_equal(pthread_self(), comm->thread)) return EMULATION_PENDING;
    if (nccl_fault("nccl_hang", g->index)) return EMULATION_PENDING;
    if (nccl_fault("nccl_die", g->index)) raise(SIGKILL);
    if (!g->posted) post(g);
    int complete = 0;
    check(MPI_Testall(g->n_pending, g->pending, &complete, MPI_STATUSES_IGNORE),
          "Testall");
    if (!complete) return EMULATION_PENDING;
    for (int i = 0; i < g->n_calls; i++) finish_call(comm, &g->calls[i]);
    forget(g);
    comm->n_under_way--;
    return EMULATION_DONE;
}

void nccl_group_release(void *group)
{
    struct nccl_group *g = group;
    if (!g->posted) free(g->calls); /* else MPI may still use what they point to */
    free(g);
}
