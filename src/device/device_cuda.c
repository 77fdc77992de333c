/* An NVIDIA GPU as a device.
 *
 * Memory is plain cudaMalloc (managed memory moves behind one's back) and page-locked host memory.
 * The three queues are non-blocking streams: the default stream would order all of them.  comm has
 * a higher priority than compute, so that a reduction that is ready does not stand behind a whole
 * backward pass. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "device/device_cuda_impl.h"

enum { LEAST_BF16 = 80, LEAST_F16 = 70 };

extern const char yoke_cuda_version[];
extern const struct device_ops device_cuda_ops;

const char yoke_cuda_version[] = YOKE_VERSION;

/* Which device calls mean is a property of the thread. */
static _Thread_local int chosen = -1;

static cudaError_t choose(int index)
{
    const cudaError_t e = cudaSetDevice(index);
    chosen = e == cudaSuccess ? index : -1;
    return e;
}

struct cuda_state *device_cuda_state(const struct device *d)
{
    struct cuda_state *s = d->state;
    if (chosen != s->index) device_cuda_check(choose(s->index), "cudaSetDevice");
    return s;
}

int device_cuda_capability(const struct device *d)
{
    return ((const struct cuda_state *)d->state)->capability;
}

int device_cuda_multiprocessors(const struct device *d)
{
    return ((const struct cuda_state *)d->state)->multiprocessors;
}

/* ---- life ---------------------------------------------------------------------------------- */

static cudaError_t make_streams(struct cuda_state *s)
{
    int least = 0, greatest = 0;
    cudaError_t e = cudaDeviceGetStreamPriorityRange(&least, &greatest);
    for (int q = 0; q < DEVICE_QUEUES && e == cudaSuccess; q++)
        e = cudaStreamCreateWithPriority(&s->streams[q], cudaStreamNonBlocking,
                                         q == DEVICE_COMM ? greatest : least);
    for (int i = 0; i < CUDA_RING && e == cudaSuccess; i++)
        e = cudaEventCreateWithFlags(&s->ring[i], cudaEventDisableTiming);
    return e;
}

static void release(struct cuda_state *s)
{
    for (int i = 0; i < CUDA_RING; i++)
        if (s->ring[i]) cudaEventDestroy(s->ring[i]);
    for (int q = 0; q < DEVICE_QUEUES; q++)
        if (s->streams[q]) cudaStreamDestroy(s->streams[q]);
    free(s);
}

static status_t open_cuda(struct device *d, int index)
{
    int count;
    struct cudaDeviceProp p;
    TRY(device_cuda_count(&count));
    if (index < 0 || index >= count)
        return status_set(
            STATUS_DEVICE,
            "cuda: there is no device %d: %d %s visible (CUDA_VISIBLE_DEVICES is "
            "%s)",
            index, count, count == 1 ? "is" : "are", device_cuda_visible());
    struct cuda_state *s = calloc(1, sizeof *s);
    if (!s) return status_set(STATUS_NOMEM, "no memory for a device");
    status_t st = STATUS_OK;
    s->index = index;
    snprintf(s->model, sizeof s->model, "device %d", index);
    cudaError_t e = cudaGetDeviceProperties(&p, index);
    if (e == cudaSuccess) {
        s->capability = 10 * p.major + p.minor;
        s->multiprocessors = p.multiProcessorCount;
        snprintf(s->model, sizeof s->model, "%.*s", (int)sizeof s->model - 1, p.name);
        e = cudaDeviceGetPCIBusId(s->id, sizeof s->id, index);
    }
    if (e == cudaSuccess) st = device_cuda_check_capability(s);
    if (e == cudaSuccess && st == STATUS_OK) e = choose(index);
    if (e == cudaSuccess && st == STATUS_OK) e = make_streams(s);
    if (e != cudaSuccess) {
        cudaGetLastError();
        st = status_set(STATUS_DEVICE, "cuda: %s at %s cannot be opened: %s (%s)",
                        s->model, s->id[0] ? s->id : "?", device_cuda_reason(e),
                        cudaGetErrorName(e));
    }
    if (st != STATUS_OK) {
        release(s);
        return st;
    }
    /* waits poll and nap (device_queue_cuda.c): a nap must not last a multiple of what it should */
    prctl(PR_SET_TIMERSLACK, 1000UL);
    d->state = s;
    device_cuda_blame(d);
    return STATUS_OK;
}

static void close_cuda(struct device *d)
{
    for (int q = 0; q < DEVICE_QUEUES; q++) device_cuda_wait(d, (enum device_queue)q);
    device_cuda_exonerate(d);
    release(d->state);
}

static bool supports_cuda(const struct device *d, enum dtype t)
{
    const int capability = device_cuda_capability(d);
    return t == DTYPE_F32 || (t == DTYPE_BF16 && capability >= LEAST_BF16) ||
           (t == DTYPE_F16 && capability >= LEAST_F16);
}

/* ---- description --------------------------------------------------------------------------- */

static void describe_cuda(const struct device *d, struct device_info *info)
{
    const struct cuda_state *s = device_cuda_state(d);
    snprintf(info->model, sizeof info->model, "%s", s->model);
    snprintf(info->id, sizeof info->id, "%s", s->id);
    info->major = s->capability / 10;
    info->minor = s->capability % 10;
    device_cuda_check(cudaMemGetInfo(&info->free_bytes, &info->total_bytes),
                      "cudaMemGetInfo");
    device_cuda_describe_libraries(info->libraries, sizeof info->libraries);
}

/* ---- memory -------------------------------------------------------------------------------- */

/* Was there none left?  Also while work is recorded; anything else is a failure of the device. */
static bool exhausted(cudaError_t e, const char *what)
{
    if (e != cudaErrorMemoryAllocation) device_cuda_check(e, what);
    if (e != cudaSuccess) cudaGetLastError();
    return e != cudaSuccess;
}

static void *alloc_cuda(struct device *d, size_t bytes)
{
    void *p = NULL;
    device_cuda_state(d);
    if (bytes == 0) bytes = 1;
    if (exhausted(cudaMalloc(&p, bytes), "cudaMalloc")) return NULL;
    device_cuda_ops.zero(d, p, bytes);
    device_cuda_wait(d, DEVICE_COMPUTE); /* other queues find it zeroed, too */
    return p;
}

static void free_cuda(struct device *d, void *p, size_t bytes)
{
    (void)bytes;
    device_cuda_state(d);
    device_cuda_check(cudaFree(p), "cudaFree");
}

static void *alloc_host_cuda(struct device *d, size_t bytes)
{
    struct cuda_state *s = device_cuda_state(d);
    void *p = NULL;
    if (bytes == 0) bytes = 1;
    struct cuda_pinned *block = malloc(sizeof *block);
    if (!block) return NULL;
    if (exhausted(cudaMallocHost(&p, bytes), "cudaMallocHost")) {
        free(block);
        return NULL;
    }
    *block = (struct cuda_pinned){s->pinned, p, bytes};
    s->pinned = block;
    memset(p, 0, bytes);
    return p;
}

static void free_host_cuda(struct device *d, void *p, size_t bytes)
{
    (void)bytes;
    struct cuda_state *s = device_cuda_state(d);
    for (struct cuda_pinned **at = &s->pinned; *at; at = &(*at)->next)
        if ((*at)->base == p) {
            struct cuda_pinned *gone = *at;
            *at = gone->next;
            free(gone);
            break;
        }
    device_cuda_check(cudaFreeHost(p), "cudaFreeHost");
}

static bool is_pinned(const struct cuda_state *s, const void *p)
{
    for (const struct cuda_pinned *b = s->pinned; b; b = b->next)
        if ((const char *)p >= b->base && (const char *)p < b->base + b->bytes)
            return true;
    return false;
}

/* A copy from or to ordinary host memory waits inside the driver for what is queued before it,
 * where no clock runs; so that wait is done here, first. */
static void copy(struct device *d, enum device_queue q, void *dst, const void *src,
                 const void *host, size_t bytes, enum cudaMemcpyKind kind)
{
    const struct cuda_state *s = device_cuda_state(d);
    if (bytes == 0) return;
    if (!is_pinned(s, host)) device_cuda_wait(d, q);
    device_cuda_check(cudaMemcpyAsync(dst, src, bytes, kind, s->streams[q]),
                      kind == cudaMemcpyHostToDevice ? "copy to the device"
                                                     : "copy from the device");
}

static void copy_in_cuda(struct device *d, enum device_queue q, void *dst,
                         const void *host, size_t bytes)
{
    copy(d, q, dst, host, host, bytes, cudaMemcpyHostToDevice);
}

static void copy_out_cuda(struct device *d, enum device_queue q, void *host,
                          const void *src, size_t bytes)
{
    copy(d, q, host, src, host, bytes, cudaMemcpyDeviceToHost);
}

static void zero_cuda(struct device *d, void *dst, size_t bytes)
{
    const struct cuda_state *s = device_cuda_state(d);
    if (bytes == 0) return;
    device_cuda_check(cudaMemsetAsync(dst, 0, bytes, s->streams[DEVICE_COMPUTE]),
                      "cudaMemsetAsync");
}

const struct device_ops device_cuda_ops = {
    .name = "cuda",
    .count = device_cuda_count,
    .open = open_cuda,
    .close = close_cuda,
    .supports = supports_cuda,
    .describe = describe_cuda,
    .alloc = alloc_cuda,
    .free = free_cuda,
    .alloc_host = alloc_host_cuda,
    .free_host = free_host_cuda,
    .copy_in = copy_in_cuda,
    .copy_out = copy_out_cuda,
    .zero = zero_cuda,
    .order = device_cuda_order,
    .wait = device_cuda_wait,
    .mark_create = device_cuda_mark_create,
    .mark_destroy = device_cuda_mark_destroy,
    .mark_set = device_cuda_mark_set,
    .mark_done = device_cuda_mark_done,
    .mark_wait = device_cuda_mark_wait,
    .mark_order = device_cuda_mark_order,
    .record_begin = device_cuda_record_begin,
    .record_end = device_cuda_record_end,
    .replay = device_cuda_replay,
    .graph_destroy = device_cuda_graph_destroy,
};
