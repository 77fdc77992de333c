/* The runtime's functions on memory.
 *
 * Page-locked memory is read and written when the copy runs, and the destination of a copy to it is
 * filled with 0xFF bytes when the copy is queued, unless an earlier copy has yet to read it.
 * Pageable memory follows the real device: a copy
 * from it has read its source on return, a copy to it is complete on return. */
#include <stdlib.h>
#include <string.h>

#include "emulation.h"
#include "memory.h"
#include "stream.h"

static cudaError_t leave(cudaError_t e)
{
    work_unlock();
    return stream_error(e);
}

/* ---- allocation ---------------------------------------------------------------------------------- */

static cudaError_t allocate(enum memory_place place, void **p, size_t bytes)
{
    int device;
    const cudaError_t no_device = cudaGetDevice(&device);
    if (no_device) return no_device;
    work_lock();
    cudaError_t e = work_failure();
    *p = NULL;
    if (e == cudaSuccess) e = capture_forbids();
    if (e == cudaSuccess && bytes > 0) {
        *p = memory_alloc(place, device, bytes);
        if (!*p) e = cudaErrorMemoryAllocation;
    }
    return leave(e);
}

/* Real frees wait for the device as well. */
static cudaError_t release(enum memory_place place, void *p)
{
    if (!p) return cudaSuccess;
    work_lock();
    cudaError_t e = capture_forbids();
    if (e == cudaSuccess) {
        work_wait(NULL);
        e = work_failure();
    }
    if (!memory_free(place, p) && e == cudaSuccess) e = cudaErrorInvalidValue;
    return leave(e);
}

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    return allocate(MEMORY_DEVICE, p, bytes);
}

cudaError_t cudaFree(void *p)
{
    return release(MEMORY_DEVICE, p);
}

cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    return allocate(MEMORY_PINNED, p, bytes);
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned flags)
{
    return flags > cudaHostAllocPortable ? stream_error(cudaErrorNotSupported)
                                         : cudaMallocHost(p, bytes);
}

cudaError_t cudaFreeHost(void *p)
{
    return release(MEMORY_PINNED, p);
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    int device;
    const cudaError_t no_device = cudaGetDevice(&device);
    if (no_device) return no_device;
    work_lock();
    memory_info(device, free_bytes, total_bytes);
    return leave(work_failure());
}

/* ---- copies -------------------------------------------------------------------------------------- */

struct copy {
    struct copy *next; /* in readers */
    int n_pending;     /* times it is queued and has not run */
    void *to;
    const void *from; /* NULL: fill with byte */
    int byte;
    bool poison; /* to: until it is there */
    size_t bytes;
    unsigned char taken[]; /* of a pageable source */
};

static struct copy *readers; /* of page-locked memory */

static enum emulation_progress run_copy(void *context)
{
    struct copy *const c = context;
    c->n_pending--;
    if (c->from)
        memcpy(c->to, c->from, c->bytes);
    else
        memset(c->to, c->byte, c->bytes);
    return EMULATION_DONE;
}

static bool has_reader(const char *p, size_t bytes)
{
    for (const struct copy *r = readers; r; r = r->next) {
        const char *const from = r->from;
        if (r->n_pending > 0 && from < p + bytes && p < from + r->bytes) return true;
    }
    return false;
}

static void copy_queued(void *context)
{
    struct copy *const c = context;
    c->n_pending++;
    if (c->poison && !has_reader(c->to, c->bytes)) memset(c->to, 0xFF, c->bytes);
}

static void forget_copy(void *context)
{
    struct copy **at = &readers;
    while (*at && *at != context) at = &(*at)->next;
    if (*at) *at = (*at)->next;
    free(context);
}

/* Do the places of both ends fit the direction that was named? */
static bool kind_fits(enum cudaMemcpyKind kind, enum memory_place to,
                      enum memory_place from)
{
    const bool to_device = to == MEMORY_DEVICE, from_device = from == MEMORY_DEVICE;
    switch (kind) {
    case cudaMemcpyHostToHost:
        return !to_device && !from_device;
    case cudaMemcpyHostToDevice:
        return to_device && !from_device;
    case cudaMemcpyDeviceToHost:
        return !to_device && from_device;
    case cudaMemcpyDeviceToDevice:
        return to_device && from_device;
    case cudaMemcpyDefault:
        return true;
    }
    return false;
}

/* With the lock held.  Waits where the real call would. */
static cudaError_t queue_copy(struct emulation_stream *s, void *to, const void *from,
                              size_t bytes, enum cudaMemcpyKind kind, bool wait)
{
    bool to_fits, from_fits;
    const enum memory_place to_place = memory_place(to, bytes, &to_fits);
    const enum memory_place from_place = memory_place(from, bytes, &from_fits);
    if (bytes == 0) return work_failure();
    if (!to || !from || !to_fits || !from_fits) return cudaErrorInvalidValue;
    if (!kind_fits(kind, to_place, from_place)) return cudaErrorInvalidMemcpyDirection;

    const bool take = from_place == MEMORY_PAGEABLE;
    wait = wait || to_place == MEMORY_PAGEABLE;
    if (wait) {
        const cudaError_t e = capture_forbids();
        if (e != cudaSuccess) return e;
    }
    struct copy *const c = malloc(sizeof *c + (take ? bytes : 0));
    if (!c) return cudaErrorMemoryAllocation;
    *c = (struct copy){.to = to, .from = from, .bytes = bytes};
    c->poison = to_place == MEMORY_PINNED;
    if (take) c->from = memcpy(c->taken, from, bytes);
    if (from_place == MEMORY_PINNED) {
        c->next = readers;
        readers = c;
    }
    struct payload *const p = payload_create("cudaMemcpyAsync", run_copy, forget_copy, c);
    p->queued = copy_queued;
    cudaError_t e = stream_add(s, p);
    if (e == cudaSuccess &&
        (wait || (!take && emulation_random(4) == 0 && !s->at.capture)))
        work_wait(
            s->tail); /* a copy may as well be made before the host does anything else */
    return e == cudaSuccess ? work_failure() : e;
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes,
                            enum cudaMemcpyKind kind, cudaStream_t stream)
{
    work_lock();
    struct emulation_stream *const s = stream_find(stream);
    return leave(s ? queue_copy(s, dst, src, bytes, kind, false)
                   : cudaErrorInvalidResourceHandle);
}

cudaError_t cudaMemcpy(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind)
{
    work_lock();
    return leave(queue_copy(stream_find(NULL), dst, src, bytes, kind, true));
}

cudaError_t cudaMemsetAsync(void *dst, int byte, size_t bytes, cudaStream_t stream)
{
    bool fits;
    work_lock();
    struct emulation_stream *const s = stream_find(stream);
    if (!s) return leave(cudaErrorInvalidResourceHandle);
    if (bytes == 0) return leave(work_failure());
    if (memory_place(dst, bytes, &fits) == MEMORY_PAGEABLE || !fits)
        return leave(cudaErrorInvalidValue);
    struct copy *const c = malloc(sizeof *c);
    if (!c) return leave(cudaErrorMemoryAllocation);
    *c = (struct copy){.to = dst, .byte = byte, .bytes = bytes};
    return leave(stream_add(s, payload_create("cudaMemsetAsync", run_copy, free, c)));
}

cudaError_t cudaMemset(void *dst, int byte, size_t bytes)
{
    return cudaMemsetAsync(dst, byte, bytes, NULL);
}
