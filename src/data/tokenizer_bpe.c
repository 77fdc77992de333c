#include "data/tokenizer_impl.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* most pieces are short, and a hash by a call through the library would cost as much as the
 * rest of a cache hit */
#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
    CACHE_ENTRIES = 1 << 15, /* 2 MiB a thread: more misses the second-level cache */
    CACHE_KEY_BYTES = 30,
    CACHE_IDS = 8,
    SHORT_PIECE = 48 /* bytes up to which scanning for the next merge beats a heap */
};

struct cache_entry { /* one cache line; key_bytes == 0: free */
    char key[CACHE_KEY_BYTES];
    uint8_t key_bytes, n_ids;
    int32_t ids[CACHE_IDS];
};

/* ---- the merge rules --------------------------------------------------------------------- */

static inline size_t slot_of(const struct merge_table *t, uint64_t pair)
{
    const uint64_t h = pair * UINT64_C(0x9E3779B97F4A7C15); /* 2^64 / golden ratio */
    return (size_t)(h >> 32 ^ h >> 20) & t->mask;
}

static inline uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

status_t merge_table_init(struct merge_table *t, int64_t n_merges)
{
    size_t n = 16;
    while (n < 2 * (size_t)n_merges) n *= 2;
    *t = (struct merge_table){.slots = malloc(n * sizeof *t->slots), .mask = n - 1};
    if (!t->slots) return status_set(STATUS_NOMEM, "no memory for %zu merges", n);
    for (size_t i = 0; i < n; i++) t->slots[i].pair = MERGE_NONE;
    return STATUS_OK;
}

void merge_table_put(struct merge_table *t, int32_t left, int32_t right, int32_t rank,
                     int32_t id)
{
    const uint64_t pair = pair_of(left, right);
    size_t i = slot_of(t, pair);
    while (t->slots[i].pair != MERGE_NONE && t->slots[i].pair != pair)
        i = (i + 1) & t->mask;
    if (t->slots[i].pair == MERGE_NONE) t->n++;
    t->slots[i] = (struct merge){.pair = pair, .rank = rank, .id = id};
}

void merge_table_release(struct merge_table *t)
{
    free(t->slots);
    *t = (struct merge_table){0};
}

static inline const struct merge *find_merge(const struct merge_table *t, int32_t left,
                                             int32_t right)
{
    const uint64_t pair = pair_of(left, right);
    for (size_t i = slot_of(t, pair);; i = (i + 1) & t->mask) {
        const struct merge *m = &t->slots[i];
        if (m->pair == pair) return m;
        if (m->pair == MERGE_NONE) return NULL;
    }
}

/* ---- merging ----------------------------------------------------------------------------- */

static status_t no_token(unsigned char byte)
{
    return status_set(
        STATUS_DATA, "the text has the byte 0x%02x, for which the tokenizer has no token",
        byte);
}

/* Repeatedly the merge of lowest rank, the leftmost first; ids[0..*n) in place. */
static void merge_short(const struct merge_table *t, int32_t *ids, int *n)
{
    const struct merge *merges[SHORT_PIECE]; /* of ids[i] and ids[i + 1] */
    for (int i = 0; i + 1 < *n; i++) merges[i] = find_merge(t, ids[i], ids[i + 1]);
    for (;;) {
        int best = -1;
        for (int i = 0; i + 1 < *n; i++)
            if (merges[i] && (best < 0 || merges[i]->rank < merges[best]->rank)) best = i;
        if (best < 0) return;
        ids[best] = merges[best]->id;
        const size_t behind = (size_t)(--*n - best - 1);
        memmove(ids + best + 1, ids + best + 2, behind * sizeof *ids);
        memmove(merges + best, merges + best + 1, behind * sizeof(merges[0]));
        if (best > 0) merges[best - 1] = find_merge(t, ids[best - 1], ids[best]);
        if (best + 1 < *n) merges[best] = find_merge(t, ids[best], ids[best + 1]);
    }
}

static void sift_down(uint64_t *heap, size_t n, size_t i)
{
    const uint64_t x = heap[i];
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= x) break;
        heap[i] = heap[child];
    }
    heap[i] = x;
}

static void push(struct bpe *b, uint64_t x)
{
    size_t i = b->n_heap++;
    for (; i > 0 && b->heap[(i - 1) / 2] > x; i = (i - 1) / 2)
        b->heap[i] = b->heap[(i - 1) / 2];
    b->heap[i] = x;
}

static uint64_t pop(struct bpe *b)
{
    const uint64_t top = b->heap[0];
    b->heap[0] = b->heap[--b->n_heap];
    if (b->n_heap > 0) sift_down(b->heap, b->n_heap, 0);
    return top;
}

static const struct merge *merge_at(const struct bpe *b, int32_t left)
{
    const struct symbol *s = &b->symbols[left];
    if (s->id < 0 || s->next < 0) return NULL;
    return find_merge(&b->tokenizer->merges, s->id, b->symbols[s->next].id);
}

/* An entry of the heap is rank << 32 | symbol: the order in which merges are made. */
static void push_merge(struct bpe *b, int32_t left)
{
    const struct merge *m = left >= 0 ? merge_at(b, left) : NULL;
    if (m) push(b, (uint64_t)(uint32_t)m->rank << 32 | (uint32_t)left);
}

static status_t reserve_long(struct bpe *b, size_t n)
{
    if (n > INT32_MAX / 2)
        return status_set(STATUS_DATA,
                          "a piece of the text has %zu bytes, valid: up to %d", n,
                          INT32_MAX / 2);
    if (n > b->symbols_capacity) {
        struct symbol *symbols = realloc(b->symbols, n * sizeof *symbols);
        if (!symbols)
            return status_set(STATUS_NOMEM, "no memory for a piece of %zu bytes", n);
        b->symbols = symbols;
        b->symbols_capacity = n;
    }
    if (2 * n > b->heap_capacity) { /* a merge takes one entry and adds at most two */
        uint64_t *heap = realloc(b->heap, 2 * n * sizeof *heap);
        if (!heap)
            return status_set(STATUS_NOMEM, "no memory for a piece of %zu bytes", n);
        b->heap = heap;
        b->heap_capacity = 2 * n;
    }
    return STATUS_OK;
}

static void merge_long(struct bpe *b)
{
    while (b->n_heap > 0) {
        const uint64_t top = pop(b);
        const int32_t left = (int32_t)(top & UINT32_MAX);
        const struct merge *m = merge_at(b, left);
        if (!m || (uint64_t)m->rank != top >> 32) continue; /* its symbols have changed */
        struct symbol *s = &b->symbols[left];
        struct symbol *gone = &b->symbols[s->next];
        s->id = m->id;
        s->next = gone->next;
        gone->id = -1;
        if (s->next >= 0) b->symbols[s->next].previous = left;
        push_merge(b, s->previous);
        push_merge(b, left);
    }
}

static status_t encode_long(struct bpe *b, const char *piece, size_t bytes,
                            struct token_list *out)
{
    TRY(reserve_long(b, bytes));
    const int32_t n = (int32_t)bytes;
    for (int32_t i = 0; i < n; i++) {
        const unsigned char byte = (unsigned char)piece[i];
        if (b->tokenizer->byte_ids[byte] < 0) return no_token(byte);
        b->symbols[i] = (struct symbol){.id = b->tokenizer->byte_ids[byte],
                                        .previous = i - 1,
                                        .next = i + 1 < n ? i + 1 : -1};
    }
    b->n_heap = 0;
    for (int32_t i = 0; i < n; i++) push_merge(b, i);
    merge_long(b);
    for (int32_t i = 0; i >= 0; i = b->symbols[i].next)
        out->ids[out->n++] = b->symbols[i].id;
    return STATUS_OK;
}

/* ---- a piece ----------------------------------------------------------------------------- */

status_t bpe_init(struct bpe *b, const struct tokenizer *t)
{
    *b = (struct bpe){.tokenizer = t, .cache = calloc(CACHE_ENTRIES, sizeof *b->cache)};
    return b->cache ? STATUS_OK : status_set(STATUS_NOMEM, "no memory for a piece cache");
}

void bpe_release(struct bpe *b)
{
    free(b->cache);
    free(b->symbols);
    free(b->heap);
    *b = (struct bpe){0};
}

static status_t encode_short(const struct tokenizer *t, const char *piece, size_t bytes,
                             struct token_list *out)
{
    int32_t *ids = out->ids + out->n;
    int n = (int)bytes;
    for (int i = 0; i < n; i++) {
        ids[i] = t->byte_ids[(unsigned char)piece[i]];
        if (ids[i] < 0) return no_token((unsigned char)piece[i]);
    }
    merge_short(&t->merges, ids, &n);
    out->n += n;
    return STATUS_OK;
}

static status_t encode_new(struct bpe *b, const char *piece, size_t bytes,
                           struct token_list *out)
{
    if (b->tokenizer->ignore_merges) {
        const int64_t *id = byte_map_find(&b->tokenizer->whole, piece, bytes);
        if (id) {
            out->ids[out->n++] = (int32_t)*id;
            return STATUS_OK;
        }
    }
    return bytes <= SHORT_PIECE ? encode_short(b->tokenizer, piece, bytes, out)
                                : encode_long(b, piece, bytes, out);
}

status_t bpe_encode(struct bpe *b, const char *piece, size_t bytes,
                    struct token_list *out)
{
    TRY(token_list_reserve(out, bytes > CACHE_IDS ? bytes : CACHE_IDS));
    if (bytes > CACHE_KEY_BYTES) return encode_new(b, piece, bytes, out);
    struct cache_entry *e = &b->cache[XXH3_64bits(piece, bytes) % CACHE_ENTRIES];
    if (e->key_bytes == bytes && memcmp(e->key, piece, bytes) == 0) {
        memcpy(out->ids + out->n, e->ids, sizeof e->ids);
        out->n += e->n_ids;
        return STATUS_OK;
    }
    const int64_t first = out->n;
    TRY(encode_new(b, piece, bytes, out));
    const int64_t n = out->n - first;
    if (n > CACHE_IDS) return STATUS_OK;
    memcpy(e->key, piece, bytes);
    e->key_bytes = (uint8_t)bytes;
    e->n_ids = (uint8_t)n;
    memcpy(e->ids, out->ids + first, (size_t)n * sizeof *e->ids);
    return STATUS_OK;
}

status_t token_list_reserve(struct token_list *l, size_t more)
{
    if ((size_t)(l->capacity - l->n) >= more) return STATUS_OK;
    const size_t larger = 2 * (size_t)l->capacity + more + 256;
    int32_t *ids =
        larger < SIZE_MAX / sizeof *ids ? realloc(l->ids, larger * sizeof *ids) : NULL;
    if (!ids) return status_set(STATUS_NOMEM, "no memory for %zu token ids", larger);
    l->ids = ids;
    l->capacity = (int64_t)larger;
    return STATUS_OK;
}

status_t token_list_append(struct token_list *l, const int32_t *ids, int64_t n)
{
    TRY(token_list_reserve(l, (size_t)n));
    if (n > 0) memcpy(l->ids + l->n, ids, (size_t)n * sizeof *ids);
    l->n += n;
    return STATUS_OK;
}

void token_list_release(struct token_list *l)
{
    free(l->ids);
    *l = (struct token_list){0};
}
