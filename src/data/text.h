/* text - documents out of text files: plain, JSONL with a `text` field, either in gzip or zstd.
 *
 * What a file is, is told by its name: [.txt|.md|...] or .jsonl / .ndjson, then optionally .gz
 * or .zst.  A plain file is one document; in JSONL every line is one.  Files are read in the
 * order given, as streams, so memory is bounded by the longest document (at most
 * TEXT_MAX_DOCUMENT_BYTES, beyond which STATUS_DATA names file and line; a longer plain file is
 * cut into documents at line ends of that size). */
#pragma once

#include <stdint.h>

#include "core/hash.h"
#include "core/status.h"

enum { TEXT_MAX_DOCUMENT_BYTES = 64 << 20 };

struct text_document {
    const char *text; /* valid until the next call */
    size_t bytes;
};

struct text_reader;

/* Check that all files exist and are regular files, before any work.  STATUS_IO. */
MUST_USE status_t text_open(struct text_reader **r, const char *const *paths, int n);
void text_close(struct text_reader **r); /* NULL-safe; nulls */

/* The next document, or bytes == 0 and text == NULL at the end.  Empty documents are skipped.
 * STATUS_DATA (bad JSON, no "text", damaged gzip or zstd; names file and line), STATUS_IO. */
MUST_USE status_t text_next(struct text_reader *r, struct text_document *d);

/* After the end: JSON array of {path, bytes, sha256} of the files as they were read.  Caller
 * frees. */
MUST_USE status_t text_sources(const struct text_reader *r, char **json);
int64_t text_bytes_read(const struct text_reader *r); /* of the files, for progress */
int64_t text_bytes_total(const struct text_reader *r);
