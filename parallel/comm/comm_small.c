/* The small blocking operations over MPI, on host memory.
 *
 * Each is begun without waiting and then asked after, so that a rank that never comes ends the
 * job (comm_wait.c) instead of hanging it. */
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "parallel/comm/comm_mpi_impl.h"

static void finish(struct comm *c, MPI_Request *request, const char *operation,
                   int64_t bytes)
{
    struct comm_wait w = comm_wait_begin(c, operation, bytes);
    for (int done = 0;;) {
        comm_mpi_check(c, MPI_Test(request, &done, MPI_STATUS_IGNORE), operation, bytes);
        if (done) return;
        comm_wait_more(&w);
    }
}

static int piece(size_t left)
{
    return left < COMM_MESSAGE_BYTES ? (int)left : COMM_MESSAGE_BYTES;
}

void comm_mpi_broadcast(struct comm *c, char *data, size_t bytes, int root)
{
    while (bytes > 0) {
        const int now = piece(bytes);
        MPI_Request request;
        comm_mpi_check(c, MPI_Ibcast(data, now, MPI_BYTE, root, c->mpi->line, &request),
                       "Ibcast", now);
        finish(c, &request, "broadcast", now);
        data += now;
        bytes -= (size_t)now;
    }
}

void comm_mpi_gather_all(struct comm *c, const void *mine, size_t bytes, void *all)
{
    char *out = all;
    if (bytes <= COMM_MESSAGE_BYTES) {
        const int n = (int)bytes;
        MPI_Request request;
        comm_mpi_check(
            c,
            MPI_Iallgather(mine, n, MPI_BYTE, all, n, MPI_BYTE, c->mpi->line, &request),
            "Iallgather", n);
        finish(c, &request, "gather to all", n);
        return;
    }
    /* too long for one call */
    memcpy(out + (size_t)c->rank * bytes, mine, bytes);
    for (int rank = 0; rank < c->size; rank++)
        comm_mpi_broadcast(c, out + (size_t)rank * bytes, bytes, rank);
}

static void send(struct comm *c, const char *data, size_t bytes, int to)
{
    while (bytes > 0) {
        const int now = piece(bytes);
        MPI_Request request;
        comm_mpi_check(
            c,
            MPI_Isend(data, now, MPI_BYTE, to, COMM_TAG_GATHER, c->mpi->line, &request),
            "Isend", now);
        finish(c, &request, "gather, sending", now);
        data += now;
        bytes -= (size_t)now;
    }
}

static void receive(struct comm *c, char *data, size_t bytes, int from)
{
    while (bytes > 0) {
        const int now = piece(bytes);
        MPI_Request request;
        comm_mpi_check(
            c,
            MPI_Irecv(data, now, MPI_BYTE, from, COMM_TAG_GATHER, c->mpi->line, &request),
            "Irecv", now);
        finish(c, &request, "gather, receiving", now);
        data += now;
        bytes -= (size_t)now;
    }
}

void comm_mpi_gather_bytes(struct comm *c, const char *mine, size_t bytes, int root,
                           char **all, size_t *sizes)
{
    *all = NULL;
    uint64_t size = bytes;
    uint64_t *each = NULL;
    if (c->rank == root) {
        each = malloc((size_t)c->size * sizeof *each);
        if (!each) die("no memory to gather from %d ranks", c->size);
    }
    MPI_Request request;
    comm_mpi_check(c,
                   MPI_Igather(&size, 1, MPI_UINT64_T, each, 1, MPI_UINT64_T, root,
                               c->mpi->line, &request),
                   "Igather", 8);
    finish(c, &request, "gather of sizes", 8);
    if (c->rank != root) {
        send(c, mine, bytes, root);
        return;
    }
    size_t total = 0;
    for (int rank = 0; rank < c->size; rank++) {
        sizes[rank] = each[rank];
        total += each[rank];
    }
    free(each);
    *all = malloc(total ? total : 1);
    if (!*all) die("no memory for %zu bytes gathered from %d ranks", total, c->size);
    char *at = *all;
    for (int rank = 0; rank < c->size; at += sizes[rank++]) {
        if (rank != root)
            receive(c, at, sizes[rank], rank);
        else if (bytes)
            memcpy(at, mine, bytes);
    }
}

void comm_mpi_barrier(struct comm *c)
{
    MPI_Request request;
    comm_mpi_check(c, MPI_Ibarrier(c->mpi->line, &request), "Ibarrier", 0);
    finish(c, &request, "barrier", 0);
}
