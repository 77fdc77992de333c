/* cuda_instructions - what a kernel needs that is not C++: launches, shared memory, tensor-core
 * and asynchronous-copy instructions.  tests/emulation/include/nn/ holds the twin of this file for
 * a host without a GPU; the two must declare the same. */
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdint.h>

#include "device/device_cuda.h"

/* Queue `kernel` (a template instance with commas goes into parentheses); `shared_bytes` of
 * dynamic shared memory.  More than 48 KiB need CUDA_ALLOW_SHARED before, once. */
#define CUDA_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                      \
    do {                                                                                 \
        (kernel)<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__);            \
        device_cuda_launched(#kernel);                                                   \
    } while (0)

#define CUDA_ALLOW_SHARED(kernel, bytes)                                                 \
    device_cuda_check(cudaFuncSetAttribute((const void *)(kernel),                       \
                                           cudaFuncAttributeMaxDynamicSharedMemorySize,  \
                                           (int)(bytes)),                                \
                      "cudaFuncSetAttribute(" #kernel ")")

/* `name`: n elements of `type`, shared by the threads of a block, uninitialised. */
#define CUDA_SHARED(type, name, n) __shared__ __align__(16) type name[n]
/* `name`: the dynamic shared memory of the launch. */
#define CUDA_DYNAMIC_SHARED(type, name)                                                  \
    extern __shared__ __align__(128) unsigned char cuda_dynamic_shared_[];               \
    type *const name = reinterpret_cast<type *>(cuda_dynamic_shared_)

/* One load of 16 bytes, p aligned to 16. */
static __device__ __forceinline__ uint4 load_uint4(const void *p)
{
    return *static_cast<const uint4 *>(p);
}

/* One store of 16 bytes, p aligned to 16.  The compiler makes one of a plain assignment too, but
 * not always: behind a branch it was seen to make four. */
static __device__ __forceinline__ void store_uint4(void *p, uint4 x)
{
    asm volatile("st.v4.b32 [%0], {%1,%2,%3,%4};\n" ::"l"(p), "r"(x.x), "r"(x.y),
                 "r"(x.z), "r"(x.w)
                 : "memory");
}

/* One store of 8 bytes, p aligned to 8. */
static __device__ __forceinline__ void store_uint2(void *p, uint2 x)
{
    *static_cast<uint2 *>(p) = x;
}

/* Hides from the compiler what x is: what was made of it before is made again behind this, and need
 * not stay in registers.  No instruction. */
static __device__ __forceinline__ void forget_uint4(uint4 *x)
{
    asm volatile("" : "+r"(x->x), "+r"(x->y), "+r"(x->z), "+r"(x->w));
}

/* ---- asynchronous copies, global to shared memory (sm_80; plain copies before) ------------ */

/* 16 bytes, both addresses aligned to 16; with valid == false zeros are written and nothing is
 * read.  What was copied may be read after copy_async_wait and a barrier. */
static __device__ __forceinline__ void copy_async_16(void *shared, const void *global,
                                                     bool valid)
{
#if __CUDA_ARCH__ >= 800
    const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    const int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(global),
                 "r"(bytes)
                 : "memory");
#else
    *static_cast<uint4 *>(shared) =
        valid ? *static_cast<const uint4 *>(global) : make_uint4(0, 0, 0, 0);
#endif
}

/* All copies of this thread since the last commit become one group. */
static __device__ __forceinline__ void copy_async_commit()
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;\n" ::: "memory");
#endif
}

/* All but the newest `pending` groups of this thread are there. */
template <int pending> static __device__ __forceinline__ void copy_async_wait()
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;\n" ::"n"(pending) : "memory");
#endif
}

/* ---- tensor cores -------------------------------------------------------------------------
 * Fragments are those of PTX ISA "Matrix fragments for mma.m16n8k16", in registers of two 16-bit
 * numbers.  With lane = 4 * g + t (g = lane / 4, t = lane % 4):
 *   a[0] = A[g][2t,2t+1]      a[1] = A[g+8][2t,2t+1]    a[2] = A[g][2t+8,2t+9]   a[3] = A[g+8][2t+8,..]
 *   b[0] = B[2t,2t+1][g]      b[1] = B[2t+8,2t+9][g]
 *   d[0,1] = D[g][2t,2t+1]    d[2,3] = D[g+8][2t,2t+1] */

/* Four 8x8 matrices of 16-bit numbers from shared memory: lane l gives the address of row l % 8
 * of matrix l / 8 (16-byte aligned); r[i] = elements 2t, 2t+1 of row g of matrix i. */
static __device__ __forceinline__ void load_matrix_x4(uint32_t r[4], const void *shared)
{
    const unsigned from = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from)
                 : "memory");
}

/* The same, each matrix transposed. */
static __device__ __forceinline__ void load_matrix_x4_transposed(uint32_t r[4],
                                                                 const void *shared)
{
    const unsigned from = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from)
                 : "memory");
}

/* d[16,8] += a[16,16] b[16,8], fp32 sums.  T: __nv_bfloat16 (sm_80) or __half (sm_75: two
 * products of half the depth; sm_70 has no such shape and is not offered). */
template <typename T>
static __device__ __forceinline__ void mma_16x8x16(float d[4], const uint32_t a[4],
                                                   const uint32_t b[2]);

template <>
__device__ __forceinline__ void
mma_16x8x16<__nv_bfloat16>(float d[4], const uint32_t a[4], const uint32_t b[2])
{
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    __trap(); /* device_supports(DTYPE_BF16) is false there */
#endif
}

template <>
__device__ __forceinline__ void mma_16x8x16<__half>(float d[4], const uint32_t a[4],
                                                    const uint32_t b[2])
{
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    for (int k = 0; k < 2; k++)
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
                     "{%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};\n"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(a[2 * k]), "r"(a[2 * k + 1]), "r"(b[k]));
#endif
}

/* 2^x, fast: relative error below 2^-21, 0 for x = -infinity */
static __device__ __forceinline__ float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* 1/x, fast: relative error below 2^-22, 0 for infinity and where the result is subnormal */
static __device__ __forceinline__ float reciprocal_fast(float x)
{
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
