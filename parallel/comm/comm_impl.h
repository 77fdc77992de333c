/* comm_impl - what comm.c asks of a transport, and what its files share.
 *
 * Knows nothing of MPI (comm_mpi_impl.h does), so that comm_nccl.c, which is built into the
 * plug-in, needs none. */
#pragma once

#include "parallel/comm/comm.h"

enum {
    COMM_SMALL_MAX = 64, /* numbers of a small reduction that travel in one call */
    COMM_MAX_TAG = 1 << 20,
    COMM_MAX_MESSAGES = 8
};

/* The operations of comm_op, and the two that are begun by functions of their own. */
enum comm_kind {
    COMM_KIND_REDUCE_SCATTER = COMM_REDUCE_SCATTER,
    COMM_KIND_ALL_GATHER = COMM_ALL_GATHER,
    COMM_KIND_ALL_REDUCE = COMM_ALL_REDUCE,
    COMM_KIND_BROADCAST,
    COMM_KIND_MESSAGES
};

/* What a request has to do. */
struct comm_job {
    enum comm_kind kind;
    void *x; /* [n] of type t; not for messages */
    enum dtype t;
    int64_t n;
    int root;
    struct comm_message messages[COMM_MAX_MESSAGES];
    int n_messages;
    int tag;
};

const char *comm_kind_name(enum comm_kind kind);
int64_t
comm_job_elements(const struct comm_job *job); /* also of messages: all together */

struct comm {
    const struct comm_ops *ops; /* how large vectors travel */
    struct comm_mpi *mpi;
    struct comm *world; /* what it was made of, or itself */
    int rank, size;
    char *small; /* [size][COMM_SMALL_MAX * 8 bytes] */
    struct comm_stats stats;
    double timeout_seconds; /* 0: none */
    struct device *device;  /* NULL: host memory */
};

struct comm_request {
    struct comm *c;
    int64_t max_n;
    struct comm_job job;
    bool busy;
    void *state; /* the transport's */
};

/* A transport of large vectors.  All but name and in_flight is never called on a comm of one
 * rank. */
struct comm_ops {
    const char *name;
    int in_flight;
    /* What a request takes from the arena, and from the device's page-locked host memory. */
    size_t (*arena_bytes)(const struct comm *c, int64_t max_n); /* optional: none */
    size_t (*host_bytes)(const struct comm *c, int64_t max_n);  /* optional: none */
    status_t (*request_open)(struct comm_request *r, void *from_arena);
    void (*request_close)(struct comm_request *r);
    void (*begin)(struct comm_request *r); /* r->job is set */
    /* Move on until nothing is left (true) or, unless `wait`, until it would wait (false). */
    bool (*advance)(struct comm_request *r, bool wait);
};

extern const struct comm_ops comm_exchange_ops; /* between buffers in host memory */
extern const struct comm_ops comm_staged_ops;   /* of a device, through host memory */

/* One operation at a time between buffers in host memory, whoever owns them. */
struct comm_exchange;
size_t comm_exchange_staging_bytes(const struct comm *c, int64_t max_n);
MUST_USE status_t comm_exchange_create(struct comm_exchange **e, struct comm *c,
                                       int64_t max_n, void *staging);
void comm_exchange_destroy(struct comm_exchange **e); /* NULL-safe; nulls */
void comm_exchange_begin(struct comm_exchange *e, const struct comm_job *job);
bool comm_exchange_advance(struct comm_exchange *e, bool wait);

/* A wait of the host for other ranks. */
struct comm_wait {
    const struct comm *c;
    const char *operation;
    int64_t n; /* elements, or bytes if the operation knows none */
    double start, next_look;
};
struct comm_wait comm_wait_begin(const struct comm *c, const char *operation, int64_t n);
/* Call it whenever there was nothing to do: dies, naming the operation and the ranks that give no
 * sign of life, when the wait has taken longer than the comm's timeout, or when another rank says
 * that its own has. */
void comm_wait_more(struct comm_wait *w);

/* Small things over MPI, on host memory; called with any size. */
void comm_mpi_gather_all(struct comm *c, const void *mine, size_t bytes, void *all);
void comm_mpi_broadcast(struct comm *c, char *data, size_t bytes, int root);
void comm_mpi_gather_bytes(struct comm *c, const char *mine, size_t bytes, int root,
                           char **all, size_t *sizes);
void comm_mpi_barrier(struct comm *c);
