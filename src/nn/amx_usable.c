/* Are there tile registers?  In a file of its own: tests put another in its place (tests/amx). */
#include "nn/gemm_tiles.h"

#ifdef NN_HAVE_X86
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool cpu_has_amx(void)
{
    unsigned a, b, c, d;
    const unsigned amx_bf16 = 1U << 22, amx_tile = 1U << 24;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    return d & amx_bf16 && d & amx_tile && gemm_dot_usable();
}

bool gemm_amx_usable(void)
{
    /* a process asks for the tile registers' state once (Documentation/arch/x86/xstate.rst of Linux) */
    enum { REQUEST = 0x1023, TILE_DATA = 18, UNKNOWN = 0, NO, YES };
    static int usable;
    int known = __atomic_load_n(&usable, __ATOMIC_RELAXED);
    if (known == UNKNOWN) {
        const bool granted =
            cpu_has_amx() && syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
        known = granted ? YES : NO;
        __atomic_store_n(&usable, known, __ATOMIC_RELAXED);
    }
    return known == YES;
}
#else
bool gemm_amx_usable(void)
{
    return false;
}
#endif
