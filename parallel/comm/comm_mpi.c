/* MPI's life cycle and the small blocking operations. */
#include "parallel/comm/comm_impl.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"

enum { TAG_GATHER = COMM_MAX_TAG, TAGS_NEEDED = TAG_GATHER + 1 };

void comm_mpi_describe(int rc, char text[MPI_MAX_ERROR_STRING])
{
    int length = 0;
    if (MPI_Error_string(rc, text, &length) != MPI_SUCCESS) length = 0;
    text[length] = '\0';
}

void comm_mpi_check(const struct comm *c, int rc, const char *operation, int64_t count)
{
    if (rc == MPI_SUCCESS) return;
    char text[MPI_MAX_ERROR_STRING];
    comm_mpi_describe(rc, text);
    die("MPI_%s of %lld bytes failed on rank %d of %d: %s", operation, (long long)count,
        c->rank, c->size, text);
}

/* The same in the setup regime. */
static status_t setup(int rc, const char *operation)
{
    if (rc == MPI_SUCCESS) return STATUS_OK;
    char text[MPI_MAX_ERROR_STRING];
    comm_mpi_describe(rc, text);
    return status_set(STATUS_COMM, "MPI_%s failed: %s", operation, text);
}

static void abort_all(int exit_code)
{
    int over = 0;
    MPI_Finalized(&over);
    if (!over) MPI_Abort(MPI_COMM_WORLD, exit_code);
}

/* A comm around `mpi`, which it takes over.  Local. */
static status_t wrap(struct comm **c, MPI_Comm mpi)
{
    int rank = 0, size = 0;
    TRY(setup(MPI_Comm_set_errhandler(mpi, MPI_ERRORS_RETURN), "Comm_set_errhandler"));
    TRY(setup(MPI_Comm_rank(mpi, &rank), "Comm_rank"));
    TRY(setup(MPI_Comm_size(mpi, &size), "Comm_size"));
    struct comm *made = malloc(sizeof *made);
    char *small = malloc((size_t)size * COMM_SMALL_MAX * sizeof(double));
    if (!made || !small) {
        free(made);
        free(small);
        return status_set(STATUS_NOMEM, "no memory for a communicator of %d ranks", size);
    }
    *made = (struct comm){.ops = &comm_exchange_ops,
                          .mpi = mpi,
                          .rank = rank,
                          .size = size,
                          .small = small};
    *c = made;
    return STATUS_OK;
}

static status_t check_library(void)
{
    int level = 0, found = 0, *limit = NULL;
    TRY(setup(MPI_Query_thread(&level), "Query_thread"));
    if (level < MPI_THREAD_FUNNELED)
        return status_set(STATUS_COMM, "this MPI was built without threads; yoke needs "
                                       "MPI_THREAD_FUNNELED");
    TRY(setup(MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &limit, &found),
              "Comm_get_attr"));
    if (!found || *limit < TAGS_NEEDED)
        return status_set(STATUS_COMM, "this MPI allows tags up to %d; yoke needs %d",
                          found ? *limit : 0, TAGS_NEEDED);
    return STATUS_OK;
}

status_t comm_start(struct comm **world, int *argc, char ***argv)
{
    *world = NULL;
    int running = 0, level = 0;
    TRY(setup(MPI_Initialized(&running), "Initialized"));
    if (!running)
        TRY(setup(MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &level),
                  "Init_thread"));
    TRY(setup(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN),
              "Comm_set_errhandler"));
    log_set_abort(abort_all);
    MPI_Comm mpi = MPI_COMM_NULL;
    TRY(check_library()); /* the same answer on all ranks */
    TRY(setup(MPI_Comm_dup(MPI_COMM_WORLD, &mpi), "Comm_dup"));
    TRY(wrap(world, mpi));
    (*world)->started_mpi = !running;
    log_init((*world)->rank, (*world)->size);
    return STATUS_OK;
}

void comm_finish(struct comm **world)
{
    if (!*world) return;
    const bool ours = (*world)->started_mpi;
    comm_destroy(world);
    log_set_abort(NULL);
    if (ours) MPI_Finalize();
}

status_t comm_create(struct comm **c, struct comm *world, const struct mesh *m,
                     enum mesh_axis axis)
{
    CHECK(m->world_size == world->size && m->world_rank == world->rank);
    *c = NULL;
    int origin[MESH_AXES]; /* of this rank's line: the colour its ranks share */
    memcpy(origin, m->coord, sizeof origin);
    origin[axis] = 0;
    MPI_Comm line = MPI_COMM_NULL;
    status_t st =
        setup(MPI_Comm_split(world->mpi, mesh_rank_at(m, origin), m->coord[axis], &line),
              "Comm_split");
    if (st == STATUS_OK) {
        st = wrap(c, line);
        if (st != STATUS_OK) MPI_Comm_free(&line);
    }
    st = comm_agree(world, st);
    if (st != STATUS_OK) comm_destroy(c);
    return st;
}

void comm_destroy(struct comm **c)
{
    if (!*c) return;
    MPI_Comm_free(&(*c)->mpi);
    free((*c)->small);
    free(*c);
    *c = NULL;
}

static int piece(size_t left)
{
    return left < COMM_MESSAGE_BYTES ? (int)left : COMM_MESSAGE_BYTES;
}

void comm_mpi_broadcast(struct comm *c, char *data, size_t bytes, int root)
{
    while (bytes > 0) {
        const int now = piece(bytes);
        comm_mpi_check(c, MPI_Bcast(data, now, MPI_BYTE, root, c->mpi), "Bcast", now);
        data += now;
        bytes -= (size_t)now;
    }
}

void comm_mpi_gather_all(struct comm *c, const void *mine, size_t bytes, void *all)
{
    char *out = all;
    if (bytes <= COMM_MESSAGE_BYTES) {
        const int n = (int)bytes;
        comm_mpi_check(c, MPI_Allgather(mine, n, MPI_BYTE, all, n, MPI_BYTE, c->mpi),
                       "Allgather", n);
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
        comm_mpi_check(c, MPI_Send(data, now, MPI_BYTE, to, TAG_GATHER, c->mpi), "Send",
                       now);
        data += now;
        bytes -= (size_t)now;
    }
}

static void receive(struct comm *c, char *data, size_t bytes, int from)
{
    while (bytes > 0) {
        const int now = piece(bytes);
        comm_mpi_check(
            c, MPI_Recv(data, now, MPI_BYTE, from, TAG_GATHER, c->mpi, MPI_STATUS_IGNORE),
            "Recv", now);
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
    comm_mpi_check(
        c, MPI_Gather(&size, 1, MPI_UINT64_T, each, 1, MPI_UINT64_T, root, c->mpi),
        "Gather", 8);
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
    comm_mpi_check(c, MPI_Barrier(c->mpi), "Barrier", 0);
}
