/* In place of src/nn/amx_usable.c: there are emulated tiles wherever the tables compiled for AMX run
 * otherwise.  Elsewhere the program is skipped. */
#include <stdio.h>

#include "harness/harness.h"

#include "nn/gemm_tiles.h"
#include "nn/nn.h"

bool gemm_amx_usable(void)
{
    return gemm_dot_usable();
}

__attribute__((constructor)) static void skip_without_dot_products(void)
{
    enum { SKIPPED = 77 };
    if (gemm_dot_usable()) return;
    printf("skipped: this CPU has no AVX512-BF16\n");
    exit(SKIPPED);
}

/* else all others would pass without it */
TEST(the_tables_for_amx_are_run)
{
    const char *unit = nn_cpu_bf16();
    assert_non_null(unit);
    assert_string_equal(unit, "AMX");
}
