/* The emulated NCCL's communicators and calls. */
#include "nccl_emulated.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TAGS = 1 << 14, TAG_MESSAGE = TAGS, ASKED_MAX = 4 };

static struct nccl_group *open_group; /* between ncclGroupStart and ncclGroupEnd */
static int depth;

size_t nccl_type_bytes(ncclDataType_t type)
{
    switch (type) {
    case ncclInt8:
    case ncclUint8:
        return 1;
    case ncclFloat16:
    case ncclBfloat16:
        return 2;
    case ncclInt32:
    case ncclFloat32:
        return 4;
    }
    emulation_fail("NCCL: type %d is not emulated", (int)type);
}

const char *nccl_kind_name(enum nccl_kind kind)
{
    static const char *const names[] = {
        "AllReduce", "ReduceScatter", "AllGather", "Reduce", "Broadcast", "Send", "Recv"};
    return kind <= NCCL_RECEIVE ? names[kind] : "nothing known";
}

static long fault_number(const char *item)
{
    const char *value = emulation_fault(item);
    return value ? strtol(value, NULL, 10) : -1;
}

bool nccl_fault(const char *item, int group)
{
    int rank = 0;
    if (fault_number(item) < 0) return false;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return fault_number(item) == rank && group >= fault_number("nccl_after");
}

/* ---- communicators -------------------------------------------------------------------------- */

ncclResult_t ncclGetVersion(int *version)
{
    *version = 22809;
    return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    for (int i = 0; i < NCCL_UNIQUE_ID_BYTES; i++)
        id->internal[i] = (char)emulation_random(256);
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result)
{
    static const char *const names[] = {
        "no error",
        "unhandled cuda error",
        "unhandled system error",
        "internal error",
        "invalid argument",
        "invalid usage",
        "remote process exited or there was a network error",
        "NCCL operation in progress"};
    return (unsigned)result < sizeof names / sizeof *names ? names[result] : "unknown";
}

const char *ncclGetLastError(ncclComm_t comm)
{
    return comm ? comm->error : "";
}

static void later(struct ncclComm *comm)
{
    if (!comm->blocking) comm->n_asked_left = 1 + (int)emulation_random(ASKED_MAX);
}

static struct ncclComm *make_comm(MPI_Comm mpi, const ncclConfig_t *config)
{
    if (!config || config->magic != 0xcafebeef || config->size != sizeof *config)
        emulation_fail("NCCL: a configuration without NCCL_CONFIG_INITIALIZER");
    struct ncclComm *comm = calloc(1, sizeof *comm);
    if (!comm) emulation_fail("NCCL: no memory for a communicator");
    comm->mpi = mpi;
    MPI_Comm_set_errhandler(mpi, MPI_ERRORS_RETURN);
    MPI_Comm_rank(mpi, &comm->rank);
    MPI_Comm_size(mpi, &comm->size);
    comm->thread = pthread_self();
    comm->blocking = config->blocking != 0;
    later(comm);
    return comm;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int size, ncclUniqueId id, int rank,
                                    ncclConfig_t *config)
{
    int world_rank = 0, world_size = 0;
    ncclUniqueId first = id;
    MPI_Comm mpi;
    *comm = NULL;
    if (emulation_fault("nccl_init")) return ncclSystemError;
    MPI_Comm_rank(MPI_COMM_WORLD, &world_rank);
    MPI_Comm_size(MPI_COMM_WORLD, &world_size);
    if (rank != world_rank || size != world_size)
        emulation_fail("NCCL: only a communicator of all ranks of MPI is emulated");
    if (MPI_Comm_dup(MPI_COMM_WORLD, &mpi) != MPI_SUCCESS) return ncclSystemError;
    MPI_Bcast(first.internal, NCCL_UNIQUE_ID_BYTES, MPI_BYTE, 0, mpi);
    if (memcmp(&first, &id, sizeof id) != 0)
        emulation_fail("NCCL: the id of rank %d is not that of rank 0", rank);
    *comm = make_comm(mpi, config);
    return (*comm)->blocking ? ncclSuccess : ncclInProgress;
}

static void must_be_idle(const struct ncclComm *comm, const char *call)
{
    if (!comm) emulation_fail("NCCL: nccl%s without a communicator", call);
    if (comm->aborted) emulation_fail("NCCL: nccl%s after ncclCommAbort", call);
    if (comm->n_asked_left > 0)
        emulation_fail("NCCL: nccl%s while an earlier call is in progress: ask "
                       "ncclCommGetAsyncError until it is not",
                       call);
}

ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t *made,
                           ncclConfig_t *config)
{
    MPI_Comm mpi;
    must_be_idle(comm, "CommSplit");
    *made = NULL;
    if (MPI_Comm_split(comm->mpi, color < 0 ? MPI_UNDEFINED : color, key, &mpi))
        return ncclSystemError;
    later(comm);
    if (mpi != MPI_COMM_NULL) *made = make_comm(mpi, config);
    return comm->blocking ? ncclSuccess : ncclInProgress;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
    must_be_idle(comm, "CommFinalize");
    later(comm);
    return comm->blocking ? ncclSuccess : ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    must_be_idle(comm, "CommDestroy");
    if (comm->n_under_way)
        emulation_fail("NCCL: ncclCommDestroy with %d operations under way",
                       comm->n_under_way);
    MPI_Comm_free(&comm->mpi);
    free(comm);
    return ncclSuccess;
}

/* What is under way still points to it, so it stays. */
ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    comm->aborted = true;
    return ncclSuccess;
}

static ncclResult_t into_stream(struct nccl_group *g)
{
    struct ncclComm *comm = g->comm;
    comm->n_under_way++;
    return emulation_queue(comm->stream, nccl_kind_name(g->calls[0].kind), nccl_group_run,
                           nccl_group_release, g) == cudaSuccess
               ? ncclSuccess
               : ncclUnhandledCudaError;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error)
{
    *error = ncclSuccess;
    if (comm->aborted) emulation_fail("NCCL: ncclCommGetAsyncError after ncclCommAbort");
    if (nccl_fault("nccl_error", comm->n_groups - 1)) {
        snprintf(comm->error, sizeof comm->error, "a fault was asked for");
        *error = ncclSystemError;
    } else if (comm->n_asked_left > 0 && --comm->n_asked_left > 0) {
        *error = ncclInProgress;
    } else if (comm->group) {
        *error = into_stream(comm->group);
        comm->group = NULL;
    }
    return ncclSuccess;
}

/* ---- calls ---------------------------------------------------------------------------------- */

ncclResult_t ncclGroupStart(void)
{
    if (depth++ > 0) return ncclSuccess;
    open_group = calloc(1, sizeof *open_group);
    if (!open_group) emulation_fail("NCCL: no memory for a group");
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    if (depth == 0) emulation_fail("NCCL: ncclGroupEnd without ncclGroupStart");
    if (--depth > 0) return ncclSuccess;
    struct nccl_group *g = open_group;
    open_group = NULL;
    if (g->n_calls == 0) {
        nccl_group_release(g);
        return ncclSuccess;
    }
    struct ncclComm *comm = g->comm;
    g->index = comm->n_groups++;
    if (comm->blocking) return into_stream(g);
    comm->group = g;
    later(comm);
    return ncclInProgress;
}

static bool overlap(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    return a < b + b_bytes && b < a + a_bytes;
}

/* Buffers are in device memory, and overlap only as an operation in place may. */
static void check_buffers(const struct ncclComm *comm, const struct nccl_call *c)
{
    const size_t bytes = c->count * nccl_type_bytes(c->type);
    const size_t all = bytes * (size_t)comm->size, own = bytes * (size_t)comm->rank;
    const size_t out = c->kind == NCCL_REDUCE_SCATTER ? all : bytes;
    const size_t in = c->kind == NCCL_ALL_GATHER ? all : bytes;
    const char *name = nccl_kind_name(c->kind);
    if (c->send && !emulation_is_device(c->send, out))
        emulation_fail("NCCL: nccl%s of %zu bytes at %p, which is no device memory", name,
                       out, (const void *)c->send);
    if (c->receive && !emulation_is_device(c->receive, in))
        emulation_fail("NCCL: nccl%s into %zu bytes at %p, which is no device memory",
                       name, in, (const void *)c->receive);
    if (!c->send || !c->receive || !overlap(c->send, out, c->receive, in)) return;
    const char *want_send = c->receive, *want_receive = c->send;
    if (c->kind == NCCL_ALL_GATHER) want_send = c->receive + own;
    if (c->kind == NCCL_REDUCE_SCATTER) want_receive = c->send + own;
    if (c->kind == NCCL_REDUCE_SCATTER ? c->receive != want_receive
                                       : c->send != want_send)
        emulation_fail(
            "NCCL: nccl%s in place with buffers at %p and %p of rank %d of %d: it "
            "wants the own slice at rank * count",
            name, (const void *)c->send, (const void *)c->receive, comm->rank,
            comm->size);
}

static void add_call(struct nccl_group *g, const struct nccl_call *c)
{
    if (g->n_calls == g->max_calls) {
        g->max_calls = 2 * g->max_calls + 4;
        g->calls = realloc(g->calls, (size_t)g->max_calls * sizeof *g->calls);
        if (!g->calls) emulation_fail("NCCL: no memory for a group");
    }
    g->calls[g->n_calls++] = *c;
}

static ncclResult_t call(struct nccl_call c, ncclComm_t comm, cudaStream_t stream)
{
    must_be_idle(comm, nccl_kind_name(c.kind));
    if (c.peer < 0 || c.peer >= comm->size) return ncclInvalidArgument;
    const bool message = c.kind == NCCL_SEND || c.kind == NCCL_RECEIVE;
    if (message && c.peer == comm->rank)
        emulation_fail("NCCL: a message to oneself is not emulated");
    check_buffers(comm, &c);
    c.tag = message ? TAG_MESSAGE : (int)(comm->n_collectives++ % TAGS);
    if (comm->stream && comm->stream != stream)
        emulation_fail("NCCL: a communicator on two streams is not emulated");
    comm->stream = stream;
    ncclGroupStart();
    if (open_group->comm && open_group->comm != comm)
        emulation_fail("NCCL: a group on two communicators is not emulated");
    open_group->comm = comm;
    add_call(open_group, &c);
    return ncclGroupEnd();
}

static void only_sums(ncclDataType_t type, ncclRedOp_t op)
{
    if (op != ncclSum ||
        (type != ncclFloat32 && type != ncclBfloat16 && type != ncclFloat16))
        emulation_fail("NCCL: only sums of fp32, bf16 and fp16 are emulated");
}

ncclResult_t ncclAllReduce(const void *send, void *receive, size_t count,
                           ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
                           cudaStream_t stream)
{
    only_sums(type, op);
    return call((struct nccl_call){.kind = NCCL_ALL_REDUCE,
                                   .send = send,
                                   .receive = receive,
                                   .count = count,
                                   .type = type},
                comm, stream);
}

ncclResult_t ncclReduceScatter(const void *send, void *receive, size_t receive_count,
                               ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
                               cudaStream_t stream)
{
    only_sums(type, op);
    return call((struct nccl_call){.kind = NCCL_REDUCE_SCATTER,
                                   .send = send,
                                   .receive = receive,
                                   .count = receive_count,
                                   .type = type},
                comm, stream);
}

ncclResult_t ncclAllGather(const void *send, void *receive, size_t send_count,
                           ncclDataType_t type, ncclComm_t comm, cudaStream_t stream)
{
    return call((struct nccl_call){.kind = NCCL_ALL_GATHER,
                                   .send = send,
                                   .receive = receive,
                                   .count = send_count,
                                   .type = type},
                comm, stream);
}

ncclResult_t ncclReduce(const void *send, void *receive, size_t count,
                        ncclDataType_t type, ncclRedOp_t op, int root, ncclComm_t comm,
                        cudaStream_t stream)
{
    only_sums(type, op);
    return call((struct nccl_call){.kind = NCCL_REDUCE,
                                   .send = send,
                                   .receive = receive,
                                   .count = count,
                                   .type = type,
                                   .peer = root},
                comm, stream);
}

ncclResult_t ncclBroadcast(const void *send, void *receive, size_t count,
                           ncclDataType_t type, int root, ncclComm_t comm,
                           cudaStream_t stream)
{
    return call((struct nccl_call){.kind = NCCL_BROADCAST,
                                   .send = send,
                                   .receive = receive,
                                   .count = count,
                                   .type = type,
                                   .peer = root},
                comm, stream);
}

ncclResult_t ncclSend(const void *send, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream)
{
    return call(
        (struct nccl_call){
            .kind = NCCL_SEND, .send = send, .count = count, .type = type, .peer = peer},
        comm, stream);
}

ncclResult_t ncclRecv(void *receive, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream)
{
    return call((struct nccl_call){.kind = NCCL_RECEIVE,
                                   .receive = receive,
                                   .count = count,
                                   .type = type,
                                   .peer = peer},
                comm, stream);
}
