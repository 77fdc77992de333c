/* The .ds files of datatrove, which nanotron trains on: the tokens, uint16 or uint32.  Beside
 * NAME.ds may lie
 *   NAME.ds.index     uint64 little-endian, the end of each document in tokens
 *   NAME.ds.metadata  text: "tokenizer|bytes of a token" (older: "tokenizer"), then the number
 *                     of tokens, then the same for humans
 *   NAME.ds.loss      one byte a token, 0: not to be predicted
 * Source: datatrove src/datatrove/pipeline/tokens/tokenizer.py (TokenizedFile). */
#include "data/token_file_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"

enum { MAX_METADATA_BYTES = 4096 };

static int64_t offset(const struct token_file *f, int64_t i)
{
    return i == 0 ? 0 : (int64_t)token_u64(f->documents + 8 * (i - 1));
}

static status_t read_index(struct token_file *f, const char *path)
{
    TRY(token_map_open(&f->index_map, path));
    token_map_advise(&f->index_map, true);
    if (f->index_map.bytes % 8 != 0)
        return status_set(STATUS_DATA, "%s: has %zu bytes, valid is a multiple of 8",
                          path, f->index_map.bytes);
    f->documents = f->index_map.data;
    f->info.n_documents = (int64_t)(f->index_map.bytes / 8);
    f->offset = offset;
    return STATUS_OK;
}

static status_t read_loss(struct token_file *f, const char *path)
{
    TRY(token_map_open(&f->loss_map, path));
    if ((int64_t)f->loss_map.bytes != f->info.n_tokens)
        return status_set(STATUS_DATA,
                          "%s: has %zu bytes, valid is one for each of %lld tokens", path,
                          f->loss_map.bytes, (long long)f->info.n_tokens);
    f->loss = f->loss_map.data;
    f->info.has_loss_mask = true;
    return STATUS_OK;
}

static status_t parse_width(const char *path, char *name, int *width)
{
    char *bar = strrchr(name, '|');
    if (!bar) return STATUS_OK; /* older than tokens of 4 bytes, or not told */
    if (strcmp(bar, "|2") != 0 && strcmp(bar, "|4") != 0)
        return status_set(STATUS_DATA,
                          "%s: gives a token \"%.20s\" bytes, valid are 2 and 4", path,
                          bar + 1);
    *width = bar[1] - '0';
    *bar = '\0';
    return STATUS_OK;
}

/* *width: 0 if not told; *n_tokens: -1 if not told. */
static status_t read_metadata(struct token_file *f, const char *path, int *width,
                              int64_t *n_tokens)
{
    char *text = NULL, *rest, *end = NULL;
    size_t bytes = 0;
    TRY(file_read(path, MAX_METADATA_BYTES, &text, &bytes));
    rest = text;
    char *name = strsep(&rest, "\n"), *count = strsep(&rest, "\n");
    status_t st = parse_width(path, name, width);
    snprintf(f->info.tokenizer_name, sizeof f->info.tokenizer_name, "%s", name);
    if (st == STATUS_OK && count && *count) {
        errno = 0;
        *n_tokens = strtoll(count, &end, 10);
        if (*end != '\0' || errno != 0 || *n_tokens < 0)
            st = status_set(STATUS_DATA,
                            "%s: has \"%.20s\" as number of tokens, valid is a whole "
                            "number",
                            path, count);
    }
    free(text);
    return st;
}

/* The file of this ending beside the tokens, or NULL; caller frees. */
static char *beside(const struct token_file *f, const char *ending)
{
    char *path = token_file_companion(f->path, 0, ending);
    if (path && !file_exists(path)) {
        free(path);
        path = NULL;
    }
    return path;
}

status_t token_file_datatrove_open(struct token_file *f,
                                   const struct token_file_options *o)
{
    char *index = beside(f, ".index"), *metadata = beside(f, ".metadata");
    char *loss = beside(f, ".loss");
    int width = 0;
    int64_t n_tokens = -1;
    status_t st = token_map_open(&f->map, f->path);
    if (st == STATUS_OK && metadata) st = read_metadata(f, metadata, &width, &n_tokens);
    if (st == STATUS_OK) st = token_file_settle(f, o, width, 0);
    if (st == STATUS_OK) st = token_file_take_tokens(f, 0, n_tokens);
    if (st == STATUS_OK && index) st = read_index(f, index);
    if (st == STATUS_OK && loss) st = read_loss(f, loss);
    free(loss);
    free(metadata);
    free(index);
    return st;
}
