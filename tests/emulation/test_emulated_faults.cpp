/* The faults of YOKE_EMULATION_FAULT come as the real runtime would report them. */
#include "scenario.h"

#include <stdio.h>

static __global__ void fill(float *y, float value)
{
    y[threadIdx.x] = value;
}

static int expect(cudaError_t got, cudaError_t want, const char *call)
{
    if (got == want) return 0;
    fprintf(stderr, "%s: %s, want %s\n", call, cudaGetErrorName(got),
            cudaGetErrorName(want));
    return 1;
}
#define EXPECT(call, want)                                                               \
    if (expect(call, want, #call)) return 1

/* A launch without the plug-in's check behind it. */
static cudaError_t launch(float *y)
{
    emulation_launch_kernel("fill", 1, 4, 0, NULL, fill, y, 1.0f);
    return cudaGetLastError();
}

/* ---- no device to begin with -------------------------------------------------------------------- */

template <int error> static int run_count()
{
    int n = -1, device;
    void *p;
    EXPECT(cudaGetDeviceCount(&n), (cudaError_t)error);
    EXPECT(cudaGetLastError(), (cudaError_t)error);
    if (error == cudaSuccess) return n != 3;
    EXPECT(cudaGetDevice(&device), (cudaError_t)error);
    EXPECT(cudaMalloc(&p, 4), (cudaError_t)error);
    return n != 0;
}

static int run_driver()
{
    int driver, runtime;
    SCENARIO_OK(cudaDriverGetVersion(&driver));
    SCENARIO_OK(cudaRuntimeGetVersion(&runtime));
    return driver >= runtime;
}

TEST(devices_may_be_missing_or_many)
{
    scenario_succeeds("devices=3", run_count<cudaSuccess>);
    scenario_succeeds("no_device", run_count<cudaErrorNoDevice>);
    scenario_succeeds("old_driver", run_count<cudaErrorInsufficientDriver>);
    scenario_succeeds("old_driver", run_driver);
}

static int run_each_device()
{
    char ids[8][16];
    for (int i = 0; i < 8; i++) {
        SCENARIO_OK(cudaDeviceGetPCIBusId(ids[i], sizeof ids[i], i));
        for (int k = 0; k < i; k++) {
            if (strcmp(ids[i], ids[k]) == 0) return 1;
        }
    }
    EXPECT(cudaSetDevice(8), cudaErrorInvalidDevice);
    return 0;
}

TEST(each_device_has_an_address)
{
    scenario_succeeds(NULL, run_each_device);
}

template <int capability, int error> static int run_capability()
{
    struct cudaDeviceProp p;
    float *const y = scenario_floats(4);
    SCENARIO_OK(cudaGetDeviceProperties(&p, 0));
    EXPECT(launch(y), (cudaError_t)error);
    return 10 * p.major + p.minor != capability;
}

TEST(an_architecture_may_be_too_old)
{
    scenario_succeeds(NULL, run_capability<90, cudaSuccess>);
    scenario_succeeds("bf16=no", run_capability<75, cudaSuccess>);
    scenario_succeeds("arch=80", run_capability<80, cudaSuccess>);
    scenario_succeeds("arch=30", run_capability<30, cudaErrorNoKernelImageForDevice>);
}

/* ---- memory --------------------------------------------------------------------------------------- */

static int run_oom()
{
    void *p[3];
    size_t free_bytes, total_bytes;
    SCENARIO_OK(cudaMalloc(&p[0], 60000));
    EXPECT(cudaMalloc(&p[1], 60000), cudaErrorMemoryAllocation);
    EXPECT(cudaGetLastError(), cudaErrorMemoryAllocation);
    SCENARIO_OK(cudaMemGetInfo(&free_bytes, &total_bytes));
    if (total_bytes != 100000 || free_bytes > 40000) return 1;
    SCENARIO_OK(cudaFree(p[0]));
    SCENARIO_OK(cudaMalloc(&p[2], 90000));
    return 0;
}

static int run_oom_host()
{
    void *p;
    SCENARIO_OK(cudaMalloc(&p, 200000));
    EXPECT(cudaMallocHost(&p, 200000), cudaErrorMemoryAllocation);
    return 0;
}

TEST(memory_may_run_out)
{
    scenario_succeeds("oom=100000", run_oom);
    scenario_succeeds("oom_host=100000", run_oom_host);
}

/* ---- failures of work ------------------------------------------------------------------------------ */

static int run_launch_fails()
{
    float *const y = scenario_floats(4);
    EXPECT(launch(y), cudaErrorLaunchOutOfResources);
    EXPECT(cudaDeviceSynchronize(), cudaSuccess); /* this one passes */
    return 0;
}

/* The first wait that runs the bad operation fails, and then everything does. */
template <int error> static int run_sticky()
{
    float *const y = scenario_floats(4);
    void *p;
    cudaStream_t s;
    cudaError_t e = cudaSuccess;
    SCENARIO_OK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    for (int k = 0; k < 20 && e == cudaSuccess; k++) {
        e = launch(y);
        if (e == cudaSuccess) e = cudaDeviceSynchronize();
    }
    EXPECT(e, (cudaError_t)error);
    EXPECT(cudaGetLastError(), (cudaError_t)error);
    EXPECT(cudaGetLastError(), (cudaError_t)error);
    EXPECT(launch(y), (cudaError_t)error);
    EXPECT(cudaStreamSynchronize(s), (cudaError_t)error);
    EXPECT(cudaStreamQuery(s), (cudaError_t)error);
    EXPECT(cudaMalloc(&p, 4), (cudaError_t)error);
    EXPECT(cudaMemsetAsync(y, 0, 4, s), (cudaError_t)error);
    EXPECT(cudaFree(y), (cudaError_t)error);
    return 0;
}

TEST(work_may_fail)
{
    scenario_succeeds("launch=fill", run_launch_fails);
    scenario_succeeds("ecc=10", run_sticky<cudaErrorECCUncorrectable>);
    scenario_succeeds("fault=ill", run_sticky<cudaErrorLaunchFailure>);
}

static int run_hang()
{
    float *const y = scenario_floats(4);
    cudaStream_t s;
    cudaEvent_t before, after;
    SCENARIO_OK(cudaStreamCreate(&s));
    SCENARIO_OK(cudaEventCreate(&before));
    SCENARIO_OK(cudaEventCreate(&after));
    SCENARIO_OK(cudaMemsetAsync(y, 0, 16, s));
    SCENARIO_OK(cudaEventRecord(before, s));
    SCENARIO_OK(cudaMemsetAsync(y, 0, 16, s)); /* operation 2 */
    SCENARIO_OK(cudaEventRecord(after, s));
    SCENARIO_OK(cudaEventSynchronize(before));
    for (int k = 0; k < 1000; k++) {
        if (cudaEventQuery(after) != cudaErrorNotReady) return 1;
    }
    return 0;
}

TEST(work_may_hang)
{
    scenario_succeeds("hang=2", run_hang);
}

static int run_no_graphs()
{
    cudaStream_t s;
    SCENARIO_OK(cudaStreamCreate(&s));
    EXPECT(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal),
           cudaErrorStreamCaptureUnsupported);
    return 0;
}

TEST(graphs_may_be_missing)
{
    scenario_succeeds("graphs=no", run_no_graphs);
}

/* ---- which rank, and how it is said --------------------------------------------------------------- */

static int run_on_rank_1()
{
    int n;
    setenv("OMPI_COMM_WORLD_RANK", "1", 1);
    EXPECT(cudaGetDeviceCount(&n), cudaErrorNoDevice);
    return 0;
}

static int run_on_rank_0()
{
    int n;
    setenv("OMPI_COMM_WORLD_RANK", "0", 1);
    EXPECT(cudaGetDeviceCount(&n), cudaSuccess);
    return 0;
}

TEST(a_fault_may_be_for_one_rank)
{
    scenario_succeeds("no_device,rank=1", run_on_rank_1);
    scenario_succeeds("no_device,rank=1", run_on_rank_0);
}

TEST(an_unknown_fault_is_refused)
{
    scenario_is_stopped("no_device,ec=3", run_driver, "knows no \"ec\"");
    scenario_is_stopped("bf16=yes", run_driver, "bf16 may only be no");
}

static int run_fails()
{
    cudaDeviceSynchronize();
    scenario_floats(4);
    return 3;
}

TEST(a_failing_process_says_its_seed)
{
    const struct scenario_end end = scenario_run(77, NULL, run_fails);
    assert_int_equal(end.status, 3);
    assert_non_null(strstr(end.output, "YOKE_EMULATION_SEED=77"));
}
