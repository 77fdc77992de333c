/* dtype - the number formats a tensor can hold. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum dtype { DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_I32, DTYPE_COUNT };

size_t dtype_bytes(enum dtype t);
const char *dtype_name(enum dtype t); /* "fp32", "bf16", "fp16", "int32" */
