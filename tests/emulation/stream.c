/* Streams and events. */
#include "stream.h"

#include <stdlib.h>

static struct emulation_stream default_stream = {.blocking = true};
static struct emulation_stream *streams; /* all but the default one */
static struct emulation_event *events;
static _Thread_local cudaError_t last_error;

/* ---- errors -------------------------------------------------------------------------------------- */

cudaError_t stream_error(cudaError_t e)
{
    if (e != cudaSuccess) last_error = e;
    return e;
}

cudaError_t cudaPeekAtLastError(void)
{
    work_lock();
    const cudaError_t failure = work_failure();
    work_unlock();
    return failure ? failure : last_error;
}

cudaError_t cudaGetLastError(void)
{
    const cudaError_t e = cudaPeekAtLastError();
    last_error = cudaSuccess;
    return e;
}

/* End of a function of the runtime. */
static cudaError_t leave(cudaError_t e)
{
    work_unlock();
    return stream_error(e);
}

/* ---- streams ------------------------------------------------------------------------------------- */

struct emulation_stream *stream_list(void)
{
    return streams;
}

struct emulation_stream *stream_find(cudaStream_t s)
{
    if (!s) return &default_stream;
    struct emulation_stream *found = streams;
    while (found && found != s) found = found->next;
    return found;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *s, unsigned flags, int priority)
{
    work_lock();
    struct emulation_stream *const made = calloc(1, sizeof *made);
    if (!made) return leave(cudaErrorMemoryAllocation);
    made->blocking = !(flags & cudaStreamNonBlocking);
    made->priority = priority;
    made->next = streams;
    streams = *s = made;
    return leave(work_failure());
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags)
{
    return cudaStreamCreateWithPriority(s, flags, 0);
}

cudaError_t cudaStreamCreate(cudaStream_t *s)
{
    return cudaStreamCreateWithPriority(s, cudaStreamDefault, 0);
}

/* What is queued in it still runs. */
cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    work_lock();
    struct emulation_stream **link = &streams;
    while (*link && *link != s) link = &(*link)->next;
    if (!*link) return leave(cudaErrorInvalidResourceHandle);
    *link = s->next;
    op_drop(&s->tail);
    free(s);
    return leave(work_failure());
}

/* The default stream waits for all blocking streams, and they for it. */
static struct op *add_with_default(struct emulation_stream *s, struct payload *p)
{
    struct op *before[64];
    int n = 0;
    before[n++] = s->tail;
    if (s == &default_stream) {
        for (struct emulation_stream *other = streams; other; other = other->next) {
            if (!other->blocking) continue;
            if (n == 64) emulation_fail("more than 63 blocking streams");
            before[n++] = other->tail;
        }
    } else if (s->blocking) {
        before[n++] = default_stream.tail;
    }
    return work_add(p, before, n);
}

cudaError_t stream_add(struct emulation_stream *s, struct payload *p)
{
    if (s->at.capture) return capture_add(s, p);
    if (work_failure()) {
        payload_drop(p);
        return work_failure();
    }
    struct op *const o = add_with_default(s, p);
    op_drop(&s->tail);
    s->tail = o;
    /* a device does not wait to be waited for either */
    if (p && emulation_random(8) == 0) work_some(NULL);
    return cudaSuccess;
}

cudaError_t emulation_queue(cudaStream_t stream, const char *name,
                            enum emulation_progress (*run)(void *context),
                            void (*release)(void *context), void *context)
{
    work_lock();
    struct payload *const p = payload_create(name, run, release, context);
    struct emulation_stream *const s = stream_find(stream);
    if (!s) {
        payload_drop(p);
        return leave(cudaErrorInvalidResourceHandle);
    }
    return leave(stream_add(s, p));
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    work_lock();
    struct emulation_stream *const s = stream_find(stream);
    cudaError_t e = s ? capture_forbids() : cudaErrorInvalidResourceHandle;
    if (e == cudaSuccess) {
        work_wait(s->tail);
        e = work_failure();
    }
    return leave(e);
}

cudaError_t cudaDeviceSynchronize(void)
{
    work_lock();
    cudaError_t e = capture_forbids();
    if (e == cudaSuccess) {
        work_wait(NULL);
        e = work_failure();
    }
    return leave(e);
}

/* Has the device passed o?  The question lets it go on a little. */
static cudaError_t query(struct op *o)
{
    op_hold(o);
    if (!op_done(o)) work_some(o);
    const bool done = op_done(o);
    op_drop(&o);
    if (work_failure()) return work_failure();
    return done ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    work_lock();
    struct emulation_stream *const s = stream_find(stream);
    cudaError_t e = s ? capture_forbids() : cudaErrorInvalidResourceHandle;
    if (e == cudaSuccess) e = query(s->tail);
    return leave(e);
}

/* ---- host functions ------------------------------------------------------------------------------ */

struct host_call {
    cudaHostFn_t run;
    void *context;
};

static enum emulation_progress run_host_call(void *context)
{
    const struct host_call *const c = context;
    c->run(c->context);
    return EMULATION_DONE;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t run, void *context)
{
    struct host_call *const c = malloc(sizeof *c);
    if (!c) return stream_error(cudaErrorMemoryAllocation);
    *c = (struct host_call){run, context};
    return emulation_queue(s, "host function", run_host_call, free, c);
}

/* ---- events -------------------------------------------------------------------------------------- */

static struct emulation_event *find_event(cudaEvent_t e)
{
    struct emulation_event *found = events;
    while (found && found != e) found = found->next;
    return found;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags)
{
    work_lock();
    struct emulation_event *const made = calloc(1, sizeof *made);
    if (!made) return leave(cudaErrorMemoryAllocation);
    made->timing = !(flags & cudaEventDisableTiming);
    made->next = events;
    events = *e = made;
    return leave(work_failure());
}

cudaError_t cudaEventCreate(cudaEvent_t *e)
{
    return cudaEventCreateWithFlags(e, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    work_lock();
    struct emulation_event **link = &events;
    while (*link && *link != e) link = &(*link)->next;
    if (!*link) return leave(cudaErrorInvalidResourceHandle);
    *link = e->next;
    op_drop(&e->op);
    free(e);
    return leave(work_failure());
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    work_lock();
    struct emulation_stream *const s = stream_find(stream);
    struct emulation_event *const e = find_event(event);
    if (!s || !e) return leave(cudaErrorInvalidResourceHandle);
    e->at = s->at;
    op_drop(&e->op);
    if (s->at.capture) return leave(cudaSuccess);
    const cudaError_t error = stream_add(s, NULL);
    e->op = op_hold(s->tail);
    return leave(error);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    work_lock();
    struct emulation_stream *const s = stream_find(stream);
    struct emulation_event *const e = find_event(event);
    if (!s || !e) return leave(cudaErrorInvalidResourceHandle);
    if (flags) return leave(cudaErrorInvalidValue);
    if (e->at.capture || s->at.capture) return leave(capture_join(s, &e->at));
    if (!op_done(e->op)) {
        struct op *const before[] = {s->tail, e->op};
        struct op *const o = work_add(NULL, before, 2);
        op_drop(&s->tail);
        s->tail = o;
    }
    return leave(work_failure());
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    work_lock();
    const struct emulation_event *const e = find_event(event);
    if (!e) return leave(cudaErrorInvalidResourceHandle);
    if (e->at.capture) return leave(cudaErrorCapturedEvent);
    return leave(query(e->op));
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    work_lock();
    const struct emulation_event *const e = find_event(event);
    if (!e) return leave(cudaErrorInvalidResourceHandle);
    if (e->at.capture) return leave(cudaErrorCapturedEvent);
    work_wait(e->op);
    return leave(work_failure());
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    work_lock();
    const struct emulation_event *const a = find_event(start), *const b = find_event(end);
    if (!a || !b || !a->timing || !b->timing || !a->op || !b->op)
        return leave(cudaErrorInvalidResourceHandle);
    if (!op_done(a->op) || !op_done(b->op)) return leave(cudaErrorNotReady);
    *ms = (float)(op_done_ms(b->op) - op_done_ms(a->op));
    return leave(work_failure());
}
