/* token_file - a corpus as one long row of token ids with document boundaries.
 *
 * Format, `tokens.h5` (sealed HDF5, see core/h5.h, kind "tokens", version 1):
 *   /tokens     uint16 (vocabulary <= 65536) or uint32, contiguous: all documents in order
 *   /documents  uint64, contiguous, [n_documents + 1]: first token of each, then the total
 *   attributes of /: version, vocab_size, eos_id (absent: none), tokenizer_sha256 ("":
 *                    unknown), sources (JSON array of {path, bytes, sha256}), tokens_xxh3,
 *                    documents_xxh3, total_bytes (of text)
 * Both datasets are little-endian and regions of the seal; their hashes are the two
 * attributes.  A document may be empty.
 *
 * An open token file is mapped into memory and read-only; libhdf5 is out of the way after
 * opening.  A token_file may be read from several threads. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/hash.h"
#include "core/status.h"

struct token_file;

struct token_file_info {
    int64_t n_tokens, n_documents;
    int64_t vocab_size; /* ids are below this */
    int64_t eos_id;     /* the token that ends every document, -1 if none */
    int64_t text_bytes; /* UTF-8 bytes that were tokenized, 0 if unknown */
    int token_bytes;    /* 2 or 4 */
    char tokenizer_sha256[HASH_SHA256_HEX]; /* "" if unknown */
    uint64_t xxh3;                          /* names the tokens and documents */
};

/* How much of the file to check against its hashes when opening. */
enum token_file_check {
    TOKEN_FILE_CHECK_SEAL, /* seal, sizes, all of /documents, ids of a sample */
    TOKEN_FILE_CHECK_ALL   /* and the hash and every id of /tokens */
};

/* STATUS_DATA names what is wrong with the file; STATUS_IO.  Local.  Close it with _close. */
MUST_USE status_t token_file_open(struct token_file **f, const char *path,
                                  enum token_file_check check);
void token_file_close(struct token_file **f); /* NULL-safe; nulls */

const struct token_file_info *token_file_info(const struct token_file *f);
const char *token_file_path(const struct token_file *f);
const char *token_file_sources(const struct token_file *f); /* JSON text */

/* ids[0..n) = tokens [start, start + n).  0 <= start, start + n <= n_tokens.
 * STATUS_DATA if an id is >= vocab_size: damage that the sample did not show. */
MUST_USE status_t token_file_read(const struct token_file *f, int64_t start, int64_t n,
                                  int32_t *ids);

/* The document that holds token `at`, and the token range [*first, *end) of a document. */
int64_t token_file_document_at(const struct token_file *f, int64_t at);
void token_file_document(const struct token_file *f, int64_t document, int64_t *first,
                         int64_t *end);

/* ---- writing: streaming, bounded memory ------------------------------------------------- */

struct token_writer;

/* Start to gather tokens in nameless files in the folder of `path`: nothing is left behind by
 * a kill.  vocab_size decides the width; tokenizer_sha256 may be "".  An existing PATH stays
 * until _commit.  STATUS_IO, STATUS_NOMEM. */
MUST_USE status_t token_writer_create(struct token_writer **w, const char *path,
                                      int64_t vocab_size, int64_t eos_id,
                                      const char *tokenizer_sha256);
/* Append one document (ids as they are; the caller has added eos).  STATUS_DATA if an id is
 * outside the vocabulary, STATUS_IO; the writer can only be destroyed then. */
MUST_USE status_t token_writer_document(struct token_writer *w, const int32_t *ids,
                                        int64_t n, int64_t text_bytes);
/* Make PATH.tmp: attributes, copies of what was gathered, seal; fsync, rename.  Needs the size
 * of the file once more on the disk.  `sources`: JSON text.  STATUS_DATA if there is no token,
 * STATUS_IO; PATH is untouched then. */
MUST_USE status_t token_writer_commit(struct token_writer *w, const char *sources);
void token_writer_destroy(struct token_writer **w); /* NULL-safe; nulls */
