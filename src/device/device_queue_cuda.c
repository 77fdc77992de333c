/* Queues of the CUDA device are streams, marks are events, recorded work is a CUDA graph.
 *
 * No wait blocks in the driver: a queue may stand still for ever because another rank died, so
 * every wait polls, and between polls looks at the clock and at whoever watches. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/clock.h"
#include "core/log.h"
#include "device/device_cuda_impl.h"

static const char *const queue_names[DEVICE_QUEUES] = {"compute", "comm", "copy"};

static const double spin_seconds = 20e-6, longest_nap_seconds = 50e-6,
                    watch_seconds = 2e-3;

cudaStream_t device_cuda_stream(const struct device *d, enum device_queue q)
{
    return ((const struct cuda_state *)d->state)->streams[q];
}

/* Poll the event, or the stream if there is none. */
static void wait_for(struct device *d, cudaStream_t stream, cudaEvent_t event,
                     const char *what)
{
    const double start = clock_seconds();
    double watched = start;
    const struct cuda_state *s = device_cuda_state(d);
    if (s->recording) die("cuda: the host waits for %s while work is recorded", what);
    for (;;) {
        const cudaError_t e = event ? cudaEventQuery(event) : cudaStreamQuery(stream);
        if (e != cudaErrorNotReady) {
            device_cuda_check(e, what);
            return;
        }
        cudaGetLastError(); /* "not ready" would stay as an error of the next launch */
        const double now = clock_seconds(), waited = now - start;
        if (waited < spin_seconds) continue;
        if (now - watched > watch_seconds) {
            watched = now;
            if (d->watch) d->watch(d->watch_context);
            if (d->timeout_seconds > 0 && waited > d->timeout_seconds)
                die_with(STATUS_DEVICE, "cuda: %s at %s: waited %.0f s for %s", s->model,
                         s->id, waited, what);
        }
        const double nap =
            waited / 8 < longest_nap_seconds ? waited / 8 : longest_nap_seconds;
        nanosleep(&(struct timespec){.tv_nsec = (long)(nap * 1e9)}, NULL);
    }
}

void device_cuda_wait_stream(struct device *d, cudaStream_t stream, const char *what)
{
    wait_for(d, stream, NULL, what);
}

void device_cuda_wait(struct device *d, enum device_queue q)
{
    char what[32];
    snprintf(what, sizeof what, "queue %s", queue_names[q]);
    device_cuda_wait_stream(d, device_cuda_stream(d, q), what);
}

void device_cuda_order(struct device *d, enum device_queue first, enum device_queue then)
{
    struct cuda_state *s = device_cuda_state(d);
    if (first == then) return;
    const cudaEvent_t event = s->ring[atomic_fetch_add(&s->next, 1) % CUDA_RING];
    device_cuda_check(cudaEventRecord(event, s->streams[first]), "cudaEventRecord");
    device_cuda_check(cudaStreamWaitEvent(s->streams[then], event, 0),
                      "cudaStreamWaitEvent");
}

/* ---- marks -------------------------------------------------------------------------------- */

void *device_cuda_mark_create(struct device *d)
{
    cudaEvent_t event = NULL;
    device_cuda_state(d);
    if (cudaEventCreateWithFlags(&event, cudaEventDisableTiming) == cudaSuccess)
        return event;
    cudaGetLastError();
    return NULL;
}

void device_cuda_mark_destroy(struct device *d, void *mark)
{
    device_cuda_state(d);
    device_cuda_check(cudaEventDestroy(mark), "cudaEventDestroy");
}

void device_cuda_mark_set(struct device *d, void *mark, enum device_queue q)
{
    const struct cuda_state *s = device_cuda_state(d);
    device_cuda_check(cudaEventRecord(mark, s->streams[q]), "cudaEventRecord");
}

bool device_cuda_mark_done(struct device *d, void *mark)
{
    device_cuda_state(d);
    const cudaError_t e = cudaEventQuery(mark);
    if (e == cudaErrorNotReady) {
        cudaGetLastError();
        return false;
    }
    device_cuda_check(e, "cudaEventQuery");
    return true;
}

void device_cuda_mark_wait(struct device *d, void *mark)
{
    wait_for(d, NULL, mark, "a mark");
}

void device_cuda_mark_order(struct device *d, void *mark, enum device_queue q)
{
    const struct cuda_state *s = device_cuda_state(d);
    device_cuda_check(cudaStreamWaitEvent(s->streams[q], mark, 0), "cudaStreamWaitEvent");
}

/* ---- recorded work ------------------------------------------------------------------------ */

/* The runtime refused to record: say so once, since training goes on without. */
static void refused(cudaError_t e, const char *what)
{
    static bool said;
    cudaGetLastError();
    if (!said)
        log_warn("cuda: %s: %s (%s): goes on without recorded work", what,
                 device_cuda_reason(e), cudaGetErrorName(e));
    said = true;
}

bool device_cuda_record_begin(struct device *d)
{
    struct cuda_state *s = device_cuda_state(d);
    if (device_cuda_debugging()) return false; /* every launch is waited for */
    /* thread-local: other threads (checkpoints, logs) may call the runtime meanwhile */
    const cudaError_t e = cudaStreamBeginCapture(s->streams[DEVICE_COMPUTE],
                                                 cudaStreamCaptureModeThreadLocal);
    if (e != cudaSuccess) {
        refused(e, "cudaStreamBeginCapture");
        return false;
    }
    s->recording = true;
    return true;
}

struct device_graph *device_cuda_record_end(struct device *d)
{
    struct cuda_state *s = device_cuda_state(d);
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    s->recording = false;
    cudaError_t e = cudaStreamEndCapture(s->streams[DEVICE_COMPUTE], &graph);
    if (e != cudaSuccess) {
        refused(e, "cudaStreamEndCapture");
    } else {
        e = cudaGraphInstantiate(&exec, graph, 0);
        if (e != cudaSuccess) {
            refused(e, "cudaGraphInstantiate");
            exec = NULL;
        }
    }
    if (graph) device_cuda_check(cudaGraphDestroy(graph), "cudaGraphDestroy");
    return (struct device_graph *)exec;
}

void device_cuda_replay(struct device *d, struct device_graph *g)
{
    const struct cuda_state *s = device_cuda_state(d);
    device_cuda_check(cudaGraphLaunch((cudaGraphExec_t)g, s->streams[DEVICE_COMPUTE]),
                      "cudaGraphLaunch");
}

void device_cuda_graph_destroy(struct device *d, struct device_graph *g)
{
    device_cuda_state(d);
    device_cuda_check(cudaGraphExecDestroy((cudaGraphExec_t)g), "cudaGraphExecDestroy");
}
