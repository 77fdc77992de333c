/* corpus - small token files for the tests of this folder: token i is a function of (key, i). */
#pragma once

#include <stdio.h>

#include "core/rng.h"
#include "data/token_file.h"
#include "harness/harness.h"

struct corpus {
    const char *path;
    uint64_t key;
    int64_t vocab_size;
    const int64_t *lengths; /* [n_documents] in tokens */
    int n_documents;
    const char *tokenizer_sha256; /* NULL: "" */
};

static inline int32_t corpus_id(const struct corpus *c, int64_t i)
{
    return (int32_t)(rng_u64(c->key, (uint64_t)i) % (uint64_t)c->vocab_size);
}

static inline void corpus_write(const struct corpus *c)
{
    struct token_writer *w = NULL;
    const char *hash = c->tokenizer_sha256 ? c->tokenizer_sha256 : "";
    ASSERT_OK(token_writer_create(&w, c->path, c->vocab_size, c->vocab_size - 1, hash));
    int64_t at = 0;
    for (int d = 0; d < c->n_documents; d++) {
        int32_t *ids = malloc(((size_t)c->lengths[d] + 1) * sizeof *ids);
        for (int64_t i = 0; i < c->lengths[d]; i++) ids[i] = corpus_id(c, at++);
        ASSERT_OK(token_writer_document(w, ids, c->lengths[d], 3 * c->lengths[d]));
        free(ids);
    }
    ASSERT_OK(token_writer_commit(w, "[{\"path\":\"a.txt\"}]"));
    token_writer_destroy(&w);
}

/* A path in the test's folder; freed after the test. */
static inline const char *corpus_path(const char *name)
{
    char *path = test_alloc(4096);
    snprintf(path, 4096, "%s/%s", test_folder(), name);
    return path;
}

/* One document of n tokens. */
static inline struct corpus corpus_of(const char *name, uint64_t key, int64_t vocab_size,
                                      int64_t n)
{
    int64_t *length = test_alloc(sizeof *length);
    *length = n;
    const struct corpus c = {.path = corpus_path(name),
                             .key = key,
                             .vocab_size = vocab_size,
                             .lengths = length,
                             .n_documents = 1};
    corpus_write(&c);
    return c;
}
