/* NCCL: large vectors from GPU to GPU, on the device's DEVICE_COMM stream.  Part of the plug-in.
 *
 * The library is found when it is first asked for, not when the plug-in is loaded: a machine
 * without it communicates over MPI.  Communicators do not block: every call may return while NCCL
 * still works in a thread of its own, and progress says when what was begun is in the stream.
 *
 * A vector whose slices are of one length is reduced, scattered and gathered in place.  Other
 * lengths go slice by slice, one reduction or broadcast a rank, as one group. */
#include <dlfcn.h>
#include <nccl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"
#include "device/device_cuda.h"
#include "device/plugin.h"
#include "parallel/comm/comm_impl.h"

_Static_assert(sizeof(ncclUniqueId) == COMM_LIBRARY_ID_BYTES, "as comm_impl.h says");

/* Communicators that do not block came with 2.14, ncclCommSplit with 2.18. */
enum { OLDEST_VERSION = 21800 };
static const double CLOSE_SECONDS = 20;

#define NCCL_FUNCTIONS(X)                                                                \
    X(GetVersion)                                                                        \
    X(GetUniqueId)                                                                       \
    X(GetErrorString)                                                                    \
    X(GetLastError)                                                                      \
    X(CommInitRankConfig)                                                                \
    X(CommSplit)                                                                         \
    X(CommFinalize)                                                                      \
    X(CommDestroy)                                                                       \
    X(CommAbort)                                                                         \
    X(CommGetAsyncError)                                                                 \
    X(AllReduce)                                                                         \
    X(ReduceScatter)                                                                     \
    X(AllGather)                                                                         \
    X(Reduce)                                                                            \
    X(Broadcast)                                                                         \
    X(Send)                                                                              \
    X(Recv)                                                                              \
    X(GroupStart)                                                                        \
    X(GroupEnd)

#define NCCL_POINTER(name) __typeof__(nccl##name) *name;
static struct {
    NCCL_FUNCTIONS(NCCL_POINTER)
    char version[32]; /* "": not loaded */
} nccl;

struct nccl_line {
    ncclComm_t comm;   /* NULL while ncclCommSplit makes it */
    ncclComm_t parent; /* NULL: not being made by ncclCommSplit */
    struct device *device;
    cudaStream_t stream;
    int rank, size;
};

extern const struct comm_library comm_nccl_ops;

/* ---- finding it ---------------------------------------------------------------------------- */

/* What this very file is linked against, else the library of that name. */
static void *find_library(void)
{
    Dl_info self;
    if (dladdr(&comm_nccl_ops, &self)) {
        void *handle = dlopen(self.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
        if (handle && dlsym(handle, "ncclGetVersion")) return handle;
    }
    return plugin_find_library("libnccl.so.2");
}

static status_t load(const char **version)
{
    *version = nccl.version;
    if (nccl.version[0]) return STATUS_OK;
    void *library = find_library();
    if (!library)
        return status_set(
            STATUS_COMM, "NCCL: there is no libnccl.so.2: install libnccl2, or a PyTorch "
                         "that brings it, or put its folder into YOKE_CUDA_LIBDIRS");
    int number = 0;
    *(void **)&nccl.GetVersion = dlsym(library, "ncclGetVersion");
    if (!nccl.GetVersion || nccl.GetVersion(&number) != ncclSuccess ||
        number < OLDEST_VERSION)
        return status_set(STATUS_COMM, "NCCL: version %d is too old; 2.18 or later works",
                          number);
    const char *missing = NULL;
#define NCCL_FIND(name)                                                                  \
    *(void **)&nccl.name = dlsym(library, "nccl" #name);                                 \
    if (!nccl.name) missing = "nccl" #name;
    NCCL_FUNCTIONS(NCCL_FIND)
    if (missing)
        return status_set(STATUS_COMM, "NCCL: version %d lacks %s", number, missing);
    snprintf(nccl.version, sizeof nccl.version, "NCCL %d.%d.%d", number / 10000,
             number / 100 % 100, number % 100);
    return STATUS_OK;
}

/* ---- errors in plain words ----------------------------------------------------------------- */

static const char *meaning(ncclResult_t r)
{
    switch (r) {
    case ncclUnhandledCudaError:
        return "a CUDA call inside NCCL failed";
    case ncclSystemError:
        return "the system refused NCCL something (network, /dev/shm or a limit)";
    case ncclInternalError:
        return "NCCL failed inside, or its memory was overwritten";
    case ncclInvalidArgument:
        return "NCCL was given a wrong argument";
    case ncclInvalidUsage:
        return "NCCL was called wrongly, or two ranks share a GPU";
    case ncclRemoteError:
        return "another rank, or the network to it, failed";
    default:
        return "NCCL failed";
    }
}

static status_t failed(ncclComm_t comm, const char *call, ncclResult_t r)
{
    const char *detail = nccl.GetLastError(comm);
    return status_set(STATUS_COMM, "%s (nccl%s: %s%s%s; NCCL_DEBUG=WARN tells more)",
                      meaning(r), call, nccl.GetErrorString(r),
                      detail && *detail ? ": " : "", detail ? detail : "");
}

static bool accepted(ncclResult_t r)
{
    return r == ncclSuccess || r == ncclInProgress;
}

/* ---- communicators ------------------------------------------------------------------------- */

static status_t make_id(char id[COMM_LIBRARY_ID_BYTES])
{
    ncclUniqueId made;
    const ncclResult_t r = nccl.GetUniqueId(&made);
    if (r != ncclSuccess) return failed(NULL, "GetUniqueId", r);
    memcpy(id, made.internal, COMM_LIBRARY_ID_BYTES);
    return STATUS_OK;
}

static ncclConfig_t not_blocking(void)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    return config;
}

static struct nccl_line *line_of(struct device *d, int rank, int size)
{
    struct nccl_line *line = calloc(1, sizeof *line);
    if (!line) return NULL;
    line->device = d;
    line->stream = device_cuda_stream(d, DEVICE_COMM);
    line->rank = rank;
    line->size = size;
    return line;
}

static status_t no_memory(void)
{
    return status_set(STATUS_NOMEM, "no memory for a communicator of NCCL");
}

static status_t open_line(void **line, struct device *d,
                          const char id[COMM_LIBRARY_ID_BYTES], int rank, int size)
{
    struct nccl_line *made = line_of(d, rank, size);
    if (!made) return no_memory();
    ncclUniqueId unique;
    memcpy(unique.internal, id, COMM_LIBRARY_ID_BYTES);
    ncclConfig_t config = not_blocking();
    *line = made;
    const ncclResult_t r =
        nccl.CommInitRankConfig(&made->comm, size, unique, rank, &config);
    return accepted(r) ? STATUS_OK : failed(made->comm, "CommInitRankConfig", r);
}

static status_t split_line(void **line, void *of, int colour, int rank, int size)
{
    struct nccl_line *parent = of;
    struct nccl_line *made = line_of(parent->device, rank, size);
    if (!made) return no_memory();
    ncclConfig_t config = not_blocking();
    made->parent = parent->comm;
    *line = made;
    const ncclResult_t r =
        nccl.CommSplit(parent->comm, colour, rank, &made->comm, &config);
    return accepted(r) ? STATUS_OK : failed(parent->comm, "CommSplit", r);
}

static status_t state_of(ncclComm_t comm, bool *ready)
{
    ncclResult_t state = ncclSuccess;
    ncclResult_t r = nccl.CommGetAsyncError(comm, &state);
    if (r == ncclSuccess) r = state;
    *ready = r == ncclSuccess;
    return accepted(r) ? STATUS_OK : failed(comm, "CommGetAsyncError", r);
}

static status_t progress(void *of, bool *ready)
{
    struct nccl_line *line = of;
    if (line->parent) {
        TRY(state_of(line->parent, ready));
        if (!*ready) return STATUS_OK;
        line->parent = NULL;
    }
    return state_of(line->comm, ready);
}

static void abort_line(void *of)
{
    struct nccl_line *line = of;
    if (line->comm) nccl.CommAbort(line->comm);
    /* a thread of NCCL may still be splitting, and then writes into it: better lost than freed */
    if (!line->parent) free(line);
}

/* Others may be late; those that never come are not waited for. */
static void close_line(void *of)
{
    struct nccl_line *line = of;
    bool ready = false;
    bool ok = accepted(nccl.CommFinalize(line->comm));
    const double end = clock_seconds() + CLOSE_SECONDS;
    while (ok && !ready && clock_seconds() < end) {
        ok = progress(line, &ready) == STATUS_OK;
        if (!ready) nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    if (!ready) {
        abort_line(line);
        return;
    }
    nccl.CommDestroy(line->comm);
    free(line);
}

/* ---- operations ---------------------------------------------------------------------------- */

static ncclDataType_t type_of(enum dtype t)
{
    static const ncclDataType_t types[DTYPE_COUNT] = {[DTYPE_F32] = ncclFloat32,
                                                      [DTYPE_BF16] = ncclBfloat16,
                                                      [DTYPE_F16] = ncclFloat16,
                                                      [DTYPE_I32] = ncclInt32};
    return types[t];
}

/* Slices of unequal lengths: each to or from its owner. */
static ncclResult_t slice_by_slice(const struct nccl_line *line,
                                   const struct comm_job *job)
{
    const ncclDataType_t t = type_of(job->t);
    ncclResult_t r = ncclSuccess;
    for (int rank = 0; rank < line->size && accepted(r); rank++) {
        int64_t first, count;
        comm_job_slice(job, line->size, rank, &first, &count);
        char *slice = (char *)job->x + (size_t)first * dtype_bytes(job->t);
        if (count == 0) continue;
        if (job->kind == COMM_KIND_ALL_GATHER)
            r = nccl.Broadcast(slice, slice, (size_t)count, t, rank, line->comm,
                               line->stream);
        else
            r = nccl.Reduce(slice, slice, (size_t)count, t, ncclSum, rank, line->comm,
                            line->stream);
    }
    return r;
}

static ncclResult_t in_slices(const struct nccl_line *line, const struct comm_job *job)
{
    const ncclDataType_t t = type_of(job->t);
    if (job->n % (job->unit * line->size) != 0) return slice_by_slice(line, job);
    const size_t count = (size_t)(job->n / line->size);
    char *x = job->x, *own = x + (size_t)line->rank * count * dtype_bytes(job->t);
    return job->kind == COMM_KIND_ALL_GATHER
               ? nccl.AllGather(own, x, count, t, line->comm, line->stream)
               : nccl.ReduceScatter(x, own, count, t, ncclSum, line->comm, line->stream);
}

static ncclResult_t messages(const struct nccl_line *line, const struct comm_job *job)
{
    ncclResult_t r = ncclSuccess;
    for (int i = 0; i < job->n_messages && accepted(r); i++) {
        const struct comm_message *m = &job->messages[i];
        const size_t n = (size_t)m->n;
        const ncclDataType_t t = type_of(m->t);
        if (n == 0) continue;
        r = m->send ? nccl.Send(m->x, n, t, m->peer, line->comm, line->stream)
                    : nccl.Recv(m->x, n, t, m->peer, line->comm, line->stream);
    }
    return r;
}

static ncclResult_t job_in_group(const struct nccl_line *line, const struct comm_job *job)
{
    const size_t n = (size_t)job->n;
    const ncclDataType_t t = type_of(job->t);
    switch (job->kind) {
    case COMM_KIND_ALL_REDUCE:
        return nccl.AllReduce(job->x, job->x, n, t, ncclSum, line->comm, line->stream);
    case COMM_KIND_BROADCAST:
        return nccl.Broadcast(job->x, job->x, n, t, job->root, line->comm, line->stream);
    case COMM_KIND_MESSAGES:
        return messages(line, job);
    default:
        return in_slices(line, job);
    }
}

static status_t start(void *of, const struct comm_job *job)
{
    const struct nccl_line *line = of;
    ncclResult_t r = nccl.GroupStart();
    if (r != ncclSuccess) return failed(line->comm, "GroupStart", r);
    const ncclResult_t inside = job_in_group(line, job);
    r = nccl.GroupEnd();
    if (!accepted(inside)) return failed(line->comm, comm_kind_name(job->kind), inside);
    return accepted(r) ? STATUS_OK : failed(line->comm, "GroupEnd", r);
}

const struct comm_library comm_nccl_ops = {
    .name = "NCCL",
    .load = load,
    .make_id = make_id,
    .open = open_line,
    .split = split_line,
    .close = close_line,
    .abort = abort_line,
    .start = start,
    .progress = progress,
};
