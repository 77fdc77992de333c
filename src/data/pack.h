/* pack - documents into rows of T tokens, none of them cut.
 *
 * pack_rows says which document goes into which row: best-fit decreasing, that is from the longest
 * to the shortest, each into the row with the least room that still holds it (Johnson 1973,
 * "Near-optimal bin packing algorithms": at most 11/9 of the fewest rows possible, plus a constant).
 * A packer gathers documents with their loss masks in a nameless file, and writes the rows. */
#pragma once

#include <stdint.h>

#include "core/status.h"
#include "data/token_file.h"

/* row[i] = where document i of lengths[i] tokens goes, 1 <= lengths[i] <= T; *n_rows of them.
 * Documents of one length keep their order.  O(n log T).  STATUS_NOMEM. */
MUST_USE status_t pack_rows(const int32_t *lengths, int64_t n, int64_t T, int64_t *row,
                            int64_t *n_rows);

struct packer;

struct pack_counts {
    int64_t n_documents, n_tokens; /* padding not counted */
    int64_t n_rows;
};

/* The nameless file lies in the folder of `path`.  2 <= T <= INT32_MAX.  STATUS_IO, STATUS_NOMEM. */
MUST_USE status_t packer_create(struct packer **p, const char *path, int64_t T);
void packer_destroy(struct packer **p); /* NULL-safe; nulls */

/* Gather a document, 1 <= n <= T; loss[i] != 0: token i is to be predicted. */
MUST_USE status_t packer_add(struct packer *p, const int32_t *ids, const int32_t *loss,
                             int64_t n, int64_t text_bytes);

/* Write all rows, what is left of each filled with the token `pad`, as a document that is not to be
 * predicted.  *counts may be NULL. */
MUST_USE status_t packer_write(struct packer *p, struct token_writer *w, int32_t pad,
                               struct pack_counts *counts);
