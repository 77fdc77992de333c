/* Loops of multiply-adds on as many registers as hide their latency, for each kind of unit.  The
 * empty assembly keeps the compiler from finding out that nothing is computed. */
#include <omp.h>

#include "core/clock.h"
#include "nn/nn_impl.h"
#include "nn/yardstick.h"

/* two units times a latency of at most six */
enum { SUMS = 12, ROUNDS = 800000, REPEATS = 7 };

/* Each returns the floating-point operations of one thread. */
typedef double loop_fn(void);

#ifdef NN_HAVE_X86
#include <immintrin.h>

#define KEEP(x) __asm__ volatile("" : "+v"(x))

#define ALL(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)

/* NEXT(sum) of each of SUMS sums, ROUNDS times; sums of names of their own, so that they are
 * registers */
#define BEGIN(i) sum##i = zero,
#define STEP(i)                                                                          \
    sum##i = NEXT(sum##i);                                                               \
    KEEP(sum##i);
#define RUN(type)                                                                        \
    type ALL(BEGIN) unused = zero;                                                       \
    for (int n = 0; n < ROUNDS; n++) {                                                   \
        ALL(STEP)                                                                        \
    }                                                                                    \
    KEEP(unused)

__attribute__((target("avx512f"))) static double fma_512(void)
{
    const __m512 zero = _mm512_setzero_ps();
    __m512 x = _mm512_set1_ps(0.5f);
    KEEP(x);
#define NEXT(sum) _mm512_fmadd_ps(x, x, sum)
    RUN(__m512);
#undef NEXT
    return 2.0 * 16 * SUMS * ROUNDS;
}

__attribute__((target("avx512bf16,avx512f"))) static double dpbf16_512(void)
{
    const __m512 zero = _mm512_setzero_ps();
    __m512 x = _mm512_set1_ps(0.5f);
    KEEP(x);
#define NEXT(sum) _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)x)
    RUN(__m512);
#undef NEXT
    return 4.0 * 16 * SUMS * ROUNDS;
}

__attribute__((target("avx2,fma"))) static double fma_256(void)
{
    const __m256 zero = _mm256_setzero_ps();
    __m256 x = _mm256_set1_ps(0.5f);
    KEEP(x);
#define NEXT(sum) _mm256_fmadd_ps(x, x, sum)
    RUN(__m256);
#undef NEXT
    return 2.0 * 8 * SUMS * ROUNDS;
}

__attribute__((target("amx-tile,amx-bf16"))) static double amx(void)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } c = {.palette = 1};
    for (int i = 0; i < 8; i++) c.row_bytes[i] = 64, c.rows[i] = 16;
    __asm__ volatile(
        ""
        : "+m"(c)); /* gcc 12 thinks that the first 8 bytes are all that is read */
    _tile_loadconfig(&c);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    for (int n = 0; n < ROUNDS; n++) {
        _tile_dpbf16ps(0, 4, 5);
        _tile_dpbf16ps(1, 4, 5);
        _tile_dpbf16ps(2, 4, 5);
        _tile_dpbf16ps(3, 4, 5);
    }
    _tile_release();
    return 2.0 * 16 * 16 * 32 * 4 * ROUNDS;
}
#endif

static loop_fn *loop_of(enum dtype t)
{
#ifdef NN_HAVE_X86
    const char *unit = nn_cpu_bf16();
    if (t == DTYPE_BF16) return !unit ? NULL : unit[1] == 'M' ? amx : dpbf16_512;
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) return fma_512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return fma_256;
#endif
    (void)t;
    return NULL;
}

double yardstick_registers(enum dtype t, int threads)
{
    double best = 0;
    loop_fn *loop = loop_of(t);
    for (int r = 0; loop && r < REPEATS; r++) {
        double flops = 0;
        const double start = clock_seconds();
#pragma omp parallel num_threads(threads) reduction(+ : flops)
        flops += loop();
        const double rate = flops / (clock_seconds() - start);
        if (rate > best) best = rate;
    }
    return best;
}
