#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/safetensors.h"
#include "core/dtype.h"
#include "core/file.h"
#include "core/log.h"

struct safetensors_writer {
    char path[PATH_MAX], tmp[PATH_MAX];
    FILE *file; /* of tmp; NULL once committed */
    int64_t *elements;
    enum dtype *types;
    int n, current;
    int64_t done; /* elements of the current tensor */
};

static const struct {
    const char *name;
    enum dtype type;
} types[] = {{"F32", DTYPE_F32}, {"BF16", DTYPE_BF16}, {"F16", DTYPE_F16}};

static status_t failed(const struct safetensors_writer *w, const char *what)
{
    return status_set(STATUS_IO, "%s: cannot %s: %s", w->tmp, what, strerror(errno));
}

/* The header's text, padded so that the data is aligned to 8 bytes; caller frees. */
static char *make_header(struct safetensors_writer *w,
                         const struct safetensors_tensor *tensors)
{
    json_t *o = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    int64_t at = 0;
    for (int i = 0; o && i < w->n; i++) {
        const struct safetensors_tensor *t = &tensors[i];
        json_t *shape = json_array();
        int64_t elements = 1;
        for (int d = 0; d < t->n_dims; d++) {
            json_array_append_new(shape, json_integer(t->shape[d]));
            elements *= t->shape[d];
        }
        w->elements[i] = elements;
        w->types[i] = types[t->dtype].type;
        const int64_t end = at + elements * (int64_t)dtype_bytes(w->types[i]);
        json_object_set_new(o, t->name,
                            json_pack("{s:s, s:o, s:[I, I]}", "dtype",
                                      types[t->dtype].name, "shape", shape,
                                      "data_offsets", (json_int_t)at, (json_int_t)end));
        at = end;
    }
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    return text;
}

static status_t begin(struct safetensors_writer *w,
                      const struct safetensors_tensor *tensors)
{
    char *header = make_header(w, tensors);
    if (!header) return status_set(STATUS_NOMEM, "%s: no memory for a header", w->path);
    const uint64_t n = strlen(header), length = (n + 7) / 8 * 8;
    w->file = fopen(w->tmp, "wb");
    bool ok = w->file && fwrite(&length, sizeof length, 1, w->file) == 1 &&
              fwrite(header, 1, n, w->file) == n;
    for (uint64_t i = n; ok && i < length; i++) ok = fputc(' ', w->file) != EOF;
    free(header);
    return ok ? STATUS_OK : failed(w, "write");
}

status_t safetensors_create(struct safetensors_writer **out, const char *path,
                            const struct safetensors_tensor *tensors, int n)
{
    struct safetensors_writer *w = calloc(1, sizeof *w);
    *out = w;
    if (!w) return status_set(STATUS_NOMEM, "%s: no memory to write it", path);
    w->n = n;
    w->elements = calloc((size_t)n + 1, sizeof *w->elements);
    w->types = calloc((size_t)n + 1, sizeof *w->types);
    snprintf(w->path, sizeof w->path, "%s", path);
    status_t st = STATUS_OK;
    if (!w->elements || !w->types)
        st = status_set(STATUS_NOMEM, "%s: no memory to write it", path);
    else if (snprintf(w->tmp, sizeof w->tmp, "%s.tmp", path) >= PATH_MAX)
        st = status_set(STATUS_IO, "%s: the name is too long", path);
    else
        st = begin(w, tensors);
    if (st != STATUS_OK) safetensors_destroy(out);
    return st;
}

status_t safetensors_write(struct safetensors_writer *w, const float *x, int64_t n)
{
    enum { BLOCK = 4096 };
    uint32_t block[BLOCK];
    while (w->current < w->n && w->done == w->elements[w->current]) {
        w->current++;
        w->done = 0;
    }
    CHECK(w->current < w->n && n <= w->elements[w->current] - w->done);
    const enum dtype to = w->types[w->current];
    for (int64_t i = 0; i < n; i += BLOCK) {
        const int64_t m = n - i < BLOCK ? n - i : BLOCK;
        dtype_convert(block, to, x + i, DTYPE_F32, m);
        if (fwrite(block, dtype_bytes(to), (size_t)m, w->file) != (size_t)m)
            return failed(w, "write");
    }
    w->done += n;
    return STATUS_OK;
}

status_t safetensors_commit(struct safetensors_writer *w)
{
    for (; w->current < w->n; w->current++, w->done = 0)
        CHECK(w->done == w->elements[w->current]);
    const bool closed = fclose(w->file) == 0;
    w->file = NULL;
    if (!closed) {
        const status_t st = failed(w, "write");
        unlink(w->tmp);
        return st;
    }
    return file_commit(w->path);
}

void safetensors_destroy(struct safetensors_writer **out)
{
    struct safetensors_writer *w = *out;
    if (!w) return;
    if (w->file) {
        fclose(w->file);
        unlink(w->tmp);
    }
    free(w->elements);
    free(w->types);
    free(w);
    *out = NULL;
}
