/* safetensors - files of tensors as Hugging Face exchanges them.
 *
 *   8 bytes     length of the header, little-endian
 *   header      JSON: {"NAME": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [BEGIN, END]}, ...,
 *               "__metadata__": {"KEY": "VALUE"}}; offsets count from the end of the header
 *   data        row by row, little-endian; the tensors cover all of it, without overlap
 *
 * Source: huggingface/safetensors, README.md, "Format".  A file is outside input: the reader believes
 * nothing that it has not checked. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

enum safetensors_dtype {
    SAFETENSORS_F32,
    SAFETENSORS_BF16,
    SAFETENSORS_F16,
    SAFETENSORS_OTHER
};
enum { SAFETENSORS_MAX_DIMS = 8 };

struct safetensors_tensor {
    const char *name;
    enum safetensors_dtype dtype;
    char dtype_name[8];
    int n_dims;
    int64_t shape[SAFETENSORS_MAX_DIMS];
    int64_t elements;
    uint64_t begin, end; /* bytes of the data */
};

/* Open for reading.  Data is read when it is asked for, not mapped: so memory is what the caller gives,
 * and a disk that fails is a status, not a signal. */
struct safetensors;

/* STATUS_CHECKPOINT says what is wrong with the file; STATUS_IO, STATUS_NOMEM.  Local. */
MUST_USE status_t safetensors_open(struct safetensors **s, const char *path);
void safetensors_close(struct safetensors **s); /* NULL-safe; nulls */

int safetensors_n(const struct safetensors *s);
const struct safetensors_tensor *
safetensors_tensors(const struct safetensors *s); /* by place */
const char *safetensors_path(const struct safetensors *s);

/* x[0..n) = elements [first, first + n) of a tensor of type F32, BF16 or F16.  STATUS_IO. */
MUST_USE status_t safetensors_read(const struct safetensors *s,
                                   const struct safetensors_tensor *t, int64_t first,
                                   int64_t n, float *x);

/* ---- writing ------------------------------------------------------------------------------ */

struct safetensors_writer;

/* Begin PATH.tmp with the header for n tensors, of which name, dtype (not OTHER), n_dims and shape count;
 * their data follows in this order.  STATUS_IO, STATUS_NOMEM. */
MUST_USE status_t safetensors_create(struct safetensors_writer **w, const char *path,
                                     const struct safetensors_tensor *tensors, int n);
/* The next n elements, rounded to the type of the tensor that they belong to; no call goes across the
 * end of a tensor. */
MUST_USE status_t safetensors_write(struct safetensors_writer *w, const float *x,
                                    int64_t n);
/* All data has been written: the file gets its name.  STATUS_IO. */
MUST_USE status_t safetensors_commit(struct safetensors_writer *w);
void safetensors_destroy(
    struct safetensors_writer **w); /* an unfinished file is removed; nulls */
