/* text - documents out of text files: plain, JSONL with a `text` field, either in gzip or zstd.
 *
 * What a file is, is told by its name: .jsonl or .ndjson (anything else is plain), then
 * optionally .gz, .zst or .zstd.  In JSONL every line is one document.  A plain file is one
 * document, byte for byte, unless paragraphs are counted: then a document ends after every
 * `paragraphs_per_document` paragraphs, which blank lines separate, and the blank lines
 * between two documents belong to neither.
 *
 * Files are read in the order given, as streams, so memory is bounded by the longest document,
 * at most TEXT_MAX_DOCUMENT_BYTES: a longer line of JSONL is STATUS_DATA, longer plain text is
 * cut into documents at line ends (inside a line only if that alone is longer). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/hash.h"
#include "core/status.h"

enum { TEXT_MAX_DOCUMENT_BYTES = 64 << 20 };

struct text_options {
    int64_t
        paragraphs_per_document; /* of plain files; 0: the whole file is one document */
    bool lines; /* of JSONL every line is a document as it stands, whatever it holds */
};

struct text_document {
    const char *text; /* valid until the next call */
    size_t bytes;
    int64_t line;     /* of JSONL: where it is, from 1 */
    const char *path; /* of its file, until the reader is closed */
};

struct text_reader;

bool text_is_jsonl(const char *path); /* as its name says */

/* Check that all files exist and are regular files, before any work.  `o` may be NULL.
 * STATUS_IO. */
MUST_USE status_t text_open(struct text_reader **r, const char *const *paths, int n,
                            const struct text_options *o);
void text_close(struct text_reader **r); /* NULL-safe; nulls */

/* The next document, or bytes == 0 and text == NULL at the end.  Empty documents are skipped.
 * STATUS_DATA (bad JSON, no "text", damaged gzip or zstd; names file and line), STATUS_IO. */
MUST_USE status_t text_next(struct text_reader *r, struct text_document *d);

/* After the end: JSON array of {path, bytes, sha256} of the files as they were read.  Caller
 * frees. */
MUST_USE status_t text_sources(const struct text_reader *r, char **json);

/* Bytes of the files, compressed as they are; may be asked from another thread. */
int64_t text_bytes_read(const struct text_reader *r);
int64_t text_bytes_total(const struct text_reader *r);
