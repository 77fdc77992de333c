/* nccl_emulated - what the files of the emulated NCCL share.
 *
 * Communicators are those of MPI, and an operation is a queue entry that sends and receives in
 * the background: until everybody's part is there it is pending, and other streams go on.  Sums
 * are made in rank order; those of 16 bits are rounded after every addition, as where a sum travels
 * from rank to rank.
 *
 * Meaner than the real one: a call on a communicator that does not block is put into its stream
 * only when ncclCommGetAsyncError has been asked a few times, so that who does not ask finds his
 * next event in front of it; buffers that overlap must do so exactly as NCCL's rules for operations
 * in place say; ranks that call different operations are told so.
 *
 * Faults (emulation.h): nccl_init (making a communicator fails), and on one rank N of all
 * nccl_error=N (ncclCommGetAsyncError reports one), nccl_hang=N (operations never begin there),
 * nccl_die=N (it is killed in an operation); the last three from operation nccl_after=K on (0). */
#pragma once

#include <mpi.h>
#include <nccl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "emulation.h"

enum nccl_kind {
    NCCL_ALL_REDUCE,
    NCCL_REDUCE_SCATTER,
    NCCL_ALL_GATHER,
    NCCL_REDUCE,
    NCCL_BROADCAST,
    NCCL_SEND,
    NCCL_RECEIVE
};

struct ncclComm {
    MPI_Comm mpi;
    int rank, size;
    pthread_t thread; /* that made it: only this one may speak MPI */
    bool blocking, aborted;
    int n_asked_left; /* questions until what was called is accepted; 0: nothing is */
    struct nccl_group *group; /* what will then be put into its stream; NULL: nothing */
    cudaStream_t stream;      /* of all its operations; NULL: none yet */
    int n_groups;             /* called so far */
    int n_under_way;          /* in its stream, not done */
    unsigned n_collectives;
    char error[256];
};

/* One call of the interface. */
struct nccl_call {
    enum nccl_kind kind;
    const char *send;
    char *receive;
    size_t
        count; /* as the interface counts: of a slice for reduce-scatter and all-gather */
    ncclDataType_t type;
    int peer; /* or root */
    int tag;
    char **out, **in; /* [size] parts to and from each rank, in host memory; NULL: none */
};

/* Calls that make progress together. */
struct nccl_group {
    struct ncclComm *comm;
    int index; /* among the groups of comm */
    int n_calls, max_calls;
    struct nccl_call *calls;
    bool posted;
    int n_pending;
    MPI_Request *pending;
};

size_t nccl_type_bytes(ncclDataType_t type);
const char *nccl_kind_name(enum nccl_kind kind);

/* Is this rank of all the one that the fault is for, and is it time (groups are counted by
 * communicator)? */
bool nccl_fault(const char *item, int group);

/* For emulation_queue. */
enum emulation_progress nccl_group_run(void *group);
void nccl_group_release(void *group);
