#include "checkpoint/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/dtype.h"
#include "core/log.h"

enum { LENGTH_BYTES = 8, MAX_HEADER_BYTES = 100 << 20 };

struct safetensors {
    char path[PATH_MAX];
    int fd;
    uint64_t bytes, data; /* of the file; where the data begins */
    json_t *header;       /* owns the names */
    struct safetensors_tensor *tensors;
    int n;
};

static const struct {
    const char *name;
    int bits;
} types[] = {{"F32", 32}, {"BF16", 16}, {"F16", 16}, {"F64", 64}, {"I64", 64},
             {"I32", 32}, {"I16", 16},  {"I8", 8},   {"U64", 64}, {"U32", 32},
             {"U16", 16}, {"U8", 8},    {"BOOL", 8}};

static status_t bad(const struct safetensors *s, const char *name, const char *what)
{
    return status_set(STATUS_CHECKPOINT, "%s: tensor %.80s %s", s->path, name, what);
}

/* *bits of an element. */
static status_t read_dtype(const struct safetensors *s, const json_t *entry,
                           struct safetensors_tensor *t, int *bits)
{
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    for (size_t i = 0; dtype && i < sizeof types / sizeof *types; i++) {
        if (strcmp(dtype, types[i].name) != 0) continue;
        t->dtype = i < SAFETENSORS_OTHER ? (enum safetensors_dtype)i : SAFETENSORS_OTHER;
        snprintf(t->dtype_name, sizeof t->dtype_name, "%s", dtype);
        *bits = types[i].bits;
        return STATUS_OK;
    }
    return bad(s, t->name, dtype ? "is of an unknown dtype" : "has no dtype");
}

static status_t read_shape(const struct safetensors *s, const json_t *entry,
                           struct safetensors_tensor *t)
{
    const json_t *shape = json_object_get(entry, "shape");
    const size_t n = json_array_size(shape);
    if (!json_is_array(shape)) return bad(s, t->name, "has no shape");
    if (n > SAFETENSORS_MAX_DIMS) return bad(s, t->name, "has more than 8 dimensions");
    t->n_dims = (int)n;
    t->elements = 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *size = json_array_get(shape, i);
        const json_int_t v = json_is_integer(size) ? json_integer_value(size) : -1;
        if (v < 0) return bad(s, t->name, "has a shape that is not of whole numbers");
        if (v > 0 && t->elements > INT64_MAX / 64 / v)
            return bad(s, t->name, "has an impossible shape");
        t->shape[i] = v;
        t->elements *= v;
    }
    return STATUS_OK;
}

static status_t read_place(const struct safetensors *s, const json_t *entry,
                           struct safetensors_tensor *t, int bits)
{
    const json_t *place = json_object_get(entry, "data_offsets");
    const json_t *begin = json_array_get(place, 0), *end = json_array_get(place, 1);
    if (json_array_size(place) != 2 || !json_is_integer(begin) || !json_is_integer(end) ||
        json_integer_value(begin) < 0 || json_integer_value(end) < 0)
        return bad(s, t->name, "has no two data_offsets");
    t->begin = (uint64_t)json_integer_value(begin);
    t->end = (uint64_t)json_integer_value(end);
    if (t->begin > t->end || t->end > s->bytes - s->data)
        return bad(s, t->name, "has data_offsets that leave the file");
    if (t->end - t->begin != (uint64_t)t->elements * (uint64_t)bits / 8)
        return bad(s, t->name, "has data_offsets that do not fit its shape and dtype");
    return STATUS_OK;
}

static int by_place(const void *a, const void *b)
{
    const struct safetensors_tensor *p = a, *q = b;
    if (p->begin != q->begin) return p->begin < q->begin ? -1 : 1;
    return (p->end > q->end) - (p->end < q->end);
}

/* The tensors cover all of the data, once. */
static status_t check_cover(const struct safetensors *s)
{
    uint64_t at = 0;
    for (int i = 0; i < s->n; i++) {
        if (s->tensors[i].begin < at)
            return bad(s, s->tensors[i].name, "overlaps the one before it");
        if (s->tensors[i].begin > at)
            return bad(s, s->tensors[i].name, "has a gap in front of it");
        at = s->tensors[i].end;
    }
    if (at != s->bytes - s->data)
        return status_set(STATUS_CHECKPOINT,
                          "%s: has %" PRIu64 " bytes of data, its tensors take %" PRIu64,
                          s->path, s->bytes - s->data, at);
    return STATUS_OK;
}

static status_t read_entry(struct safetensors *s, const char *name, const json_t *entry)
{
    struct safetensors_tensor *t = &s->tensors[s->n];
    int bits = 0;
    t->name = name;
    if (!name[0])
        return status_set(STATUS_CHECKPOINT, "%s: a tensor has no name", s->path);
    if (!json_is_object(entry)) return bad(s, name, "is not an object");
    TRY(read_dtype(s, entry, t, &bits));
    TRY(read_shape(s, entry, t));
    TRY(read_place(s, entry, t, bits));
    if (json_object_size(entry) != 3)
        return bad(s, name, "has more than dtype, shape and data_offsets");
    s->n++;
    return STATUS_OK;
}

static status_t read_at(const struct safetensors *s, void *data, size_t bytes,
                        uint64_t offset)
{
    char *to = data;
    while (bytes > 0) {
        const ssize_t n = pread(s->fd, to, bytes, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            return status_set(STATUS_IO, "%s: cannot read: %s", s->path,
                              n < 0 ? strerror(errno) : "the file ends too early");
        to += n;
        bytes -= (size_t)n;
        offset += (uint64_t)n;
    }
    return STATUS_OK;
}

static status_t parse_header(struct safetensors *s, uint64_t length)
{
    json_error_t error;
    char *text = malloc(length + 1);
    if (!text) return status_set(STATUS_NOMEM, "%s: no memory for its header", s->path);
    const status_t st = read_at(s, text, length, LENGTH_BYTES);
    if (st == STATUS_OK)
        s->header = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    free(text);
    TRY(st);
    if (!s->header)
        return status_set(STATUS_CHECKPOINT, "%s: header, line %d, column %d: %s",
                          s->path, error.line, error.column, error.text);
    if (!json_is_object(s->header))
        return status_set(STATUS_CHECKPOINT, "%s: its header is not a JSON object",
                          s->path);
    return STATUS_OK;
}

static status_t read_header(struct safetensors *s)
{
    uint64_t length = 0;
    if (s->bytes < LENGTH_BYTES)
        return status_set(STATUS_CHECKPOINT,
                          "%s: has %" PRIu64 " bytes, too few for a header", s->path,
                          s->bytes);
    TRY(read_at(s, &length, LENGTH_BYTES, 0));
    if (length > s->bytes - LENGTH_BYTES || length > MAX_HEADER_BYTES)
        return status_set(
            STATUS_CHECKPOINT,
            "%s: says that its header has %" PRIu64 " bytes; valid is up to "
            "%" PRIu64,
            s->path, length,
            s->bytes - LENGTH_BYTES < MAX_HEADER_BYTES ? s->bytes - LENGTH_BYTES
                                                       : (uint64_t)MAX_HEADER_BYTES);
    s->data = LENGTH_BYTES + length;
    TRY(parse_header(s, length));
    s->tensors = calloc(json_object_size(s->header) + 1, sizeof *s->tensors);
    if (!s->tensors)
        return status_set(STATUS_NOMEM, "%s: no memory for its header", s->path);
    const char *name;
    json_t *entry;
    json_object_foreach(s->header, name, entry)
    {
        if (strcmp(name, "__metadata__") != 0)
            TRY(read_entry(s, name, entry));
        else if (!json_is_object(entry))
            return status_set(STATUS_CHECKPOINT, "%s: __metadata__ is not an object",
                              s->path);
    }
    qsort(s->tensors, (size_t)s->n, sizeof *s->tensors, by_place);
    return check_cover(s);
}

static status_t open_file(struct safetensors *s)
{
    struct stat info;
    s->fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (s->fd < 0)
        return status_set(STATUS_IO, "%s: cannot open: %s", s->path, strerror(errno));
    if (fstat(s->fd, &info) != 0 || !S_ISREG(info.st_mode))
        return status_set(STATUS_CHECKPOINT, "%s: is not a regular file", s->path);
    if (info.st_size == 0) return status_set(STATUS_CHECKPOINT, "%s: is empty", s->path);
    s->bytes = (uint64_t)info.st_size;
    return STATUS_OK;
}

status_t safetensors_open(struct safetensors **out, const char *path)
{
    struct safetensors *s = calloc(1, sizeof *s);
    *out = s;
    if (!s) return status_set(STATUS_NOMEM, "%s: no memory to open it", path);
    snprintf(s->path, sizeof s->path, "%s", path);
    status_t st = open_file(s);
    if (st == STATUS_OK) st = read_header(s);
    if (st != STATUS_OK) safetensors_close(out);
    return st;
}

void safetensors_close(struct safetensors **out)
{
    struct safetensors *s = *out;
    if (!s) return;
    if (s->fd >= 0) close(s->fd);
    json_decref(s->header);
    free(s->tensors);
    free(s);
    *out = NULL;
}

int safetensors_n(const struct safetensors *s)
{
    return s->n;
}

const struct safetensors_tensor *safetensors_tensors(const struct safetensors *s)
{
    return s->tensors;
}

const char *safetensors_path(const struct safetensors *s)
{
    return s->path;
}

status_t safetensors_read(const struct safetensors *s, const struct safetensors_tensor *t,
                          int64_t first, int64_t n, float *x)
{
    static const enum dtype dtypes[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    CHECK(t->dtype < SAFETENSORS_OTHER && first >= 0 && n >= 0 &&
          first <= t->elements - n);
    const enum dtype from = dtypes[t->dtype];
    const uint64_t at = s->data + t->begin + (uint64_t)first * dtype_bytes(from);
    if (from == DTYPE_F32) return read_at(s, x, (size_t)n * sizeof *x, at);
    enum { BLOCK = 1 << 16 };
    uint16_t block[BLOCK];
    for (int64_t i = 0; i < n; i += BLOCK) {
        const int64_t m = n - i < BLOCK ? n - i : BLOCK;
        TRY(read_at(s, block, (size_t)m * sizeof *block,
                    at + (uint64_t)i * sizeof *block));
        dtype_convert(x + i, DTYPE_F32, block, from, m);
    }
    return STATUS_OK;
}
