/* dtype - the number formats a tensor can hold. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum dtype { DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_I32, DTYPE_COUNT };

size_t dtype_bytes(enum dtype t);
const char *dtype_name(enum dtype t); /* "fp32", "bf16", "fp16", "int32" */

/* One number, rounded to nearest even; NaN stays NaN, what is too large becomes infinite. */
uint16_t dtype_bf16(float x);
uint16_t dtype_f16(float x);
float dtype_from_bf16(uint16_t x);
float dtype_from_f16(uint16_t x);

/* y[i] = x[i] for n numbers, each array in its type (fp32, bf16, fp16); no overlap. */
void dtype_convert(void *y, enum dtype to, const void *x, enum dtype from, int64_t n);
