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
    int64_t unit; /* elements that no cut into slices separates; divides n */
    int root;
    struct comm_message messages[COMM_MAX_MESSAGES];
    int n_messages;
    int tag;
    int32_t window; /* that x lies in, and where; 0: in none */
    size_t window_offset;
};

/* Rank's slice of the vector, in elements. */
void comm_job_slice(const struct comm_job *job, int size, int rank, int64_t *first,
                    int64_t *count);

/* The type in which its numbers travel. */
enum dtype comm_wire(const struct comm *c, const struct comm_job *job);

const char *comm_kind_name(enum comm_kind kind);
int64_t
comm_job_elements(const struct comm_job *job); /* also of messages: all together */

/* A wait of the host for other ranks. */
struct comm_wait {
    const struct comm *c;
    const char *operation;
    int64_t n; /* elements, or bytes if the operation knows none */
    double start, next_look;
    int n_pauses;
};

struct comm {
    const struct comm_ops *ops; /* how large vectors travel */
    struct comm_mpi *mpi;
    struct comm *world; /* what it was made of, or itself */
    int rank, size;
    char *small; /* [size][COMM_SMALL_MAX * 8 bytes] */
    struct comm_stats stats;
    double timeout_seconds; /* 0: none */
    enum dtype wire;        /* of sums of fp32 */
    struct device *device;  /* NULL: host memory */
    void *line;             /* the library's communicator; NULL: none, or the world's */
    struct comm_host *host; /* the memory of near ranks; NULL: there are none */
    struct comm_window *windows; /* those that are there */
    int32_t n_windows;           /* those that there have been */

    /* only of the comm over all ranks */
    const struct comm_library *library; /* NULL: none is used */
    bool (*told)(void);                 /* comm_set_told */
    bool said;                          /* that it was told, in this wait */
    struct comm_request *peers;         /* all requests of comms made of it */
    struct comm_request *requests;      /* those whose work is in the device's queue */
    const struct comm_request *watched; /* the oldest of them; NULL: all are done */
    double watched_begun;          /* its work's, as a request is used again and again */
    struct comm_wait watching;     /* for it */
    char why[512];                 /* comm_use_device */
    struct device *shares;         /* whose blocks may be mapped by others; NULL: none */
    struct comm_mapping *mappings; /* [n_mappings] of other processes' blocks */
    int n_mappings;
};

struct comm_request {
    struct comm *c;
    int64_t max_n;
    struct comm_job job;
    bool busy;
    bool inside;               /* its advance is being called */
    struct comm_request *peer; /* in peers of the world */
    void *state;               /* the transport's */
    struct comm_request *next; /* in requests of the world */
    double begun;              /* seconds; of the operation */
};

/* A transport of large vectors.  All but name and in_flight is never called on a comm of one
 * rank. */
struct comm_ops {
    const char *name;
    int in_flight;
    bool needs_host; /* nothing moves outside of advance */
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
extern const struct comm_ops comm_shared_ops;   /* in each other's memory, on one host */
extern const struct comm_ops comm_staged_ops;   /* of a device, through host memory */
extern const struct comm_ops comm_queued_ops;   /* of a device, by comm_library */

/* ---- a library that works in the device's own queue: NCCL --------------------------------- */

enum { COMM_LIBRARY_ID_BYTES = 128 };

/* The plug-in's table "comm_nccl_ops".  A communicator of the library is a `line`; what is begun
 * on one must be ready (progress) before anything else is begun on it.  STATUS_COMM in plain words
 * and in the library's own. */
struct comm_library {
    const char *name;
    /* Find it; `version` is static text. */
    status_t (*load)(const char **version);
    status_t (*make_id)(char id[COMM_LIBRARY_ID_BYTES]);
    /* Begin to make the line of all ranks, or that of the ranks of `line` with this colour. */
    status_t (*open)(void **line, struct device *d, const char id[COMM_LIBRARY_ID_BYTES],
                     int rank, int size);
    status_t (*split)(void **made, void *line, int colour, int rank, int size);
    void (*close)(void *line); /* waits for the others' close */
    void (*abort)(void *line); /* nothing of it is used any more */
    /* Begin the job in DEVICE_COMM. */
    status_t (*start)(void *line, const struct comm_job *job);
    /* Has what was begun been accepted?  Also finds errors of work long under way. */
    status_t (*progress)(void *line, bool *ready);
};

/* Give c, made of a world that uses a device, the same transport, or without over_library the one
 * over MPI; `colour` is that of its line.  Collective on the world; agreed. */
MUST_USE status_t comm_join_device(struct comm *c, int colour, bool over_library);
void comm_close_line(struct comm *c);

/* The library's communicator of c. */
void *comm_line(const struct comm *c);
/* Wait until what was begun on c's line is accepted; dies. */
void comm_library_accepted(struct comm *c, const char *operation, int64_t n);

/* Look after the work in the device's queue while the host waits for something: errors of the
 * library, work that is not getting done.  Dies. */
void comm_watch(struct comm *world);

/* One operation at a time between buffers in host memory, whoever owns them. */
struct comm_exchange;
size_t comm_exchange_staging_bytes(const struct comm *c, int64_t max_n);
MUST_USE status_t comm_exchange_create(struct comm_exchange **e, struct comm *c,
                                       int64_t max_n, void *staging);
void comm_exchange_destroy(struct comm_exchange **e); /* NULL-safe; nulls */
void comm_exchange_begin(struct comm_exchange *e, const struct comm_job *job);
bool comm_exchange_advance(struct comm_exchange *e, bool wait);

/* Move all operations of the world on that only the host moves.  Whoever waits calls it again and
 * again: what another rank needs before it can do what is waited for may be among them. */
void comm_progress(struct comm *world);

/* Is it a process of this host with which this rank may have memory together?  Itself: yes. */
bool comm_is_near(const struct comm *c, int rank);
/* The number of the window of c that x[0..bytes) lies in, and where; 0: in none that another has. */
int32_t comm_window_find(const struct comm *c, const void *x, size_t bytes,
                         size_t *offset);

/* Of this boot of this machine; its name where it tells none. */
void comm_boot_id(char *id, size_t bytes);

/* into[..][i] = parts[0][i] + parts[1][i] + ..., in this order, in fp32, rounded once; vectors of type
 * t, and those summed into may be among the parts.  If the wire's type is not t, all parts but `own`
 * have it (packed), or are rounded to it, and so is the sum if it is sent on (rounds). */
struct comm_sum {
    const void *const *parts;
    void *const *into;
    int n_parts, n_into, own;
    enum dtype t, wire;
    bool packed, rounds;
};
void comm_sum_range(const struct comm_sum *s, int64_t start, int64_t end);
void comm_copy(void *into, const void *from, size_t bytes);

struct comm_wait comm_wait_begin(const struct comm *c, const char *operation, int64_t n);
/* Call it whenever there was nothing to do: dies, naming the operation and the ranks that give no
 * sign of life, when the wait has taken longer than the comm's timeout, or when another rank says
 * that its own has. */
void comm_wait_more(struct comm_wait *w);
void comm_wait_look(struct comm_wait *w); /* the same, without comm_watch */
/* Between two looks at another's memory: leaves the core to others, and sleeps when the wait gets
 * long. */
void comm_wait_pause(struct comm_wait *w);

/* Small things over MPI, on host memory; called with any size. */
void comm_mpi_gather_all(struct comm *c, const void *mine, size_t bytes, void *all);
void comm_mpi_broadcast(struct comm *c, char *data, size_t bytes, int root);
void comm_mpi_gather_bytes(struct comm *c, const char *mine, size_t bytes, int root,
                           char **all, size_t *sizes);
void comm_mpi_barrier(struct comm *c);
