/* MPI's life cycle: communicators. */
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "parallel/comm/comm_host.h"
#include "parallel/comm/comm_mpi_impl.h"

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
    die_with(STATUS_COMM, "MPI_%s of %lld bytes failed on rank %d of %d: %s", operation,
             (long long)count, c->rank, c->size, text);
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

/* A comm around `line`, which it takes over.  Local. */
static status_t wrap(struct comm **c, MPI_Comm line)
{
    int rank = 0, size = 0;
    TRY(setup(MPI_Comm_set_errhandler(line, MPI_ERRORS_RETURN), "Comm_set_errhandler"));
    TRY(setup(MPI_Comm_rank(line, &rank), "Comm_rank"));
    TRY(setup(MPI_Comm_size(line, &size), "Comm_size"));
    struct comm *made = malloc(sizeof *made);
    struct comm_mpi *mpi = malloc(sizeof *mpi);
    char *small = malloc((size_t)size * COMM_SMALL_MAX * sizeof(double));
    if (!made || !mpi || !small) {
        free(made);
        free(mpi);
        free(small);
        return status_set(STATUS_NOMEM, "no memory for a communicator of %d ranks", size);
    }
    *mpi = (struct comm_mpi){.line = line, .words = MPI_COMM_NULL};
    *made = (struct comm){.ops = &comm_exchange_ops,
                          .mpi = mpi,
                          .world = made,
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
    if (!found || *limit < COMM_TAGS_NEEDED)
        return status_set(STATUS_COMM, "this MPI allows tags up to %d; yoke needs %d",
                          found ? *limit : 0, COMM_TAGS_NEEDED);
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
    MPI_Comm line = MPI_COMM_NULL, words = MPI_COMM_NULL;
    TRY(check_library()); /* the same answer on all ranks */
    TRY(setup(MPI_Comm_dup(MPI_COMM_WORLD, &line), "Comm_dup"));
    TRY(setup(MPI_Comm_dup(MPI_COMM_WORLD, &words), "Comm_dup"));
    TRY(setup(MPI_Comm_set_errhandler(words, MPI_ERRORS_RETURN), "Comm_set_errhandler"));
    TRY(wrap(world, line));
    (*world)->mpi->words = words;
    (*world)->mpi->started = !running;
    log_init((*world)->rank, (*world)->size);
    return STATUS_OK;
}

status_t comm_alone(struct comm **c)
{
    MPI_Comm line = MPI_COMM_NULL, words = MPI_COMM_NULL;
    *c = NULL;
    TRY(setup(MPI_Comm_dup(MPI_COMM_SELF, &line), "Comm_dup"));
    TRY(setup(MPI_Comm_dup(MPI_COMM_SELF, &words), "Comm_dup"));
    TRY(setup(MPI_Comm_set_errhandler(words, MPI_ERRORS_RETURN), "Comm_set_errhandler"));
    TRY(wrap(c, line));
    (*c)->mpi->words = words;
    return STATUS_OK;
}

bool comm_has_all(const struct comm *c)
{
    int size = 0;
    comm_mpi_check(c, MPI_Comm_size(MPI_COMM_WORLD, &size), "Comm_size", 0);
    return c->size == size;
}

void comm_finish(struct comm **world)
{
    if (!*world) return;
    const bool ours = (*world)->mpi->started;
    comm_destroy(world);
    log_set_abort(NULL);
    if (ours) MPI_Finalize();
}

/* over_library: like the world, if that uses one. */
static status_t split(struct comm **c, struct comm *world, const struct mesh *m,
                      mesh_axes axes, bool over_library)
{
    CHECK(m->world_size == world->size && m->world_rank == world->rank);
    *c = NULL;
    const int colour = mesh_group(m, axes);
    MPI_Comm line = MPI_COMM_NULL;
    status_t st = setup(MPI_Comm_split(world->mpi->line, colour, m->world_rank, &line),
                        "Comm_split");
    if (st == STATUS_OK) {
        st = wrap(c, line);
        if (st != STATUS_OK) MPI_Comm_free(&line);
    }
    st = comm_agree(world, st);
    if (st == STATUS_OK) {
        (*c)->world = world;
        (*c)->timeout_seconds = world->timeout_seconds;
        st = comm_join_device(*c, colour, over_library);
    }
    if (st != STATUS_OK) comm_destroy(c);
    return st;
}

status_t comm_create(struct comm **c, struct comm *world, const struct mesh *m,
                     mesh_axes axes)
{
    return split(c, world, m, axes, true);
}

status_t comm_create_host(struct comm **c, struct comm *world, const struct mesh *m,
                          mesh_axes axes)
{
    return split(c, world, m, axes, false);
}

void comm_destroy(struct comm **c)
{
    if (!*c) return;
    struct comm_mpi *mpi = (*c)->mpi; /* NULL: imagined */
    comm_close_line(*c);
    comm_host_close(*c);
    if (mpi) {
        MPI_Comm_free(&mpi->line);
        if (mpi->words != MPI_COMM_NULL) MPI_Comm_free(&mpi->words);
    }
    free(mpi);
    free((*c)->small);
    free(*c);
    *c = NULL;
}
