/* cuda_runtime - what kernels use of CUDA C++, for the emulated device (../emulation.h).
 *
 * Threads of a block are fibers of one host thread, in a random order; whatever makes threads wait
 * for each other goes through the functions of ../block.h.  In C only the runtime's functions. */
#pragma once

#include "cuda_runtime_api.h"

#ifdef __cplusplus

#include <math.h>
#include <stdint.h>
#include <string.h>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__    __attribute__((noinline))
#define __align__(n)    __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define __restrict__ __restrict

/* ---- vectors ------------------------------------------------------------------------------- */

#define EMULATION_VECTORS(type, name, align2, align4)                                    \
    struct __align__(align2) name##2                                                     \
    {                                                                                    \
        type x, y;                                                                       \
    };                                                                                   \
    struct name##3                                                                       \
    {                                                                                    \
        type x, y, z;                                                                    \
    };                                                                                   \
    struct __align__(align4) name##4                                                     \
    {                                                                                    \
        type x, y, z, w;                                                                 \
    };                                                                                   \
    static inline name##2 make_##name##2(type x, type y)                                 \
    {                                                                                    \
        return {x, y};                                                                   \
    }                                                                                    \
    static inline name##3 make_##name##3(type x, type y, type z)                         \
    {                                                                                    \
        return {x, y, z};                                                                \
    }                                                                                    \
    static inline name##4 make_##name##4(type x, type y, type z, type w)                 \
    {                                                                                    \
        return {x, y, z, w};                                                             \
    }

EMULATION_VECTORS(int, int, 8, 16)
EMULATION_VECTORS(unsigned, uint, 8, 16)
EMULATION_VECTORS(float, float, 8, 16)
EMULATION_VECTORS(double, double, 16, 16)
EMULATION_VECTORS(short, short, 4, 8)
EMULATION_VECTORS(unsigned short, ushort, 4, 8)
EMULATION_VECTORS(long long, longlong, 16, 16)

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1)
        : x(x_), y(y_), z(z_)
    {
    }
};

/* ---- where a thread is --------------------------------------------------------------------- */

extern "C" {
extern uint3 emulation_thread_index, emulation_block_index;
extern uint3 emulation_block_size, emulation_grid_size;
}
#define threadIdx emulation_thread_index
#define blockIdx  emulation_block_index
#define blockDim  emulation_block_size
#define gridDim   emulation_grid_size
static const int warpSize = 32;

/* ---- meeting points (../block.c) ----------------------------------------------------------- */

/* One argument for each lane; the others are NULL. */
typedef void emulation_meeting(void *const lanes[32]);

extern "C" {
void emulation_barrier(void);
/* The lanes of `mask` wait for each other; the last one calls run with all their arguments. */
void emulation_meet(unsigned mask, const char *name, emulation_meeting *run,
                    void *argument);
int emulation_lane(void);
__attribute__((noreturn)) void emulation_trap(void);
}

static inline void __syncthreads()
{
    emulation_barrier();
}

static inline void emulation_nothing(void *const *)
{
}

static inline void __syncwarp(unsigned mask = 0xffffffffu)
{
    emulation_meet(mask, "__syncwarp", emulation_nothing, nullptr);
}

static inline void __threadfence()
{
}
static inline void __threadfence_block()
{
}

[[noreturn]] static inline void __trap()
{
    emulation_trap();
}

template <typename T> struct emulation_shuffle {
    T value, result;
    int from; /* lane */
};

template <typename T> static inline void emulation_shuffle_run(void *const *lanes)
{
    for (int i = 0; i < 32; i++) {
        if (!lanes[i]) continue;
        auto *const me = static_cast<emulation_shuffle<T> *>(lanes[i]);
        if (lanes[me->from])
            me->result = static_cast<emulation_shuffle<T> *>(lanes[me->from])->value;
        else /* a lane that does not take part: undefined */
            memset(&me->result, 0xFF, sizeof(T));
    }
}

template <typename T>
static inline T emulation_shuffle_from(unsigned mask, const char *name, T value, int from)
{
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
    emulation_shuffle<T> s = {value, value, from};
    emulation_meet(mask, name, emulation_shuffle_run<T>, &s);
    return s.result;
}

template <typename T>
static inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32)
{
    const int first = emulation_lane() & ~(width - 1);
    return emulation_shuffle_from(mask, "__shfl_sync", value,
                                  first + (lane & (width - 1)));
}

template <typename T>
static inline T __shfl_xor_sync(unsigned mask, T value, int flip, int width = 32)
{
    const int me = emulation_lane(), end = (me & ~(width - 1)) + width, from = me ^ flip;
    return emulation_shuffle_from(mask, "__shfl_xor_sync", value, from < end ? from : me);
}

template <typename T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32)
{
    const int me = emulation_lane(), from = me - static_cast<int>(by);
    return emulation_shuffle_from(mask, "__shfl_up_sync", value,
                                  from >= (me & ~(width - 1)) ? from : me);
}

template <typename T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32)
{
    const int me = emulation_lane(), from = me + static_cast<int>(by);
    return emulation_shuffle_from(mask, "__shfl_down_sync", value,
                                  from < (me & ~(width - 1)) + width ? from : me);
}

struct emulation_vote {
    unsigned vote, votes;
};

static inline void emulation_vote_run(void *const *lanes)
{
    unsigned votes = 0;
    for (int i = 0; i < 32; i++) {
        if (lanes[i] && static_cast<emulation_vote *>(lanes[i])->vote) votes |= 1u << i;
    }
    for (int i = 0; i < 32; i++) {
        if (lanes[i]) static_cast<emulation_vote *>(lanes[i])->votes = votes;
    }
}

static inline unsigned __ballot_sync(unsigned mask, int predicate)
{
    emulation_vote v = {predicate != 0, 0};
    emulation_meet(mask, "__ballot_sync", emulation_vote_run, &v);
    return v.votes;
}

static inline int __any_sync(unsigned mask, int predicate)
{
    return __ballot_sync(mask, predicate) != 0;
}

static inline int __all_sync(unsigned mask, int predicate)
{
    return __ballot_sync(mask, predicate) == mask;
}

static inline unsigned __activemask()
{
    return 1u << emulation_lane(); /* as much as can be relied on */
}

/* ---- integer atomics: one thread runs at a time ---------------------------------------------- */

#define EMULATION_ATOMIC(name, type, expression)                                         \
    static inline type name(type *p, type value)                                         \
    {                                                                                    \
        const type old = *p;                                                             \
        *p = (expression);                                                               \
        return old;                                                                      \
    }
EMULATION_ATOMIC(atomicAdd, int, old + value)
EMULATION_ATOMIC(atomicAdd, unsigned, old + value)
EMULATION_ATOMIC(atomicAdd, unsigned long long, old + value)
EMULATION_ATOMIC(atomicMax, int, old > value ? old : value)
EMULATION_ATOMIC(atomicMax, unsigned, old > value ? old : value)
EMULATION_ATOMIC(atomicMin, int, old < value ? old : value)
EMULATION_ATOMIC(atomicMin, unsigned, old < value ? old : value)
EMULATION_ATOMIC(atomicExch, int, value)
EMULATION_ATOMIC(atomicExch, unsigned, value)
EMULATION_ATOMIC(atomicOr, int, old | value)
EMULATION_ATOMIC(atomicOr, unsigned, old | value)

template <typename T> static inline T atomicCAS(T *p, T compare, T value)
{
    static_assert(static_cast<T>(0.5) == T{}, "integers only");
    const T old = *p;
    if (old == compare) *p = value;
    return old;
}

/* ---- numbers ------------------------------------------------------------------------------- */

template <typename To, typename From> static inline To emulation_bits(From x)
{
    static_assert(sizeof(To) == sizeof(From), "bits need a twin of the same size");
    To y;
    memcpy(&y, &x, sizeof y);
    return y;
}

static inline int __float_as_int(float x)
{
    return emulation_bits<int>(x);
}
static inline unsigned __float_as_uint(float x)
{
    return emulation_bits<unsigned>(x);
}
static inline float __int_as_float(int x)
{
    return emulation_bits<float>(x);
}
static inline float __uint_as_float(unsigned x)
{
    return emulation_bits<float>(x);
}
static inline long long __double_as_longlong(double x)
{
    return emulation_bits<long long>(x);
}
static inline double __longlong_as_double(long long x)
{
    return emulation_bits<double>(x);
}

static inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}
static inline int __clz(int x)
{
    return x ? __builtin_clz(static_cast<unsigned>(x)) : 32;
}
static inline int __ffs(int x)
{
    return __builtin_ffs(x);
}
static inline unsigned __umulhi(unsigned a, unsigned b)
{
    return static_cast<unsigned>((static_cast<uint64_t>(a) * b) >> 32);
}
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    __extension__ typedef unsigned __int128 wide;
    return static_cast<unsigned long long>((static_cast<wide>(a) * b) >> 64);
}

#define EMULATION_MIN_MAX(type)                                                          \
    static inline type min(type a, type b)                                               \
    {                                                                                    \
        return a < b ? a : b;                                                            \
    }                                                                                    \
    static inline type max(type a, type b)                                               \
    {                                                                                    \
        return a > b ? a : b;                                                            \
    }
EMULATION_MIN_MAX(int)
EMULATION_MIN_MAX(unsigned)
EMULATION_MIN_MAX(long)
EMULATION_MIN_MAX(unsigned long)
EMULATION_MIN_MAX(long long)
EMULATION_MIN_MAX(unsigned long long)
static inline float min(float a, float b)
{
    return fminf(a, b);
}
static inline float max(float a, float b)
{
    return fmaxf(a, b);
}
static inline double min(double a, double b)
{
    return fmin(a, b);
}
static inline double max(double a, double b)
{
    return fmax(a, b);
}

static inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}
static inline double rsqrt(double x)
{
    return 1.0 / sqrt(x);
}
/* CUDA's fast variants promise less; here they are the plain functions.  Macros, because glibc
 * declares the first two. */
#define __expf expf
#define __logf logf
#define __powf powf
#define __sinf sinf
#define __cosf cosf
static inline float __fdividef(float a, float b)
{
    return a / b;
}
static inline float __frcp_rn(float x)
{
    return 1.0f / x;
}
static inline float __fsqrt_rn(float x)
{
    return sqrtf(x);
}
static inline float __fadd_rn(float a, float b)
{
    return a + b;
}
static inline float __fmul_rn(float a, float b)
{
    return a * b;
}
static inline float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}
static inline float __fdiv_rn(float a, float b)
{
    return a / b;
}
static inline float __saturatef(float x)
{
    return fminf(fmaxf(x, 0.0f), 1.0f);
}

template <typename T> static inline T __ldg(const T *p)
{
    return *p;
}
template <typename T> static inline T __ldcs(const T *p)
{
    return *p;
}
template <typename T> static inline T __ldcg(const T *p)
{
    return *p;
}
template <typename T> static inline void __stcs(T *p, T x)
{
    *p = x;
}
template <typename T> static inline void __stcg(T *p, T x)
{
    *p = x;
}

#endif /* __cplusplus */
