/* Files of numpy.save: "\x93NUMPY", version (1, 2 or 3), length of the header (uint16, from
 * version 2 on uint32), the header, which is a Python dictionary such as
 *     {'descr': '<u2', 'fortran_order': False, 'shape': (1000,), }
 * and the array.  One dimension of uint16, uint32 or (non-negative) int32, little-endian.
 * Source: numpy/lib/format.py ("Format Version 1.0" and following). */
#include "data/token_file_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_HEADER_BYTES = 4096, MAX_QUOTE_BYTES = 32 };

/* Bytes of a value to show: up to the `end` that closes it. */
static int quote_bytes(const char *value, char end)
{
    int n = 1;
    while (n < MAX_QUOTE_BYTES && value[n - 1] && (n == 1 || value[n - 1] != end)) n++;
    return n;
}

/* The value behind 'key': in the dictionary, NULL if there is none. */
static const char *find_value(const char *header, const char *key)
{
    const char *at = strstr(header, key);
    if (!at) return NULL;
    at += strlen(key);
    at += strspn(at, " ");
    if (*at != ':') return NULL;
    return at + 1 + strspn(at + 1, " ");
}

static status_t read_type(const struct token_file *f, const char *header, int *bytes)
{
    static const struct {
        const char *descr;
        int bytes;
    } types[] = {{"'<u2'", 2}, {"'<u4'", 4}, {"'<i4'", 4}};
    const char *descr = find_value(header, "'descr'");
    for (size_t i = 0; descr && i < sizeof types / sizeof *types; i++) {
        if (strncmp(descr, types[i].descr, strlen(types[i].descr)) != 0) continue;
        *bytes = types[i].bytes;
        return STATUS_OK;
    }
    return status_set(STATUS_DATA, "%s: descr is %.*s, valid are '<u2', '<u4', '<i4'",
                      f->path, descr ? quote_bytes(descr, '\'') : 7,
                      descr ? descr : "missing");
}

static status_t read_shape(const struct token_file *f, const char *header, int64_t *n)
{
    const char *shape = find_value(header, "'shape'");
    char *end = NULL;
    if (shape && shape[0] == '(' && shape[1] >= '0' && shape[1] <= '9') {
        const unsigned long long x = strtoull(shape + 1, &end, 10);
        if (strncmp(end, ",)", 2) == 0 && x <= INT64_MAX / 8) {
            *n = (int64_t)x;
            return STATUS_OK;
        }
    }
    return status_set(STATUS_DATA, "%s: shape is %.*s, valid is one dimension, (N,)",
                      f->path, shape ? quote_bytes(shape, ')') : 7,
                      shape ? shape : "missing");
}

/* Copy the dictionary as text; *tokens: where the array begins. */
static status_t read_header(const struct token_file *f, char header[MAX_HEADER_BYTES + 1],
                            size_t *tokens)
{
    const struct token_map *m = &f->map;
    if (m->bytes < 12 || memcmp(m->data, "\x93NUMPY", 6) != 0)
        return status_set(STATUS_DATA,
                          "%s: does not begin with \\x93NUMPY (valid: a file of "
                          "numpy.save; format: raw for tokens without a header)",
                          f->path);
    const int version = m->data[6];
    if (version < 1 || version > 3)
        return status_set(STATUS_DATA, "%s: has NumPy format version %d, valid is 1 to 3",
                          f->path, version);
    const size_t begin = version == 1 ? 10 : 12;
    const size_t bytes =
        version == 1 ? m->data[8] + 256u * m->data[9] : token_u32(m->data + 8);
    if (bytes > MAX_HEADER_BYTES || bytes > m->bytes - begin)
        return status_set(STATUS_DATA,
                          "%s: has a header of %zu bytes, valid is at most %d in a file "
                          "of %zu",
                          f->path, bytes, MAX_HEADER_BYTES, m->bytes);
    memcpy(header, m->data + begin, bytes);
    header[bytes] = '\0';
    *tokens = begin + bytes;
    return STATUS_OK;
}

status_t token_file_npy_open(struct token_file *f, const struct token_file_options *o)
{
    char header[MAX_HEADER_BYTES + 1];
    size_t tokens = 0;
    int bytes = 0;
    int64_t n = 0;
    TRY(token_map_open(&f->map, f->path));
    TRY(read_header(f, header, &tokens));
    TRY(read_type(f, header, &bytes));
    TRY(read_shape(f, header, &n));
    TRY(token_file_settle(f, o, bytes, 0));
    return token_file_take_tokens(f, tokens, n);
}
