/* token_file - a corpus as one long row of token ids with document boundaries.
 *
 * Besides the project's own form the published ones are read as they are, from one file or from
 * many (shards), which then are one row in the order of their names; token_file_format.c lists
 * the forms, and the file of each says where it is described.
 *
 * The own form, `tokens.h5` (sealed HDF5, see core/h5.h, kind "tokens", version 1; 2 with a loss
 * mask):
 *   /tokens     uint16 (vocabulary <= 65536) or uint32, contiguous: all documents in order
 *   /documents  uint64, contiguous, [n_documents + 1]: first token of each, then the total
 *   /loss_mask  uint8, contiguous, [n_tokens], version 2: 0 where a token is not to be predicted
 *   attributes of /: version, vocab_size, eos_id (absent: none), tokenizer_sha256 ("":
 *                    unknown), tokenizer_path (absent: unknown), sources (JSON array of {path,
 *                    bytes, sha256}), tokens_xxh3, documents_xxh3, total_bytes (of text);
 *                    version 2: loss_mask_xxh3, row_tokens (absent: no rows)
 * All datasets are little-endian and regions of the seal; their hashes are the attributes.  A
 * document may be empty.  With row_tokens T the file is a number of rows of T tokens, each to be
 * read as one sequence of that length: no document lies in two of them.
 *
 * An open token file is mapped into memory and read-only; libhdf5 is out of the way after
 * opening.  A token_file may be read from several threads. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/hash.h"
#include "core/status.h"

struct token_file;

enum token_file_format {
    TOKEN_FILE_AUTO, /* by the first bytes and the name */
    TOKEN_FILE_H5,
    TOKEN_FILE_NPY,
    TOKEN_FILE_RAW,
    TOKEN_FILE_LLMC,
    TOKEN_FILE_MEGATRON,
    TOKEN_FILE_DATATROVE,
    TOKEN_FILE_FORMATS
};

/* "auto", "h5", "npy", "raw", "llmc", "megatron", "datatrove", NULL: in the order of the enum. */
extern const char *const token_file_formats[TOKEN_FILE_FORMATS + 1];

struct token_file_info {
    int64_t n_tokens;
    int64_t n_documents; /* -1: their boundaries are found in the tokens, or nowhere */
    int64_t vocab_size;  /* ids are below this; 0: unknown */
    int64_t eos_id;      /* the token that ends every document, -1 if none or unknown */
    int64_t bos_id;      /* the token that begins every document, -1 if none or unknown */
    int64_t text_bytes;  /* UTF-8 bytes that were tokenized, 0 if unknown */
    int64_t largest_id;  /* in the sample */
    int token_bytes;     /* 2 or 4 */
    int n_shards;
    int64_t row_tokens; /* of each row, and n_tokens is a multiple; 0: no rows */
    enum token_file_format format;
    bool has_loss_mask;   /* some tokens are not to be predicted; without, all are */
    bool vocab_assumed;   /* vocab_size is token_file_options.fallback_vocab_size */
    bool documents_known; /* token_file_begins can tell */
    char tokenizer_sha256[HASH_SHA256_HEX]; /* "" if unknown */
    char tokenizer_name[128];               /* "" if unknown */
    /* Names the tokens and documents.  The own form: the hash of all of them.  Others: of sizes,
     * headers, indices, what the options say about documents, and the sample; a change of other
     * tokens is not seen. */
    uint64_t xxh3;
};

/* How much of the file to check against its hashes when opening. */
enum token_file_check {
    TOKEN_FILE_CHECK_SEAL, /* seal, sizes, all of /documents, ids of a sample */
    TOKEN_FILE_CHECK_ALL   /* and the hash and every id of /tokens */
};

/* What a file does not say itself; what it does say must agree.  All zero: nothing is known. */
struct token_file_options {
    enum token_file_check check;
    enum token_file_format format;
    int token_bytes;             /* 2, 4; 0: the file tells */
    int64_t vocab_size;          /* 0: the file tells */
    int64_t fallback_vocab_size; /* when neither it nor the file tells; 0: none */
    bool has_eos, has_bos;       /* the tokens that end and begin every document */
    int64_t eos_id, bos_id;
};

/* Open what `path` names: a file, a folder of shards, a pattern (glob), or several of these with
 * a newline between them; the shards of a folder or pattern come in the order of their bytes.
 * STATUS_DATA names what is wrong with which file; STATUS_IO, STATUS_NOMEM.  Local.  Close it
 * with _close. */
MUST_USE status_t token_file_open_with(struct token_file **f, const char *path,
                                       const struct token_file_options *o);
/* The same for what says everything itself. */
MUST_USE status_t token_file_open(struct token_file **f, const char *path,
                                  enum token_file_check check);
void token_file_close(struct token_file **f); /* NULL-safe; nulls */

/* The files that `path` names, and bytes of all of them.  STATUS_IO if there are none,
 * STATUS_DATA if it is not clear which are meant, STATUS_NOMEM. */
struct token_file_list {
    char **paths; /* owned */
    int n;
};
MUST_USE status_t token_file_list(struct token_file_list *l, const char *path);
void token_file_list_release(struct token_file_list *l);
int64_t token_file_bytes(const struct token_file_list *l);

const struct token_file_info *token_file_info(const struct token_file *f);
const char *token_file_path(const struct token_file *f);    /* as given to _open */
const char *token_file_sources(const struct token_file *f); /* JSON text */
const char *
token_file_tokenizer(const struct token_file *f); /* its path then, "": unknown */

/* ids[0..n) = tokens [start, start + n).  0 <= start, start + n <= n_tokens.
 * STATUS_DATA if an id is >= vocab_size: damage that the sample did not show. */
MUST_USE status_t token_file_read(const struct token_file *f, int64_t start, int64_t n,
                                  int32_t *ids);

/* loss[i] = whether token start + i is to be predicted, not 0 if it is.  The range as above. */
void token_file_loss(const struct token_file *f, int64_t start, int64_t n,
                     unsigned char *loss);

/* begins[i] = whether token start + i is the first of its document, for the range that `ids` was
 * read from; begins[0] is true, as whoever has only this range sees nothing before.  Documents
 * without tokens leave no trace.  documents_known.  STATUS_DATA if the index was changed since it
 * was checked. */
MUST_USE status_t token_file_begins(const struct token_file *f, int64_t start, int64_t n,
                                    const int32_t *ids, bool *begins);

/* The document that holds token `at`, and the token range [*first, *end) of a document;
 * n_documents >= 0. */
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
/* The same of a document with a loss mask: token i is to be predicted if loss[i] != 0.  Either
 * all documents have one or none. */
MUST_USE status_t token_writer_masked(struct token_writer *w, const int32_t *ids,
                                      const int32_t *loss, int64_t n, int64_t text_bytes);
/* Until the commit: what was written are rows of T tokens, with a loss mask. */
void token_writer_set_rows(struct token_writer *w, int64_t T);
/* Where the tokenizer was.  STATUS_NOMEM. */
MUST_USE status_t token_writer_set_tokenizer(struct token_writer *w, const char *path);
/* Make PATH.tmp: attributes, copies of what was gathered, seal; fsync, rename.  Needs the size
 * of the file once more on the disk.  `sources`: JSON text.  STATUS_DATA if there is no token,
 * STATUS_IO; PATH is untouched then. */
MUST_USE status_t token_writer_commit(struct token_writer *w, const char *sources);
void token_writer_destroy(struct token_writer **w); /* NULL-safe; nulls */
