/* token_file_impl - what an open token file is, for the readers of its formats.
 *
 * A reader (token_file_h5.c, token_file_llmc.c, ...) maps the file, checks its structure and
 * fills the struct; all else works on the mapping and does not know the format.  Of several
 * shards each is a token_file of its own, under one that only lists them. */
#pragma once

#include <stddef.h>

#include "data/token_file.h"

#define TOKEN_FILE_KIND "tokens" /* of the seal */
enum { TOKEN_FILE_VERSION = 1, TOKEN_FILE_MASKED = 2 };

struct token_map { /* a whole file, read-only; NULL, 0: none */
    const unsigned char *data;
    size_t bytes;
};

struct token_file {
    struct token_file_info info;
    char *path, *sources, *tokenizer_path;
    struct token_map map, index_map, loss_map;
    /* little-endian and inside the map, not necessarily aligned */
    const unsigned char *tokens; /* [n_tokens] of info.token_bytes */
    const unsigned char *loss;   /* [n_tokens], NULL: all are to be predicted */

    /* Where documents begin, n_documents >= 0: the first token of document i, and n_tokens for i
     * = n_documents. */
    int64_t (*offset)(const struct token_file *f, int64_t i);
    const unsigned char *documents; /* of 8 bytes each; which ones, `offset` knows */
    const unsigned char *sequences; /* Megatron: byte of each sequence */
    int64_t n_sequences;
    int64_t *owned_documents; /* what `documents` points to, if it had to be built */

    bool sealed; /* the own form, with these hashes */
    uint64_t tokens_xxh3, documents_xxh3, loss_mask_xxh3;

    struct token_file **shards; /* [info.n_shards], NULL for a single file */
    int64_t *first; /* [info.n_shards + 1] first token of each, then the total */
};

/* ---- the readers ------------------------------------------------------------------------ */

/* Fill *f (zeroed but for path).  STATUS_DATA, STATUS_IO, STATUS_NOMEM; what was filled until
 * then stays for token_file_close. */
MUST_USE status_t token_file_h5_open(struct token_file *f,
                                     const struct token_file_options *o);
MUST_USE status_t token_file_npy_open(struct token_file *f,
                                      const struct token_file_options *o);
MUST_USE status_t token_file_raw_open(struct token_file *f,
                                      const struct token_file_options *o);
MUST_USE status_t token_file_llmc_open(struct token_file *f,
                                       const struct token_file_options *o);
MUST_USE status_t token_file_megatron_open(struct token_file *f,
                                           const struct token_file_options *o);
MUST_USE status_t token_file_datatrove_open(struct token_file *f,
                                            const struct token_file_options *o);

/* ---- token_file_format.c ---------------------------------------------------------------- */

/* The format of the file at `path`, which is a regular file. */
MUST_USE status_t token_file_choose(const char *path, const struct token_file_options *o,
                                    enum token_file_format *format);
/* Open one file; *f is an output, NULL on failure.  `pieces`: of the sample. */
MUST_USE status_t token_file_open_one(struct token_file **f, const char *path,
                                      const struct token_file_options *o, int pieces);

/* Numbers that the file says itself (0: it does not) and the options may repeat. */
MUST_USE status_t token_file_settle(struct token_file *f,
                                    const struct token_file_options *o, int token_bytes,
                                    int64_t vocab_size);
/* The rest of the map from `offset` on is the tokens; n_tokens < 0: as many as fit. */
MUST_USE status_t token_file_take_tokens(struct token_file *f, size_t offset,
                                         int64_t n_tokens);

/* ---- token_file_map.c ------------------------------------------------------------------- */

/* STATUS_IO; STATUS_DATA for what is empty or no regular file. */
MUST_USE status_t token_map_open(struct token_map *map, const char *path);
/* The same of an open file, which the map does not need to stay open. */
MUST_USE status_t token_map_descriptor(struct token_map *map, const char *path, int fd);
/* How it is about to be read: in order, or (when just opened) in windows that lie anywhere, where
 * reading ahead multiplies what comes from the disk. */
void token_map_advise(const struct token_map *map, bool in_order);
void token_map_close(struct token_map *map); /* accepts an empty one */

bool token_file_ends_with(const char *text, const char *end);
/* `path` without its last `n` bytes and with `end` instead, malloc'ed; NULL without memory. */
char *token_file_companion(const char *path, size_t n, const char *end);

static inline uint64_t token_u64(const unsigned char *at)
{
    uint64_t x;
    __builtin_memcpy(&x, at, sizeof x);
    return x;
}

static inline uint32_t token_u32(const unsigned char *at)
{
    uint32_t x;
    __builtin_memcpy(&x, at, sizeof x);
    return x;
}

/* ---- token_file_check.c ----------------------------------------------------------------- */

/* Documents in full; ids of so many pieces, and with TOKEN_FILE_CHECK_ALL every one; sets
 * info.largest_id and, unless sealed, info.xxh3. */
MUST_USE status_t token_file_check(struct token_file *f,
                                   const struct token_file_options *o, int pieces);
