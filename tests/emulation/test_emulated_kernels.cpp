/* Kernels on the emulated device: what must work works under every order of threads, and planted
 * bugs are found. */
#include "scenario.h"

#include <stdio.h>

#include "nn/cuda_kernel.h"

enum { THREADS = 128, BLOCKS = 7, N = THREADS * BLOCKS };

/* Run `kernel` on N floats 0, 1, 2, ... and compare with want(i). */
typedef void (*unary)(float *y, const float *x);

static int run_unary(unary kernel, float (*want)(int i))
{
    float host[N], *x = scenario_floats(N), *y = scenario_floats(N);
    cudaStream_t s;
    SCENARIO_OK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    for (int i = 0; i < N; i++) host[i] = (float)i;
    SCENARIO_OK(cudaMemcpyAsync(x, host, sizeof host, cudaMemcpyHostToDevice, s));
    CUDA_LAUNCH(kernel, BLOCKS, THREADS, THREADS * sizeof(float), s, y, x);
    SCENARIO_OK(cudaMemcpyAsync(host, y, sizeof host, cudaMemcpyDeviceToHost, s));
    for (int i = 0; i < N; i++) {
        if (host[i] == want(i)) continue;
        fprintf(stderr, "y[%d] = %g, want %g\n", i, (double)host[i], (double)want(i));
        return 1;
    }
    return 0;
}

/* ---- barriers and shared memory ----------------------------------------------------------------- */

enum reversal_bug { NONE, NO_BARRIER, BARRIER_TOO_EARLY, SOME_SKIP };

/* y = x with each block reversed */
template <int bug> static __global__ void reverse(float *y, const float *x)
{
    CUDA_SHARED(float, tile, THREADS);
    const int t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
    if (bug == BARRIER_TOO_EARLY) __syncthreads();
    tile[t] = x[i];
    if (bug == NONE || (bug == SOME_SKIP && t != 5)) __syncthreads();
    y[i] = tile[THREADS - 1 - t];
}

static float reversed(int i)
{
    return (float)(i / THREADS * THREADS + THREADS - 1 - i % THREADS);
}

template <int bug> static int run_reverse()
{
    return run_unary(reverse<bug>, reversed);
}

TEST(a_barrier_makes_all_see_all)
{
    scenario_succeeds(NULL, run_reverse<NONE>);
}

TEST(a_removed_or_swapped_barrier_is_found)
{
    assert_int_equal(scenario_failures(run_reverse<NO_BARRIER>), SCENARIO_SEEDS);
    assert_int_equal(scenario_failures(run_reverse<BARRIER_TOO_EARLY>), SCENARIO_SEEDS);
}

TEST(a_barrier_that_not_all_reach_is_named)
{
    scenario_is_stopped(NULL, run_reverse<SOME_SKIP>,
                        "of 128, 127 wait at __syncthreads");
    scenario_is_stopped(NULL, run_reverse<SOME_SKIP>, "kernel block (");
}

/* The second use of the tile overwrites what slow threads still read. */
template <int bug> static __global__ void reverse_twice(float *y, const float *x)
{
    CUDA_DYNAMIC_SHARED(float, tile);
    const int t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
    float v = x[i];
    for (int k = 0; k < 2; k++) {
        tile[t] = v;
        __syncthreads();
        v = tile[THREADS - 1 - t];
        if (bug == NONE) __syncthreads();
    }
    y[i] = v;
}

static float same(int i)
{
    return (float)i;
}

template <int bug> static int run_reverse_twice()
{
    return run_unary(reverse_twice<bug>, same);
}

TEST(a_tile_that_is_reused_too_early_is_found)
{
    scenario_succeeds(NULL, run_reverse_twice<NONE>);
    assert_int_equal(scenario_failures(run_reverse_twice<NO_BARRIER>), SCENARIO_SEEDS);
}

static __global__ void past_the_tile(float *y, const float *x)
{
    CUDA_SHARED(float, tile, THREADS);
    const int t = threadIdx.x;
    tile[t + 1] = x[t];
    y[t] = tile[t + 1];
}

static __global__ void past_the_dynamic_tile(float *y, const float *x)
{
    CUDA_DYNAMIC_SHARED(float, tile);
    tile[threadIdx.x + 1] = x[threadIdx.x];
    y[threadIdx.x] = tile[threadIdx.x + 1];
}

static int run_past_the_tile()
{
    return run_unary(past_the_tile, same);
}

static int run_past_the_dynamic_tile()
{
    return run_unary(past_the_dynamic_tile, same);
}

TEST(access_past_shared_memory_is_found)
{
    scenario_is_stopped(NULL, run_past_the_tile, "outside of a block's shared memory");
    scenario_is_stopped(NULL, run_past_the_dynamic_tile,
                        "outside of a block's shared memory");
}

/* ---- warps ---------------------------------------------------------------------------------------- */

enum warp_bug { MASK_TOO_SMALL = 10, LANE_LEAVES, TWO_OPERATIONS, NO_SYNCWARP };

/* y = sum over the warp; and some of everything else that warps do */
template <int bug> static __global__ void warp_sums(float *y, const float *x)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x, lane = threadIdx.x % 32;
    const unsigned all = bug == MASK_TOO_SMALL ? 0x7fffffffu : 0xffffffffu;
    float sum = x[i];
    if (bug == LANE_LEAVES && lane == 3) return;
    if (bug == TWO_OPERATIONS && lane == 3) __syncwarp();
    for (int offset = 16; offset > 0; offset /= 2)
        sum += __shfl_xor_sync(all, sum, offset);
    if (__ballot_sync(all, lane < 4) != 15u || !__any_sync(all, lane == 9) ||
        __all_sync(all, lane != 9) || __shfl_sync(all, lane, 7) != 7 ||
        __shfl_up_sync(all, lane, 1) != (lane ? lane - 1 : 0) ||
        __shfl_down_sync(all, lane, 2) != (lane < 30 ? lane + 2 : lane) ||
        __shfl_sync(all, lane, 1, 8) != lane / 8 * 8 + 1)
        sum = -1.0f;
    y[i] = sum;
}

static float warp_sum_of(int i)
{
    return (float)(i / 32 * 32 * 32 + 31 * 16);
}

template <int bug> static int run_warp_sums()
{
    return run_unary(warp_sums<bug>, warp_sum_of);
}

TEST(shuffles_and_votes_do_what_they_say)
{
    scenario_succeeds(NULL, run_warp_sums<NONE>);
}

TEST(wrong_lanes_at_a_warp_operation_are_found)
{
    scenario_is_stopped(NULL, run_warp_sums<MASK_TOO_SMALL>,
                        "its own lane 31 is missing");
    scenario_is_stopped(NULL, run_warp_sums<LANE_LEAVES>, "ended");
    scenario_is_stopped(NULL, run_warp_sums<TWO_OPERATIONS>, "__syncwarp");
}

/* Lanes exchange through shared memory. */
template <int bug> static __global__ void warp_reverse(float *y, const float *x)
{
    CUDA_SHARED(float, tile, THREADS);
    const int t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
    tile[t] = x[i];
    if (bug != NO_SYNCWARP) __syncwarp();
    y[i] = tile[t ^ 31];
}

static float warp_reversed(int i)
{
    return (float)(i ^ 31);
}

template <int bug> static int run_warp_reverse()
{
    return run_unary(warp_reverse<bug>, warp_reversed);
}

TEST(lanes_do_not_run_in_step)
{
    scenario_succeeds(NULL, run_warp_reverse<NONE>);
    assert_int_equal(scenario_failures(run_warp_reverse<NO_SYNCWARP>), SCENARIO_SEEDS);
}

/* ---- asynchronous copies ---------------------------------------------------------------------------- */

enum copy_bug { NO_COMMIT = 20, NO_WAIT, WAIT_TOO_SHORT, STAGE_TOO_FEW };

/* y = x through a ring of tiles of 4 floats a thread, one copy ahead. */
template <int bug> static __global__ void ring(float *y, const float *x)
{
    enum { TILES = N / 4 / THREADS + 1, RING = bug == STAGE_TOO_FEW ? 1 : 2 };
    CUDA_SHARED(float, tiles, RING * 4 * THREADS);
    const int t = threadIdx.x;
    if (blockIdx.x != 0) return;
    for (int k = 0; k <= TILES; k++) {
        const int i = (k * THREADS + t) * 4;
        if (k < TILES) copy_async_16(tiles + (k % RING * THREADS + t) * 4, x + i, i < N);
        if (bug != NO_COMMIT) copy_async_commit();
        if (k == 0) continue;
        if (bug == WAIT_TOO_SHORT)
            copy_async_wait<2>();
        else if (bug != NO_WAIT)
            copy_async_wait<1>();
        __syncthreads();
        const int from = (k - 1) % RING * THREADS + (THREADS - 1 - t);
        for (int e = 0; e < 4; e++) {
            const int j = ((k - 1) * THREADS + THREADS - 1 - t) * 4 + e;
            if (j < N) y[j] = tiles[from * 4 + e];
        }
        __syncthreads();
    }
}

template <int bug> static int run_ring()
{
    return run_unary(ring<bug>, same);
}

TEST(asynchronous_copies_arrive_when_waited_for)
{
    scenario_succeeds(NULL, run_ring<NONE>);
}

TEST(a_copy_that_is_not_waited_for_or_overtakes_is_found)
{
    assert_int_equal(scenario_failures(run_ring<NO_COMMIT>), SCENARIO_SEEDS);
    assert_int_equal(scenario_failures(run_ring<NO_WAIT>), SCENARIO_SEEDS);
    assert_int_equal(scenario_failures(run_ring<WAIT_TOO_SHORT>), SCENARIO_SEEDS);
    assert_int_equal(scenario_failures(run_ring<STAGE_TOO_FEW>), SCENARIO_SEEDS);
}

/* ---- tensor cores --------------------------------------------------------------------------------- */

/* y[16][8] = 1 + A[16][16] B[8][16]^T, A = x[0 .. 255] / 64, B = x[0 .. 127] / 64, exact in T */
template <typename T, bool transpose>
static __global__ void product(float *y, const float *x)
{
    CUDA_SHARED(T, a, 256);
    CUDA_SHARED(T, b, 128); /* B, or its transpose [16][8] */
    const int lane = threadIdx.x;
    if (lane >= 32 || blockIdx.x != 0) return;
    for (int i = lane; i < 256; i += 32) a[i] = from_float<T>(x[i] / 64.0f);
    for (int i = lane; i < 128; i += 32) {
        const int row = i / 16, k = i % 16;
        b[transpose ? k * 8 + row : i] = from_float<T>(x[i] / 64.0f);
    }
    __syncwarp();
    uint32_t ra[4], rb[4];
    float d[4] = {1.0f, 1.0f, 1.0f, 1.0f};
    load_matrix_x4(ra, a + (lane % 16) * 16 + lane / 16 * 8);
    if (transpose)
        load_matrix_x4_transposed(rb, b + (lane % 16) * 8); /* twice the same two */
    else
        load_matrix_x4(rb, b + (lane % 8) * 16 + lane / 8 % 2 * 8);
    mma_16x8x16<T>(d, ra, rb);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; i++) y[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = d[i];
}

static float product_of(int i)
{
    float sum = 1.0f;
    if (i >= 128) return NAN;
    for (int k = 0; k < 16; k++)
        sum += (float)(i / 8 * 16 + k) / 64.0f * ((float)(i % 8 * 16 + k) / 64.0f);
    return sum;
}

template <typename T, bool transpose> static int run_product()
{
    float host[N], *x = scenario_floats(N), *y = scenario_floats(128);
    cudaStream_t s;
    SCENARIO_OK(cudaStreamCreate(&s));
    for (int i = 0; i < N; i++) host[i] = (float)i;
    SCENARIO_OK(cudaMemcpyAsync(x, host, sizeof host, cudaMemcpyHostToDevice, s));
    CUDA_LAUNCH((product<T, transpose>), 1, 32, 0, s, y, x);
    SCENARIO_OK(cudaMemcpyAsync(host, y, 128 * sizeof(float), cudaMemcpyDeviceToHost, s));
    for (int i = 0; i < 128; i++) {
        if (fabsf(host[i] - product_of(i)) <= 1e-5f * product_of(i)) continue;
        fprintf(stderr, "y[%d] = %g, want %g\n", i, (double)host[i],
                (double)product_of(i));
        return 1;
    }
    return 0;
}

TEST(tensor_core_twins_multiply_matrices)
{
    scenario_succeeds(NULL, run_product<__half, false>);
    scenario_succeeds(NULL, run_product<__half, true>);
    scenario_succeeds(NULL, run_product<__nv_bfloat16, false>);
    scenario_succeeds(NULL, run_product<__nv_bfloat16, true>);
}

/* ---- memory ----------------------------------------------------------------------------------------- */

enum mask_bug { OFF_BY_ONE = 30 };

/* y = x on n elements, not a whole number of blocks */
template <int bug> static __global__ void masked(float *y, const float *x, int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n + (bug == OFF_BY_ONE)) y[i] = x[i];
}

template <int bug> static int run_masked()
{
    enum {
        ODD = 999 * 64
    }; /* a multiple of the alignment: nothing lies between it and the end */
    float *const x = scenario_floats(ODD), *const y = scenario_floats(ODD);
    cudaStream_t s;
    SCENARIO_OK(cudaStreamCreate(&s));
    CUDA_LAUNCH(masked<bug>, ODD / THREADS + 1, THREADS, 0, s, y, x, ODD);
    SCENARIO_OK(cudaStreamSynchronize(s));
    return 0;
}

TEST(an_off_by_one_mask_is_found)
{
    scenario_succeeds(NULL, run_masked<NONE>);
    scenario_is_stopped(NULL, run_masked<OFF_BY_ONE>,
                        "0 bytes behind the end of an allocation");
}

static int run_host_pointer()
{
    float x[4], *const y = scenario_floats(4);
    CUDA_LAUNCH(masked<NONE>, 1, 4, 0, NULL, y, x, 4);
    return 0;
}

TEST(a_host_address_given_to_a_kernel_is_found)
{
    scenario_is_stopped(NULL, run_host_pointer, "argument 2");
}

static __global__ void misaligned(float *y, const float *x)
{
    *reinterpret_cast<uint4 *>(y) = *reinterpret_cast<const uint4 *>(x + 1);
}

static int run_misaligned()
{
    float *const x = scenario_floats(64), *const y = scenario_floats(64);
    CUDA_LAUNCH(misaligned, 1, 1, 0, NULL, y, x);
    SCENARIO_OK(cudaDeviceSynchronize());
    return 0;
}

TEST(a_misaligned_access_is_found)
{
    scenario_is_stopped(NULL, run_misaligned, "misaligned access");
}
