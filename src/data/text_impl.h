/* text_impl - the bytes of one text file, decompressed, for text.c only. */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "core/hash.h"
#include "core/status.h"

struct text_stream;

/* Open `path`; the ending of its name says whether it is gzip, zstd or neither.  Bytes taken
 * from the file are added to *counter.  STATUS_IO, STATUS_NOMEM. */
MUST_USE status_t text_stream_open(struct text_stream **s, const char *path,
                                   _Atomic int64_t *counter);

/* Up to `capacity` bytes; *n == 0 at the end of the file.  STATUS_DATA: damaged or cut off. */
MUST_USE status_t text_stream_read(struct text_stream *s, char *out, size_t capacity,
                                   size_t *n);

/* Close; after the end, `hex` and *bytes are those of the file as it lies on disk (both may
 * be NULL).  NULL-safe; nulls. */
void text_stream_close(struct text_stream **s, char hex[HASH_SHA256_HEX], int64_t *bytes);

/* Does `path` end in `ending`, with something before it? */
int text_name_ends(const char *path, size_t length, const char *ending);
