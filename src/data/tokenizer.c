#include "data/tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/log.h"

enum { MAX_FILE_BYTES = 256 << 20 };

status_t tokenizer_open(struct tokenizer **t, const char *path)
{
    *t = NULL;
    char *json;
    size_t bytes;
    TRY(file_read(path, MAX_FILE_BYTES, &json, &bytes));
    const status_t st = tokenizer_parse(t, path, json, bytes);
    free(json);
    return st;
}

void tokenizer_close(struct tokenizer **tokenizer)
{
    struct tokenizer *t = *tokenizer;
    if (!t) return;
    free(t->tokens);
    free(t->pool);
    byte_map_release(&t->names);
    byte_map_release(&t->whole);
    merge_table_release(&t->merges);
    for (int i = 0; i < t->n_stages; i++) pcre2_code_free(t->stages[i].code);
    trie_release(&t->added[0]);
    trie_release(&t->added[1]);
    trie_release(&t->plain[0]);
    trie_release(&t->plain[1]);
    free(t);
    *tokenizer = NULL;
}

int64_t tokenizer_vocab_size(const struct tokenizer *t)
{
    return t->vocab_size;
}

const char *tokenizer_sha256(const struct tokenizer *t)
{
    return t->sha256;
}

int64_t tokenizer_n_merges(const struct tokenizer *t)
{
    return t->n_merges;
}

int64_t tokenizer_n_added(const struct tokenizer *t)
{
    return t->n_added;
}

int64_t tokenizer_id(const struct tokenizer *t, const char *token)
{
    const int64_t *id = byte_map_find(&t->names, token, strlen(token));
    return id ? *id : -1;
}

int64_t tokenizer_eos(const struct tokenizer *t)
{
    return t->eos;
}

const char *tokenizer_bytes(const struct tokenizer *t, int64_t id, size_t *n)
{
    CHECK(id >= 0 && id < t->vocab_size);
    *n = t->tokens[id].bytes;
    return t->pool + t->tokens[id].offset;
}
