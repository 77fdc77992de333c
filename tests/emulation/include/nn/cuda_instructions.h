/* cuda_instructions - the twin of src/nn/cuda_instructions.h for the emulated device: the same
 * names, made of the emulation's launches, per-block memory and meeting points. */
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdint.h>
#include <tuple>
#include <type_traits>

#include "device/device_cuda.h"

extern "C" {
/* Queue a grid.  `call` runs one thread with `arguments`, a copy of the launch's that `release`
 * frees (../block.c). */
void emulation_launch(const char *name, const void *kernel, dim3 grid, dim3 block,
                      size_t shared_bytes, cudaStream_t s, void (*call)(void *arguments),
                      void (*release)(void *arguments), void *arguments);
/* A pointer argument of a launch must be NULL or lead into memory that the device can reach. */
void emulation_check_argument(const char *name, int index, const void *p);

/* A place in the source that takes per-block memory. */
struct emulation_shared_site {
    void *memory;
    size_t bytes;
    uint64_t block; /* the block that saw it last */
};
void *emulation_shared(struct emulation_shared_site *site, size_t bytes);
void *emulation_dynamic_shared(void);

__attribute__((format(printf, 1, 2), noreturn)) void emulation_fail(const char *format,
                                                                    ...);
void emulation_check_row(const void *shared); /* of a matrix: 16 bytes of shared memory */
void emulation_copy_async(void *shared, const void *global, bool valid);
void emulation_copy_commit(void);
void emulation_copy_wait(int pending);
}

template <typename P> struct emulation_call_of {
    typedef P type;
};

template <typename P> static inline int emulation_check(const char *name, int index, P p)
{
    if constexpr (std::is_pointer_v<P>) emulation_check_argument(name, index, p);
    return index + 1;
}

template <typename... P> struct emulation_call {
    void (*kernel)(P...);
    std::tuple<P...> arguments;

    static void run(void *self)
    {
        const auto *const c = static_cast<emulation_call *>(self);
        std::apply(c->kernel, c->arguments);
    }
    static void release(void *self)
    {
        delete static_cast<emulation_call *>(self);
    }
};

/* Only the kernel's own types are deduced: arguments convert as they do at a real launch. */
template <typename... P>
static inline void
emulation_launch_kernel(const char *name, dim3 grid, dim3 block, size_t shared_bytes,
                        cudaStream_t s, void (*kernel)(P...),
                        typename emulation_call_of<P>::type... arguments)
{
    int index = 0;
    ((index = emulation_check(name, index, arguments)), ...);
    emulation_launch(name, reinterpret_cast<const void *>(kernel), grid, block,
                     shared_bytes, s, emulation_call<P...>::run,
                     emulation_call<P...>::release,
                     new emulation_call<P...>{kernel, std::tuple<P...>(arguments...)});
}

#define CUDA_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                      \
    do {                                                                                 \
        emulation_launch_kernel(#kernel, (grid), (block), (size_t)(shared_bytes),        \
                                (stream), (kernel), __VA_ARGS__);                        \
        device_cuda_launched(#kernel);                                                   \
    } while (0)

#define CUDA_ALLOW_SHARED(kernel, bytes)                                                 \
    device_cuda_check(cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),       \
                                           cudaFuncAttributeMaxDynamicSharedMemorySize,  \
                                           (int)(bytes)),                                \
                      "cudaFuncSetAttribute(" #kernel ")")

#define CUDA_SHARED(type, name, n)                                                       \
    static emulation_shared_site name##_site_;                                           \
    auto &name =                                                                         \
        *static_cast<type(*)[n]>(emulation_shared(&name##_site_, sizeof(type[n])))
#define CUDA_DYNAMIC_SHARED(type, name)                                                  \
    type *const name = static_cast<type *>(emulation_dynamic_shared())

/* The host would read and write anywhere. */
static inline void emulation_check_aligned(const char *name, const void *p, int bytes)
{
    if (reinterpret_cast<uintptr_t>(p) % static_cast<uintptr_t>(bytes) != 0)
        emulation_fail("%s: %p is not a multiple of %d", name, p, bytes);
}

static inline uint4 load_uint4(const void *p)
{
    emulation_check_aligned("load_uint4", p, 16);
    return *static_cast<const uint4 *>(p);
}

static inline void store_uint4(void *p, uint4 x)
{
    emulation_check_aligned("store_uint4", p, 16);
    *static_cast<uint4 *>(p) = x;
}

static inline void store_uint2(void *p, uint2 x)
{
    emulation_check_aligned("store_uint2", p, 8);
    *static_cast<uint2 *>(p) = x;
}

static inline void forget_uint4(uint4 *)
{
}

/* ---- asynchronous copies --------------------------------------------------------------------- */

static inline void copy_async_16(void *shared, const void *global, bool valid)
{
    emulation_copy_async(shared, global, valid);
}

static inline void copy_async_commit()
{
    emulation_copy_commit();
}

template <int pending> static inline void copy_async_wait()
{
    emulation_copy_wait(pending);
}

/* ---- tensor cores: the fragments are described in the original -------------------------------- */

struct emulation_load {
    uint32_t *r;
    const unsigned char *row;
};

/* element (row, column) of matrix i, whose rows the lanes 8i .. 8i+7 point to */
static inline uint32_t emulation_element(void *const *lanes, int i, int row, int column)
{
    uint16_t x;
    memcpy(&x, static_cast<emulation_load *>(lanes[8 * i + row])->row + 2 * column, 2);
    return x;
}

template <bool transposed> static inline void emulation_load_run(void *const *lanes)
{
    for (int lane = 0; lane < 32; lane++) {
        uint32_t *const r = static_cast<emulation_load *>(lanes[lane])->r;
        const int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 4; i++) {
            r[i] = transposed ? emulation_element(lanes, i, 2 * t, g) |
                                    emulation_element(lanes, i, 2 * t + 1, g) << 16
                              : emulation_element(lanes, i, g, 2 * t) |
                                    emulation_element(lanes, i, g, 2 * t + 1) << 16;
        }
    }
}

static inline void load_matrix_x4(uint32_t r[4], const void *shared)
{
    emulation_load l = {r, static_cast<const unsigned char *>(shared)};
    emulation_check_row(shared);
    emulation_meet(0xffffffffu, "load_matrix_x4", emulation_load_run<false>, &l);
}

static inline void load_matrix_x4_transposed(uint32_t r[4], const void *shared)
{
    emulation_load l = {r, static_cast<const unsigned char *>(shared)};
    emulation_check_row(shared);
    emulation_meet(0xffffffffu, "load_matrix_x4_transposed", emulation_load_run<true>,
                   &l);
}

static inline float emulation_to_float(__nv_bfloat16 x)
{
    return __bfloat162float(x);
}
static inline float emulation_to_float(__half x)
{
    return __half2float(x);
}

struct emulation_product {
    float *d;
    const uint32_t *a, *b;
};

/* the two numbers in a register */
template <typename T> static inline void emulation_pair(float to[2], uint32_t r)
{
    to[0] = emulation_to_float(T{static_cast<uint16_t>(r & 0xFFFF)});
    to[1] = emulation_to_float(T{static_cast<uint16_t>(r >> 16)});
}

typedef float emulation_four __attribute__((vector_size(16)));

/* Each sum is made in the order of k. */
template <typename T> static inline void emulation_product_run(void *const *lanes)
{
    float a[16][16];
    emulation_four b[16][2], d[16][2];
    for (int lane = 0; lane < 32; lane++) {
        const auto *const p = static_cast<emulation_product *>(lanes[lane]);
        const int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 4; i++)
            emulation_pair<T>(&a[g + 8 * (i % 2)][2 * t + 8 * (i / 2)], p->a[i]);
        for (int i = 0; i < 2; i++) {
            float pair[2];
            emulation_pair<T>(pair, p->b[i]);
            b[2 * t + 8 * i][g / 4][g % 4] = pair[0];
            b[2 * t + 8 * i + 1][g / 4][g % 4] = pair[1];
        }
    }
    for (int row = 0; row < 16; row++) {
        emulation_four low = {}, high = {};
        for (int k = 0; k < 16; k++) {
            low += a[row][k] * b[k][0];
            high += a[row][k] * b[k][1];
        }
        d[row][0] = low;
        d[row][1] = high;
    }
    for (int lane = 0; lane < 32; lane++) {
        float *const to = static_cast<emulation_product *>(lanes[lane])->d;
        const int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 4; i++) {
            const int n = 2 * t + i % 2;
            to[i] += d[g + 8 * (i / 2)][n / 4][n % 4];
        }
    }
}

template <typename T>
static inline void mma_16x8x16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    emulation_product p = {d, a, b};
    emulation_meet(0xffffffffu, "mma_16x8x16", emulation_product_run<T>, &p);
}

/* 2^x */
static inline float exp2_fast(float x)
{
    return exp2f(x);
}

/* 1/x */
static inline float reciprocal_fast(float x)
{
    return 1.0f / x;
}
