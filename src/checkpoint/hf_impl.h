/* Inside src/checkpoint, of hf_*.c only. */
#pragma once

#include "checkpoint/hf.h"
#include "model/param.h"

/* Does the file hold the transpose of this parameter?  transformers' gpt2 multiplies by [in, out]
 * ("Conv1D"). */
bool hf_transposed(const struct arch *a, const struct checkpoint_param *p);

/* Is `name` the parameter `p`?  gpt2 files come with and without "transformer." in front. */
bool hf_is(const struct arch *a, const char *name, const char *p);

/* Tensors that are no parameters: masks and tables that transformers once saved, and a head that is the
 * embedding. */
bool hf_ignored(const struct arch *a, const char *name);

/* y [cols, rows] = transpose of x [rows, cols]. */
void hf_transpose(float *y, const float *x, int64_t rows, int64_t cols);
