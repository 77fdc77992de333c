/* tokenizer_impl - what the files tokenizer_*.c share.
 *
 *   parse        tokenizer.json -> struct tokenizer; parse_added its added tokens
 *   stages       its pre_tokenizer
 *   regex        one pattern: from Hugging Face's dialect to PCRE2, compiled
 *   classes      every character -> letter, number, space, ...
 *   nfc          text -> Unicode's normalisation form C
 *   words        the published patterns by hand, on those classes
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
/* Bytes of the well-formed sequence that begins with the byte s[0] >= 0x80; 0: none.  n > 0. */
size_t utf8_sequence(const char *s, size_t n);

/* The character that begins at s, well-formed, and its length. */
static inline uint32_t utf8_decode(const char *text, size_t *length)
{
    const unsigned char *s = (const unsigned char *)text;
    if (s[0] < 0x80) return *length = 1, s[0];
    if (s[0] < 0xE0) return *length = 2, (s[0] & 0x1FU) << 6 | (s[1] & 0x3FU);
    if (s[0] < 0xF0)
        return *length = 3, (s[0] & 0x0FU) << 12 | (s[1] & 0x3FU) << 6 | (s[2] & 0x3FU);
    return *length = 4, (s[0] & 0x07U) << 18 | (s[1] & 0x3FU) << 12 |
                            (s[2] & 0x3FU) << 6 | (s[3] & 0x3FU);
}

/* ---- classes ----------------------------------------------------------------------------- */

enum char_class {                   /* bits */
                  CHAR_LETTER = 1,  /* \p{L} in a pattern */
                  CHAR_NUMBER = 2,  /* \p{N} in a pattern */
                  CHAR_NUMERIC = 4, /* what Digits splits off */
                  CHAR_SPACE = 8,   /* \s in a pattern, and what lstrip and rstrip take */
                  CHAR_WORD = 16,   /* what a single_word may not touch */
                  CHAR_ACTIVE =
                      32 /* NFC may change or move it, or join it to what is in front of it */
};

/* The classes of every character, 0x110000 of them. */
const uint8_t *char_classes(void);

/* ---- NFC --------------------------------------------------------------------------------- */

struct nfc { /* of one thread; zero is empty */
    int32_t *points;
    char *text;
    size_t points_capacity, text_capacity;
};

/* Unicode's normalisation form C of text; bytes that are not UTF-8 stay and join nothing.  *out
 * is `text` itself where nothing changes, otherwise n's until the next call.  STATUS_NOMEM. */
MUST_USE status_t nfc_normalize(struct nfc *n, const char *text, size_t bytes,
                                const char **out, size_t *out_bytes);
void nfc_release(struct nfc *n);

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

enum stage_kind {
    STAGE_PATTERN, /* any pattern, by PCRE2 */
    STAGE_GPT2,    /* pattern_gpt2 */
    STAGE_GPT4,    /* the pattern of GPT-4 and those who took it, max_digits in a piece */
    STAGE_DIGITS,  /* numeric characters, max_digits in a piece */
    STAGE_SPACE    /* finds nothing, but puts a space in front of text that has none */
};

enum stage_behavior { /* what becomes of matches and of what is between them */
                      STAGE_ISOLATED,
                      STAGE_REMOVED,
                      STAGE_CONTIGUOUS,
                      STAGE_MERGED_WITH_PREVIOUS,
                      STAGE_MERGED_WITH_NEXT
};

struct stage {
    enum stage_kind kind;
    int64_t max_digits;
    pcre2_code *code; /* STAGE_PATTERN */
    bool has_jit;
    enum stage_behavior behavior;
    bool invert;        /* behave as if what is between matches had matched */
    enum stage_cut cut; /* at a place that pretokenize_can_cut names */
};

extern const char pattern_gpt2[];

/* Make *s find `pattern`: behaviour Isolated.  STATUS_DATA names `file` and what is not
 * implemented. */
MUST_USE status_t stage_compile(struct stage *s, const char *file, const char *pattern,
                                bool is_literal);

/* The end of the first piece of text[from..bytes), from < bytes, of STAGE_GPT2 or GPT4.  Every
 * character is in a piece. */
size_t words_next(const struct stage *s, const uint8_t *classes, const char *text,
                  size_t bytes, size_t from);
/* The first numbers of a STAGE_DIGITS in text[from..bytes); false if there are none. */
bool words_digits(const struct stage *s, const uint8_t *classes, const char *text,
                  size_t bytes, size_t from, size_t *start, size_t *end);

/* What one thread needs to run stages. */
struct matcher {
    const uint8_t *classes; /* char_classes() */
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
    char *spaced; /* STAGE_SPACE: the text with a space in front */
    size_t spaced_capacity;
};
MUST_USE status_t matcher_init(struct matcher *m);
void matcher_release(struct matcher *m);

/* Call piece(context, ...) for every piece of `text`, which is valid UTF-8, in order. */
typedef status_t piece_fn(void *context, const char *piece, size_t bytes);
MUST_USE status_t pretokenize(const struct stage *stages, int n_stages, struct matcher *m,
                              const char *text, size_t bytes, piece_fn *piece,
                              void *context);

/* Is text[at] a place to cut before, as far as stages go that divide there?  0 < at. */
bool pretokenize_can_cut(const char *text, size_t at);

/* ---- added tokens ------------------------------------------------------------------------ */

enum added_flag { ADDED_SINGLE_WORD = 1, ADDED_LSTRIP = 2, ADDED_RSTRIP = 4 };

struct trie_node {
    int32_t first_child, next; /* 0: none */
    int32_t id;                /* of the token that ends here, -1: none */
    unsigned char byte;
    uint8_t flags; /* enum added_flag, of that token */
};

struct trie { /* node 0 is the root; zero is empty */
    struct trie_node *nodes;
    int32_t n, capacity;
    int32_t root[256]; /* children of the root, 0: none */
};

struct added_match {
    size_t start, end;
    int32_t id;
};

struct added_search { /* zero is the beginning of a text */
    size_t at;        /* where to look for the next token */
    size_t done;      /* end of the token before, with what it strips */
};

MUST_USE status_t trie_add(struct trie *t, const char *token, size_t bytes, int32_t id,
                           uint8_t flags);
void trie_release(struct trie *t);
/* The next token of text, leftmost and longest, with the white space that it strips; false if
 * there is none.  It may begin before s->done of the call before: that one has stripped it. */
bool trie_next(const struct trie *t, const char *text, size_t bytes,
               struct added_search *s, struct added_match *m);

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
    struct trie added[2]; /* found in this order: in the text, in its normal form */
    struct trie plain[2]; /* the same without the special ones */
    bool is_nfc;          /* the text becomes NFC before the second */
    bool can_cut;
    int64_t eos;
};

/* ---- parse ------------------------------------------------------------------------------- */

struct parse {
    struct tokenizer *t;
    const char *file; /* for messages */
    /* of every id: it has a token; text can become it without its being an added token */
    bool *taken, *made;
    json_t *root, *model, *vocab, *added;
};

/* STATUS_DATA with the file in front, on one line whatever the file contains. */
status_t parse_refuse(const char *file, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Refuse a key of `object` that is not in `known`, which ends with NULL. */
MUST_USE status_t parse_known_keys(const char *file, const char *section, json_t *object,
                                   const char *const *known);
/* A boolean; false if it is missing or null. */
MUST_USE status_t parse_flag(const char *file, const char *section, const json_t *object,
                             const char *key, bool *value);
/* The id that a JSON value is, -1 if it is none. */
int64_t parse_id(const json_t *x);
/* Give `id` to a token that is `name` in the file and stands for the `n` bytes at the end of
 * the pool. */
MUST_USE status_t parse_token(struct parse *p, int64_t id, const char *name, size_t n);

/* t->stages from "pre_tokenizer". */
MUST_USE status_t parse_stages(struct tokenizer *t, const char *file, json_t *x);
/* "added_tokens", when vocabulary and merges have been read. */
MUST_USE status_t parse_added(struct parse *p);

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
