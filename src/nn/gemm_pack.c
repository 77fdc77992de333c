#include <string.h>

#include "nn/gemm_tiles.h"

/* Of a step that is not all there, a copy with zeros behind it. */
static void pack_part(const struct gemm_kernel *kernel, void *to, const char *x,
                      const struct gemm_operand *o, int64_t rows, int64_t depth,
                      bool second)
{
    _Alignas(GEMM_LINE) char copy[GEMM_SIDE * GEMM_STEP * sizeof(float)] = {0};
    const int64_t row = GEMM_STEP * kernel->elem_bytes, ld = o->ld * kernel->elem_bytes;
    const int64_t down = o->deep ? depth : rows, across = o->deep ? rows : depth;
    const int64_t some = across < GEMM_STEP ? across * kernel->elem_bytes : row;
    for (int64_t i = 0; i < down && i < GEMM_SIDE; i++)
        memcpy(copy + i * row, x + i * ld, (size_t)some);
    kernel->pack_step(to, copy, GEMM_STEP, o->deep, second);
}

void gemm_pack(const struct gemm_kernel *kernel, void *to, const struct gemm_operand *o,
               int64_t rows, int64_t depth, bool second)
{
    const int64_t step = GEMM_STEP * (o->deep ? o->ld : 1) * kernel->elem_bytes;
    const char *x = o->x;
    char *panel = to;
    for (int64_t k = 0; k < depth; k += GEMM_STEP, x += step, panel += kernel->step_bytes)
        if (rows < GEMM_SIDE || depth - k < GEMM_STEP)
            pack_part(kernel, panel, x, o, rows, depth - k, second);
        else
            kernel->pack_step(panel, x, o->ld, o->deep, second);
}

struct gemm_rows gemm_packed_rows(const struct gemm_kernel *kernel, const void *panel)
{
    return (struct gemm_rows){panel, GEMM_STEP, kernel->step_bytes / kernel->elem_bytes};
}
