/* comm_impl - what comm.c asks of a backend, and what its files share. */
#pragma once

#include <mpi.h>

#include "parallel/comm/comm.h"

enum {
    COMM_SMALL_MAX = 64, /* numbers of a small reduction that travel in one call */
    COMM_MESSAGE_BYTES = 1 << 26, /* most bytes of one MPI call: counts are int */
    COMM_MAX_TAG = 1 << 20
};

struct comm {
    const struct comm_ops *ops; /* how large vectors travel */
    MPI_Comm mpi;               /* own: nobody else's messages can be mistaken for ours */
    int rank, size;
    char *small; /* [size][COMM_SMALL_MAX * 8 bytes] */
    struct comm_stats stats;
    bool started_mpi; /* by comm_start, so comm_finish ends it */
};

struct comm_request {
    struct comm *c;
    int64_t max_n;
    enum comm_op op;
    float *x;
    int64_t n;
    int tag;
    bool busy;
    void *state; /* the backend's, in the arena */
};

/* Large vectors.  Never called on a comm of one rank. */
struct comm_ops {
    const char *name;
    void *(*state)(const struct comm *c, int64_t max_n, struct arena *arena);
    void (*begin)(struct comm_request *r); /* op, x, n and tag are set */
    /* Move on until nothing is left (true) or, unless `wait`, until it would wait (false). */
    bool (*advance)(struct comm_request *r, bool wait);
};

extern const struct comm_ops comm_exchange_ops;

void comm_mpi_describe(int rc, char text[MPI_MAX_ERROR_STRING]);
/* Die, naming operation, rank and count, unless rc is MPI_SUCCESS. */
void comm_mpi_check(const struct comm *c, int rc, const char *operation, int64_t count);

/* Small things over MPI, on host memory; called with any size. */
void comm_mpi_gather_all(struct comm *c, const void *mine, size_t bytes, void *all);
void comm_mpi_broadcast(struct comm *c, char *data, size_t bytes, int root);
void comm_mpi_gather_bytes(struct comm *c, const char *mine, size_t bytes, int root,
                           char **all, size_t *sizes);
void comm_mpi_barrier(struct comm *c);
