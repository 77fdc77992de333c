/* Streams, events, copies and graphs on the emulated device: work runs late and in any order that is
 * permitted, so that an order nobody asked for is found. */
#include "scenario.h"

#include <stdio.h>

#include "emulation.h"

enum { N = 1000, BLOCK = 128, GRID = (N + BLOCK - 1) / BLOCK };

static __global__ void fill(float *y, float value)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < N) y[i] = value;
}

static __global__ void add(float *y, const float *x)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < N) y[i] += x[i];
}

struct pair {
    cudaStream_t a, b;
    cudaEvent_t event;
    float *x, *y, *host; /* host: page-locked */
};

static struct pair make_pair()
{
    struct pair p;
    SCENARIO_OK(cudaStreamCreateWithFlags(&p.a, cudaStreamNonBlocking));
    SCENARIO_OK(cudaStreamCreateWithPriority(&p.b, cudaStreamNonBlocking, -1));
    SCENARIO_OK(cudaEventCreateWithFlags(&p.event, cudaEventDisableTiming));
    p.x = scenario_floats(N);
    p.y = scenario_floats(N);
    void *host;
    SCENARIO_OK(cudaMallocHost(&host, N * sizeof(float)));
    p.host = static_cast<float *>(host);
    return p;
}

static void launch_fill(cudaStream_t s, float *y, float value)
{
    CUDA_LAUNCH(fill, GRID, BLOCK, 0, s, y, value);
}

static void launch_add(cudaStream_t s, float *y, const float *x)
{
    CUDA_LAUNCH(add, GRID, BLOCK, 0, s, y, x);
}

/* What is queued in `then` from now on runs behind what is in `first`. */
static void order(struct pair *p, cudaStream_t first, cudaStream_t then)
{
    SCENARIO_OK(cudaEventRecord(p->event, first));
    SCENARIO_OK(cudaStreamWaitEvent(then, p->event, 0));
}

/* Queue a copy to p->host. */
static void copy_out(struct pair *p, cudaStream_t s, const float *x)
{
    SCENARIO_OK(
        cudaMemcpyAsync(p->host, x, N * sizeof(float), cudaMemcpyDeviceToHost, s));
}

static int compare(const float *host, float want)
{
    for (int i = 0; i < N; i++) {
        if (host[i] == want) continue;
        fprintf(stderr, "element %d is %g, want %g\n", i, (double)host[i], (double)want);
        return 1;
    }
    return 0;
}

static int finish(struct pair *p, cudaStream_t s, const float *x, float want)
{
    copy_out(p, s, x);
    SCENARIO_OK(cudaStreamSynchronize(s));
    return compare(p->host, want);
}

/* ---- order between streams ------------------------------------------------------------------------ */

template <bool with_event> static int run_write_then_read()
{
    struct pair p = make_pair();
    launch_fill(p.b, p.y, 1.0f);
    launch_fill(p.a, p.x, 2.0f);
    if (with_event) order(&p, p.a, p.b);
    launch_add(p.b, p.y, p.x);
    return finish(&p, p.b, p.y, 3.0f);
}

template <bool with_event> static int run_read_then_overwrite()
{
    struct pair p = make_pair();
    launch_fill(p.a, p.x, 2.0f);
    launch_fill(p.a, p.y, 1.0f);
    order(&p, p.a, p.b);
    launch_add(p.b, p.y, p.x);
    if (with_event) order(&p, p.b, p.a);
    launch_fill(p.a, p.x, 9.0f);
    SCENARIO_OK(cudaDeviceSynchronize());
    return finish(&p, p.b, p.y, 3.0f);
}

TEST(events_order_streams)
{
    scenario_succeeds(NULL, run_write_then_read<true>);
    scenario_succeeds(NULL, run_read_then_overwrite<true>);
}

TEST(a_removed_event_is_found)
{
    assert_in_range(scenario_failures(run_write_then_read<false>), 5, SCENARIO_SEEDS);
    assert_in_range(scenario_failures(run_read_then_overwrite<false>), 5, SCENARIO_SEEDS);
}

/* A wait means the record before it, not a later one. */
static int run_record_again()
{
    struct pair p = make_pair();
    launch_fill(p.a, p.x, 2.0f);
    order(&p, p.a, p.b);
    launch_fill(p.a, p.y, 5.0f);
    SCENARIO_OK(cudaEventRecord(p.event, p.a));
    if (finish(&p, p.b, p.x, 2.0f)) return 1;
    SCENARIO_OK(cudaEventSynchronize(p.event));
    return finish(&p, p.b, p.y, 5.0f);
}

TEST(an_event_may_be_recorded_again)
{
    scenario_succeeds(NULL, run_record_again);
}

/* The default stream is ordered with blocking streams and with no others. */
template <unsigned flags> static int run_default_stream()
{
    struct pair p = make_pair();
    cudaStream_t s;
    SCENARIO_OK(cudaStreamCreateWithFlags(&s, flags));
    launch_fill(s, p.x, 2.0f);
    SCENARIO_OK(cudaMemset(p.y, 0, N * sizeof(float)));
    launch_add(NULL, p.y, p.x);
    launch_fill(s, p.x, 3.0f);
    SCENARIO_OK(cudaMemcpy(p.host, p.y, N * sizeof(float), cudaMemcpyDefault));
    return compare(p.host, 2.0f);
}

TEST(the_default_stream_is_ordered_with_blocking_streams_only)
{
    scenario_succeeds(NULL, run_default_stream<cudaStreamDefault>);
    assert_in_range(scenario_failures(run_default_stream<cudaStreamNonBlocking>), 15,
                    SCENARIO_SEEDS);
}

/* ---- the host --------------------------------------------------------------------------------------- */

static int run_polling()
{
    struct pair p = make_pair();
    int n_early = 0;
    for (int k = 0; k < 50; k++) {
        launch_fill(p.a, p.x, (float)k);
        copy_out(&p, p.a, p.x);
        SCENARIO_OK(cudaEventRecord(p.event, p.a));
        cudaError_t e;
        while ((e = cudaEventQuery(p.event)) == cudaErrorNotReady) {
            n_early++;
            cudaGetLastError(); /* keeps it, as the real one does */
        }
        SCENARIO_OK(e);
        if (compare(p.host, (float)k)) return 1;
    }
    return n_early == 0;
}

TEST(queries_come_too_early_and_end)
{
    scenario_succeeds(NULL, run_polling);
}

static int run_host_does_not_wait()
{
    struct pair p = make_pair();
    launch_fill(p.a, p.x, 2.0f);
    copy_out(&p, p.a, p.x);
    return compare(p.host, 2.0f);
}

static int run_source_changes()
{
    struct pair p = make_pair();
    for (int i = 0; i < N; i++) p.host[i] = 2.0f;
    SCENARIO_OK(
        cudaMemcpyAsync(p.x, p.host, N * sizeof(float), cudaMemcpyHostToDevice, p.a));
    for (int i = 0; i < N; i++) p.host[i] = 3.0f;
    SCENARIO_OK(cudaDeviceSynchronize());
    return finish(&p, p.a, p.x, 2.0f);
}

TEST(a_host_that_does_not_wait_is_found)
{
    assert_in_range(scenario_failures(run_host_does_not_wait), 10, SCENARIO_SEEDS);
    assert_in_range(scenario_failures(run_source_changes), 10, SCENARIO_SEEDS);
}

/* Pageable memory: a source may change at once, a destination is complete. */
static int run_pageable()
{
    static float host[N];
    struct pair p = make_pair();
    for (int i = 0; i < N; i++) host[i] = 2.0f;
    SCENARIO_OK(cudaMemcpyAsync(p.x, host, sizeof host, cudaMemcpyHostToDevice, p.a));
    for (int i = 0; i < N; i++) host[i] = 3.0f;
    SCENARIO_OK(cudaMemcpyAsync(host, p.x, sizeof host, cudaMemcpyDeviceToHost, p.a));
    return compare(host, 2.0f);
}

TEST(copies_of_pageable_memory_do_not_race)
{
    scenario_succeeds(NULL, run_pageable);
}

static int run_host_reads()
{
    struct pair p = make_pair();
    launch_fill(p.a, p.x, 2.0f);
    SCENARIO_OK(cudaDeviceSynchronize());
    return p.x[7] > 0.0f;
}

static int run_host_writes()
{
    memset(make_pair().x, 0, 16);
    return 0;
}

TEST(the_host_cannot_touch_device_memory)
{
    scenario_is_stopped(NULL, run_host_reads, "reads");
    scenario_is_stopped(NULL, run_host_reads, "byte 28 of an allocation of 4000");
    scenario_is_stopped(NULL, run_host_writes, "writes");
}

static float *freed;

static __global__ void use_freed(float *y)
{
    y[0] = freed[0];
}

static int run_use_freed()
{
    struct pair p = make_pair();
    freed = p.x;
    SCENARIO_OK(cudaFree(p.x));
    CUDA_LAUNCH(use_freed, 1, 1, 0, p.a, p.y);
    SCENARIO_OK(cudaDeviceSynchronize());
    return 0;
}

static __global__ void write_before(float *y)
{
    y[-1] = 0.0f;
}

static int run_write_before()
{
    float *const x = scenario_floats(64);
    CUDA_LAUNCH(write_before, 1, 1, 0, NULL, x);
    SCENARIO_OK(cudaFree(x));
    return 0;
}

TEST(memory_that_is_not_there_is_found)
{
    scenario_is_stopped(NULL, run_use_freed, "use_freed block (0,0,0) thread (0,0,0)");
    scenario_is_stopped(NULL, run_use_freed, "freed memory");
    scenario_is_stopped(NULL, run_write_before, "4 bytes before an allocation of 256");
}

static int run_bad_arguments()
{
    static float host[4];
    struct pair p = make_pair();
    float *const d = scenario_floats(4);
    const cudaStream_t gone = p.b;
    SCENARIO_OK(cudaStreamDestroy(p.b));
    return cudaMemcpy(d, host, 20, cudaMemcpyHostToDevice) != cudaErrorInvalidValue ||
           cudaMemcpy(d, host, 16, cudaMemcpyDeviceToHost) !=
               cudaErrorInvalidMemcpyDirection ||
           cudaMemset(host, 0, 16) != cudaErrorInvalidValue ||
           cudaStreamSynchronize(gone) != cudaErrorInvalidResourceHandle ||
           cudaFree(d + 1) != cudaErrorInvalidValue || cudaFree(d) != cudaSuccess ||
           cudaFree(d) != cudaErrorInvalidValue ||
           cudaGetLastError() != cudaErrorInvalidValue ||
           cudaGetLastError() != cudaSuccess;
}

TEST(bad_arguments_are_refused)
{
    scenario_succeeds(NULL, run_bad_arguments);
}

/* ---- operations that wait for something outside ------------------------------------------------- */

static int arrived; /* set by stream b */

static enum emulation_progress wait_for_b(void *context)
{
    ++*static_cast<int *>(context);
    return arrived ? EMULATION_DONE : EMULATION_PENDING;
}

static void arrive(void *)
{
    arrived++;
}

static int run_pending()
{
    struct pair p = make_pair();
    static int n_asked;
    SCENARIO_OK(emulation_queue(p.a, "wait for b", wait_for_b, NULL, &n_asked));
    launch_fill(p.a, p.x, 2.0f);
    SCENARIO_OK(cudaLaunchHostFunc(p.b, arrive, NULL));
    return finish(&p, p.a, p.x, 2.0f) || n_asked == 0;
}

TEST(what_is_pending_lets_others_run)
{
    scenario_succeeds(NULL, run_pending);
}

/* ---- graphs ------------------------------------------------------------------------------------------ */

enum graph_bug { NONE, NO_FORK, NO_JOIN };

/* y += 2 x, x doubled on another stream that begins and ends in this one */
template <int bug> static cudaError_t capture(struct pair *p, cudaGraph_t *graph)
{
    SCENARIO_OK(cudaStreamBeginCapture(p->a, cudaStreamCaptureModeThreadLocal));
    launch_fill(p->a, p->x, 1.0f);
    if (bug != NO_FORK) order(p, p->a, p->b);
    launch_add(p->b, p->x, p->x);
    if (bug == NONE) order(p, p->b, p->a);
    launch_add(p->a, p->y, p->x);
    return cudaStreamEndCapture(p->a, graph);
}

static int run_graph()
{
    struct pair p = make_pair();
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    size_t n_nodes;
    SCENARIO_OK(capture<NONE>(&p, &graph));
    SCENARIO_OK(cudaGraphGetNodes(graph, NULL, &n_nodes));
    SCENARIO_OK(cudaGraphInstantiate(&exec, graph, 0));
    SCENARIO_OK(cudaGraphDestroy(graph));
    launch_fill(p.a, p.y, 0.0f);
    for (int k = 0; k < 3; k++) SCENARIO_OK(cudaGraphLaunch(exec, p.a));
    SCENARIO_OK(cudaGraphExecDestroy(exec));
    return n_nodes != 3 || finish(&p, p.a, p.y, 6.0f);
}

TEST(graphs_repeat_what_was_captured)
{
    scenario_succeeds(NULL, run_graph);
}

static int run_no_join()
{
    struct pair p = make_pair();
    cudaGraph_t graph;
    if (capture<NO_JOIN>(&p, &graph) != cudaErrorStreamCaptureUnjoined || graph) return 1;
    cudaGetLastError();
    launch_fill(p.a, p.y, 1.0f); /* the streams are as before */
    return finish(&p, p.a, p.y, 1.0f);
}

/* What does not belong to the capture runs at once, not with the graph. */
static int run_no_fork()
{
    struct pair p = make_pair();
    cudaGraph_t graph;
    size_t n_nodes;
    SCENARIO_OK(capture<NO_FORK>(&p, &graph));
    SCENARIO_OK(cudaGraphGetNodes(graph, NULL, &n_nodes));
    return n_nodes != 2;
}

template <int forbidden> static int run_forbidden()
{
    struct pair p = make_pair();
    cudaGraph_t graph;
    void *memory;
    SCENARIO_OK(cudaStreamBeginCapture(p.a, cudaStreamCaptureModeGlobal));
    launch_fill(p.a, p.x, 1.0f);
    const cudaError_t e =
        forbidden == 0   ? cudaStreamSynchronize(p.a)
        : forbidden == 1 ? cudaMalloc(&memory, 4)
        : forbidden == 2 ? cudaDeviceSynchronize()
                         : cudaMemcpyAsync(p.y, p.host, 4, cudaMemcpyHostToDevice, p.b);
    if (forbidden < 3 && e != cudaErrorStreamCaptureUnsupported) return 1;
    const cudaError_t end = cudaStreamEndCapture(p.a, &graph);
    return forbidden < 3 ? end != cudaErrorStreamCaptureInvalidated : end != cudaSuccess;
}

TEST(captures_that_cannot_be_replayed_are_refused)
{
    scenario_succeeds(NULL, run_no_join);
    scenario_succeeds(NULL, run_no_fork);
    scenario_succeeds(NULL, run_forbidden<0>);
    scenario_succeeds(NULL, run_forbidden<1>);
    scenario_succeeds(NULL, run_forbidden<2>);
    scenario_succeeds(NULL, run_forbidden<3>);
}
