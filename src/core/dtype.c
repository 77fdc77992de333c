#include "core/dtype.h"

static const struct {
    const char *name;
    size_t bytes;
} table[DTYPE_COUNT] = {
    [DTYPE_F32] = {"fp32", 4},
    [DTYPE_BF16] = {"bf16", 2},
    [DTYPE_F16] = {"fp16", 2},
    [DTYPE_I32] = {"int32", 4},
};

size_t dtype_bytes(enum dtype t)
{
    return table[t].bytes;
}

const char *dtype_name(enum dtype t)
{
    return table[t].name;
}
