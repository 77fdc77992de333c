/* comm - collectives along axes of the mesh, or over all ranks.
 *
 * A comm owns its communicator, never the buffers it is given.  All its ranks make the same
 * calls in the same order.  Sizes are elements, never bytes.  Sums are made in a fixed order
 * (without NCCL that of the ranks, in fp32, rounded once), whatever arrives first, so that a result
 * is the same bitwise every time.  Functions that return void are of the step regime: a failure
 * ends all ranks, and so does a wait past comm_set_timeout. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/dtype.h"
#include "core/status.h"
#include "device/device.h"
#include "parallel/mesh/mesh.h"

struct comm;

/* Start MPI if it is not running, make log and die know this rank, and make the comm over all
 * ranks.  Collective on all ranks.  STATUS_COMM. */
MUST_USE status_t comm_start(struct comm **world, int *argc, char ***argv);
/* Release `world` and end MPI. */
void comm_finish(struct comm **world);
/* A world of this rank alone, beside the one of all ranks, after comm_start.  Local.  STATUS_COMM,
 * STATUS_NOMEM. */
MUST_USE status_t comm_alone(struct comm **c);
bool comm_has_all(const struct comm *c); /* is it of all ranks that were started? */
/* Name and version of the MPI library, one line.  Needs no comm. */
void comm_describe_mpi(char *text, size_t bytes);

/* The comm of the ranks that differ from this one only along `axes`, in the order of the world.
 * Collective on world.  STATUS_COMM, STATUS_NOMEM; agreed. */
MUST_USE status_t comm_create(struct comm **c, struct comm *world, const struct mesh *m,
                              mesh_axes axes);
/* The same, but large vectors travel over MPI also where the world uses NCCL: its messages go in
 * the order in which they are queued, so that two ranks whose schedules cross would wait for each
 * other for ever. */
MUST_USE status_t comm_create_host(struct comm **c, struct comm *world,
                                   const struct mesh *m, mesh_axes axes);
/* A comm as it would be on rank `rank` of `size`, with large vectors in the memory of `dev`
 * (over_library: over NCCL if that is not the host's).  It serves to plan memory: requests are
 * created on an arena that measures, and nothing can be sent.  Needs no MPI.  Local.
 * STATUS_NOMEM. */
MUST_USE status_t comm_imagine(struct comm **c, int rank, int size, struct device *dev,
                               bool over_library);
void comm_destroy(struct comm **c); /* NULL-safe; nulls */

int comm_rank(const struct comm *c);
int comm_size(const struct comm *c);

/* ---- where large vectors live ------------------------------------------------------------ */

enum comm_transport {
    COMM_TRANSPORT_AUTO, /* NCCL where it is and every rank has a GPU of its own, else MPI */
    COMM_TRANSPORT_NCCL,
    COMM_TRANSPORT_MPI /* staged through page-locked host memory when dev is not the host's */
};

/* From now on the large vectors of `world`, and of every comm that comm_create makes of it, are in
 * the memory of `dev`.  With NCCL: makes the communicator, and comm_create splits it.  Without this
 * call they are in host memory; NULL puts them there again, before dev is closed and after all
 * that was made of world is destroyed.  *why (world's text, until the next call) says what was
 * chosen and for what reason.  The device's watch is world's from now on (device_set_watch).
 * Collective on world, before comm_create; agreed.  STATUS_COMM. */
MUST_USE status_t comm_use_device(struct comm *world, struct device *dev,
                                  enum comm_transport t, const char **why);
/* Undo it, before dev is closed: large vectors are in host memory again.  Comms made of `world`
 * since must be destroyed before.  Local. */
void comm_leave_device(struct comm *world);
const char *comm_transport_name(const struct comm *c); /* "mpi", "mpi, staged", "nccl" */

/* From now on fp32 vectors that are summed over c travel as `wire`: fp32 (the default), or bf16 for
 * half of the bytes.  What a rank sends, its part and in an all-reduce the sum, is rounded to it once;
 * sums are fp32, and all ranks still get the same bits, the same also where nothing is sent (shared
 * memory).  Not over NCCL.  The same on all ranks of c, and while nothing is under way. */
void comm_set_wire(struct comm *c, enum dtype wire);

/* A wait for other ranks that takes longer dies, naming the operation (0: never; the default).
 * For `c` and what comm_create makes of it later. */
void comm_set_timeout(struct comm *c, double seconds);

/* `told` (of `world`; NULL: nothing) says whether this process was told to end.  A launcher tells
 * that to all when one of them has died, shortly before it ends them: a rank that is then waiting
 * for others says so, with step and operation, because it will not get to its timeout. */
void comm_set_told(struct comm *world, bool (*told)(void));

/* All ranks get the same status: STATUS_OK if all are ok, else that of the lowest failing rank,
 * whose sentence becomes everybody's (prefixed with its rank if there are several).
 * Collective on c. */
MUST_USE status_t comm_agree(struct comm *c, status_t local);

/* Small blocking reductions, in place, on host memory.  Collective on c. */
void comm_sum_f64(struct comm *c, double *x, int n);
void comm_sum_i64(struct comm *c, int64_t *x, int n);
void comm_max_i64(struct comm *c, int64_t *x, int n);
void comm_max_f64(struct comm *c, double *x, int n);
void comm_broadcast(struct comm *c, void *data, size_t bytes, int root);
/* all[r * bytes ...] = each rank's `mine`, on every rank. */
void comm_gather_all(struct comm *c, const void *mine, size_t bytes, void *all);
/* Root gets every rank's bytes one behind the other in *all (malloc'ed, caller frees; NULL
 * elsewhere) and their sizes in sizes[size]. */
void comm_gather_bytes(struct comm *c, const void *mine, size_t bytes, int root,
                       char **all, size_t *sizes);
void comm_barrier(struct comm *c);

/* ---- large vectors, non-blocking --------------------------------------------------------- */

/* A vector of n elements is cut into `size` slices; rank r owns slice r. */
void comm_slice(int64_t n, int size, int rank, int64_t *first, int64_t *count);

enum comm_op {
    COMM_REDUCE_SCATTER, /* x's own slice = sum over ranks; the other slices are lost */
    COMM_ALL_GATHER,     /* every slice = its owner's */
    COMM_ALL_REDUCE      /* both */
};

struct comm_request; /* room for one operation in flight; made once, used many times */

/* `max_n`: largest vector, of 4-byte elements.  Staging comes from `arena` (device memory), also
 * while it measures (then *r is NULL); host staging is allocated here and counted by the device.
 * STATUS_NOMEM. */
MUST_USE status_t comm_request_create(struct comm_request **r, struct comm *c,
                                      int64_t max_n, struct arena *arena);
void comm_request_destroy(struct comm_request **r); /* NULL-safe; nulls */
/* Host memory that comm_request_create(max_n) takes from the device: for the memory plan. */
size_t comm_request_host_bytes(const struct comm *c, int64_t max_n);

/* How many requests a caller with many vectors should have: as many as may be in flight together
 * before more of them gain nothing. */
int comm_in_flight(const struct comm *c);

/* Do operations go on only while the host is inside calls of comm?  Then comm_test, often. */
bool comm_needs_host(const struct comm *c);

/* Begin `op` on x[n] of type t in the memory of the comm's device, behind all that is in the
 * device's compute queue now; sums are of fp32, bf16 or fp16.  x is untouchable until the request
 * is done.  `tag` tells apart the operations that are in flight together: the same on all ranks,
 * 0 <= tag < 2^20. */
void comm_start_op(struct comm_request *r, enum comm_op op, void *x, enum dtype t,
                   int64_t n, int tag);
/* The same on x[rows, cols], whose slices are whole rows: comm_slice(rows, size, rank). */
void comm_start_rows(struct comm_request *r, enum comm_op op, void *x, enum dtype t,
                     int64_t rows, int64_t cols, int tag);
/* Move things on without waiting; true when done (also when nothing was begun). */
bool comm_test(struct comm_request *r);
/* Work put into the compute queue from now on finds the result.  The host waits only where the
 * transport needs it (host memory, staging). */
void comm_wait(struct comm_request *r);

/* ---- memory that ranks of one host have together --------------------------------------------- */

/* How many ranks of c, this one among them, may have memory together because they are processes of one
 * host, and how many of them come before this one; 1 and 0: no other may. */
int comm_near(const struct comm *c, int *index);

/* Zeroed memory of d, a block for every host: what a near rank writes at *p all near ranks see.  The
 * device of the first of them counts its bytes, those of the others none.  All ranks of c may begin
 * COMM_ALL_GATHER on a part of it, the same part on each, and no other operation: no slice travels to
 * near ranks then.  The caller sees to it that a rank writes only what it owns, and only when no near
 * rank reads that any more.  Collective on c; agreed.  STATUS_NOMEM, STATUS_COMM. */
MUST_USE status_t comm_window_alloc(struct comm *c, struct device *d, size_t bytes,
                                    const char *purpose, void **p);
/* Takes it from no other rank; before c is destroyed and d closed.  NULL-safe; nulls.  Local. */
void comm_window_free(struct comm *c, struct device *d, void **p);

/* ---- broadcast and messages, non-blocking like the above ----------------------------------- */

/* x[n] of `root` reaches all ranks. */
void comm_start_broadcast(struct comm_request *r, void *x, enum dtype t, int64_t n,
                          int root, int tag);

struct comm_message {
    int peer;
    bool send; /* to peer; else receive from it */
    void *x;   /* [n] of type t, in the memory of the comm's device */
    enum dtype t;
    int64_t n;
};
/* All messages as one group: they make progress together, so that two ranks may send to each
 * other.  `messages` (n_messages <= 8) are copied. */
void comm_start_messages(struct comm_request *r, const struct comm_message *messages,
                         int n_messages, int tag);

/* The same by the MPI library's own blocking collective, to compare with, on host memory.  n is a
 * multiple of the ranks, and no more than INT_MAX; after COMM_REDUCE_SCATTER the sums are in front. */
void comm_mpi_own(struct comm *c, enum comm_op op, float *x, int64_t n);

struct comm_stats {
    uint64_t bytes_sent; /* payload of the operations above, this rank */
    /* Spent inside calls of this comm, on what they move on of others too: no second is counted
     * by two comms. */
    double seconds;
    /* From the start of each operation until it was seen to be done; over NCCL comm_wait sees no
     * more than that it will be. */
    double busy_seconds;
};
struct comm_stats comm_stats(const struct comm *c);
