/* tokenizer_impl - what the files tokenizer_*.c share.
 *
 *   parse        tokenizer.json -> struct tokenizer
 *   stages       its pre_tokenizer
 *   regex        one pattern: from Hugging Face's dialect to PCRE2, compiled
 *   pretokenize  text -> pieces, by the stages of the tokenizer
 *   added        tokens that are found in the text before anything else
 *   bpe          piece -> ids: merges, and a cache of recent pieces
 *   encode       the encoder: all of the above, for any bytes
 *   alphabet     the 256 bytes as printable characters, and UTF-8
 *   map          byte strings -> numbers
 *   learn        words with counts -> merges
 *   train        text -> words with counts
 *   write        what was learned -> tokenizer.json                                        */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <jansson.h>
#include <pcre2.h>

#include "data/tokenizer.h"

/* ---- alphabet ---------------------------------------------------------------------------- */

enum {
    ALPHABET_MAX_CHAR = 0x144, /* characters of the alphabet are below this */
    ALPHABET_MAX_NAME_BYTES = 2
};

/* The character that stands for a byte in tokenizer.json: itself where it is printable in
 * Latin-1, otherwise the next free one from U+0100 on (Radford et al. 2019, encoder.py). */
uint32_t alphabet_char(unsigned byte);

/* Write `n` bytes in the alphabet, UTF-8, to `name` (2 * n bytes at most); its length. */
size_t alphabet_write(char *name, const char *bytes, size_t n);

/* The bytes that `name` stands for, at most `n` of them, and how many; -1 if a character is
 * not in the alphabet. */
int64_t alphabet_read(char *bytes, const char *name, size_t n);

/* Length of the longest prefix that is well-formed UTF-8 (RFC 3629). */
size_t utf8_prefix(const char *text, size_t bytes);

/* ---- map --------------------------------------------------------------------------------- */

struct map_entry {
    size_t offset; /* of the key in keys */
    int64_t value;
    uint32_t key_bytes, hash;
    bool used;
};

struct byte_map { /* zero is empty */
    struct map_entry *entries;
    size_t n, capacity; /* a power of two, more than 1.5 n */
    char *keys;
    size_t keys_bytes, keys_capacity;
};

/* The value of a key, NULL if absent; valid until the next add. */
int64_t *byte_map_find(const struct byte_map *m, const char *key, size_t bytes);
/* The value of a key, which is added with value 0 if absent (*is_new, may be NULL).  NULL when
 * out of memory: the map is unchanged then.  bytes < 2^32. */
int64_t *byte_map_add(struct byte_map *m, const char *key, size_t bytes, bool *is_new);
const char *byte_map_key(const struct byte_map *m, const struct map_entry *e);
void byte_map_release(struct byte_map *m);

/* ---- regex and stages -------------------------------------------------------------------- */

enum { MAX_STAGES = 8, MAX_PATTERN_BYTES = 4096 };

enum stage_cut {
    STAGE_CUT_UNKNOWN, /* nothing is proved */
    STAGE_CUT_KEEPS,   /* cutting there changes no other place where it divides */
    STAGE_CUT_DIVIDES  /* and it always divides there */
};

struct stage {
    pcre2_code *code;
    bool has_jit;
    bool drops_gaps;    /* what lies between matches is left out */
    enum stage_cut cut; /* at a place that pretokenize_can_cut names */
};

extern const char pattern_gpt2[];

/* Compile `pattern` into *s.  STATUS_DATA names `file` and what is not implemented. */
MUST_USE status_t stage_compile(struct stage *s, const char *file, const char *pattern,
                                bool is_literal);

/* What one thread needs to run stages. */
struct matcher {
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};
MUST_USE status_t matcher_init(struct matcher *m);
void matcher_release(struct matcher *m);

/* Call piece(context, ...) for every piece of `text`, which is valid UTF-8, in order. */
typedef status_t piece_fn(void *context, const char *piece, size_t bytes);
MUST_USE status_t pretokenize(const struct stage *stages, int n_stages,
                              const struct matcher *m, const char *text, size_t bytes,
                              piece_fn *piece, void *context);

/* Is text[at] a place to cut before, as far as stages go that divide there?  0 < at. */
bool pretokenize_can_cut(const char *text, size_t at);

/* ---- added tokens ------------------------------------------------------------------------ */

struct trie_node {
    int32_t first_child, next; /* 0: none */
    int32_t id;                /* of the token that ends here, -1: none */
    unsigned char byte;
};

struct trie { /* node 0 is the root; zero is empty */
    struct trie_node *nodes;
    int32_t n, capacity;
    int32_t root[256]; /* children of the root, 0: none */
};

MUST_USE status_t trie_add(struct trie *t, const char *token, size_t bytes, int32_t id);
void trie_release(struct trie *t);
/* The leftmost longest token in text[from..): its start, length and id; false if none. */
bool trie_find(const struct trie *t, const char *text, size_t bytes, size_t from,
               size_t *start, size_t *length, int32_t *id);

/* ---- bpe --------------------------------------------------------------------------------- */

struct merge {
    uint64_t pair; /* left id << 32 | right id; MERGE_NONE: free slot */
    int32_t rank, id;
};

#define MERGE_NONE UINT64_MAX

struct merge_table {
    struct merge *slots;
    size_t mask;
    int64_t n;
};

MUST_USE status_t merge_table_init(struct merge_table *t, int64_t n_merges);
void merge_table_put(
    struct merge_table *t, int32_t left, int32_t right, int32_t rank,
    int32_t id); /* a later rule for the same pair replaces the earlier */
void merge_table_release(struct merge_table *t);

struct symbol {
    int32_t id, previous, next; /* indices; -1: none */
};

struct bpe { /* of one thread */
    const struct tokenizer *tokenizer;
    struct cache_entry *cache;
    struct symbol *symbols;
    uint64_t *heap;
    size_t symbols_capacity, heap_capacity, n_heap;
};

MUST_USE status_t bpe_init(struct bpe *b, const struct tokenizer *t);
void bpe_release(struct bpe *b);
/* Append the ids of one piece.  STATUS_NOMEM, STATUS_DATA: a byte has no token. */
MUST_USE status_t bpe_encode(struct bpe *b, const char *piece, size_t bytes,
                             struct token_list *out);

MUST_USE status_t token_list_reserve(struct token_list *l, size_t more);

/* ---- the tokenizer ----------------------------------------------------------------------- */

struct token {
    size_t offset, bytes; /* of what it stands for, in pool */
};

struct tokenizer {
    char sha256[HASH_SHA256_HEX];
    int64_t vocab_size, n_merges, n_added;
    struct token *tokens; /* vocab_size of them */
    char *pool;
    size_t pool_bytes;
    struct byte_map names; /* as in the file -> id */
    int32_t byte_ids[256]; /* -1: no token */
    struct merge_table merges;
    bool ignore_merges;    /* a piece that is a token is that token */
    struct byte_map whole; /* with ignore_merges: bytes -> id */
    struct stage stages[MAX_STAGES];
    int n_stages;
    struct trie added[2]; /* found in this order: not normalised, normalised */
    struct trie plain[2]; /* the same without the special ones */
    bool can_cut;
    int64_t eos;
};

/* ---- parse ------------------------------------------------------------------------------- */

/* STATUS_DATA with the file in front, on one line whatever the file contains. */
status_t parse_refuse(const char *file, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* t->stages from "pre_tokenizer". */
MUST_USE status_t parse_stages(struct tokenizer *t, const char *file, const json_t *x);

/* ---- learn ------------------------------------------------------------------------------- */

struct learned { /* tokens in order of their ids */
    struct token *tokens;
    char *pool; /* their bytes */
    size_t pool_bytes, pool_capacity;
    int64_t n_tokens, capacity;
    struct learned_merge {
        int32_t left, right;
    } * merges;
    int64_t n_merges, merges_capacity;
};

/* Find the merges of the words (keys: bytes, values: counts).  o->special come first, then the
 * 256 bytes in order of their characters, then what is merged.  STATUS_NOMEM. */
MUST_USE status_t learn_merges(struct learned *l, const struct byte_map *words,
                               const struct tokenizer_train_options *o);
void learned_release(struct learned *l);

/* Write tokenizer.json.  STATUS_IO, STATUS_NOMEM. */
MUST_USE status_t learned_write(const struct learned *l, const char *path,
                                const struct tokenizer_train_options *o);
