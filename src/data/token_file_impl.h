/* token_file_impl - what an open token file is, for the readers of its formats.
 *
 * A reader (token_file_h5.c) maps the file, checks its structure and fills the struct; all
 * else works on the mapping and does not know the format. */
#pragma once

#include "data/token_file.h"

#define TOKEN_FILE_KIND "tokens" /* of the seal */
enum { TOKEN_FILE_VERSION = 1 };

struct token_file {
    struct token_file_info info;
    char *path, *sources;
    const unsigned char *map; /* the whole file, read-only */
    size_t map_bytes;
    /* little-endian and inside the map, not necessarily aligned */
    const unsigned char *tokens;    /* [n_tokens] of info.token_bytes */
    const unsigned char *documents; /* [n_documents + 1] of 8 bytes */
    uint64_t tokens_xxh3, documents_xxh3;
};

/* Fill *f (zeroed but for path) from the HDF5 form.  STATUS_DATA, STATUS_IO, STATUS_NOMEM; what
 * was filled until then stays for token_file_close. */
MUST_USE status_t token_file_h5_open(struct token_file *f);
