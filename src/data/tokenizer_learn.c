/* The classic loop: merge the most frequent pair, everywhere, until the vocabulary is full
 * (Sennrich et al. 2016, arXiv:1508.07909, algorithm 1), incrementally: each pair knows its
 * count and the words it is in, and only those words are touched.  Equal counts go to the pair
 * of smaller ids, so the result depends on nothing but the counts. */
#include "data/tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>

#include "core/log.h"

struct word {
    size_t first; /* of its symbols */
    int64_t count;
    uint32_t n;
};

struct pair {
    uint64_t key; /* left id << 32 | right id: the order among equal counts */
    int64_t count;
    uint32_t nodes; /* list of the words that have it, or had it; 0: none */
    bool is_rule;   /* merged before, or never to be merged */
    bool is_touched;
};

struct node {
    uint32_t word, next;
};

struct candidate {
    int64_t count; /* when it was pushed */
    uint32_t pair;
};

struct learner {
    struct learned *out;
    struct byte_map ids; /* bytes of a token that merges can make -> id */
    struct word *words;
    int32_t *symbols;
    size_t n_words;
    struct pair *pairs; /* pairs[0] is not used */
    size_t n_pairs, pairs_capacity;
    uint32_t *table; /* hash -> pair, 0: free */
    size_t table_capacity;
    struct node *nodes; /* nodes[0] is not used */
    size_t n_nodes, nodes_capacity;
    struct candidate *heap;
    size_t n_heap, heap_capacity;
    uint32_t *touched; /* pairs that became more frequent in this merge */
    size_t n_touched, touched_capacity;
    bool no_memory; /* set where it happens, looked at once a merge */
};

/* Room for one more element of `size` bytes; at most 2^32 - 1 of them. */
static bool grow(struct learner *l, void **array, size_t *capacity, size_t n, size_t size)
{
    if (n < *capacity) return true;
    const size_t larger = *capacity ? 2 * *capacity : 4096;
    void *p = larger <= UINT32_MAX ? realloc(*array, larger * size) : NULL;
    if (!p) {
        l->no_memory = true;
        return false;
    }
    *array = p;
    *capacity = larger;
    return true;
}

#define GROW(l, array, count, capacity)                                                  \
    grow(l, (void **)&(l)->array, &(l)->capacity, (l)->count, sizeof *(l)->array)

/* ---- candidates: a heap, the best on top --------------------------------------------------- */

static bool is_better(const struct learner *l, struct candidate a, struct candidate b)
{
    if (a.count != b.count) return a.count > b.count;
    return l->pairs[a.pair].key < l->pairs[b.pair].key;
}

static void push(struct learner *l, uint32_t pair)
{
    if (!GROW(l, heap, n_heap, heap_capacity)) return;
    const struct candidate c = {.count = l->pairs[pair].count, .pair = pair};
    size_t i = l->n_heap++;
    for (; i > 0 && is_better(l, c, l->heap[(i - 1) / 2]); i = (i - 1) / 2)
        l->heap[i] = l->heap[(i - 1) / 2];
    l->heap[i] = c;
}

static struct candidate pop(struct learner *l)
{
    const struct candidate top = l->heap[0], last = l->heap[--l->n_heap];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < l->n_heap; i = child) {
        if (child + 1 < l->n_heap && is_better(l, l->heap[child + 1], l->heap[child]))
            child++;
        if (!is_better(l, l->heap[child], last)) break;
        l->heap[i] = l->heap[child];
    }
    if (l->n_heap > 0) l->heap[i] = last;
    return top;
}

/* ---- pairs ------------------------------------------------------------------------------- */

static size_t slot_of(const struct learner *l, uint64_t key)
{
    const uint64_t h = key * UINT64_C(0x9E3779B97F4A7C15);
    size_t i = (size_t)(h >> 32 ^ h >> 12) & (l->table_capacity - 1);
    while (l->table[i] && l->pairs[l->table[i]].key != key)
        i = (i + 1) & (l->table_capacity - 1);
    return i;
}

static bool grow_table(struct learner *l)
{
    const size_t larger = l->table_capacity ? 2 * l->table_capacity : 1 << 16;
    uint32_t *table = calloc(larger, sizeof *table);
    if (!table) {
        l->no_memory = true;
        return false;
    }
    free(l->table);
    l->table = table;
    l->table_capacity = larger;
    for (uint32_t i = 1; i < l->n_pairs; i++) table[slot_of(l, l->pairs[i].key)] = i;
    return true;
}

/* The pair, made if it is new; 0 when out of memory. */
static uint32_t pair_of(struct learner *l, int32_t left, int32_t right)
{
    if (2 * l->n_pairs >= l->table_capacity && !grow_table(l)) return 0;
    const uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    const size_t i = slot_of(l, key);
    if (l->table[i]) return l->table[i];
    if (!GROW(l, pairs, n_pairs, pairs_capacity)) return 0;
    l->pairs[l->n_pairs] = (struct pair){.key = key};
    return l->table[i] = (uint32_t)l->n_pairs++;
}

static void add_pair(struct learner *l, uint32_t word, int32_t left, int32_t right)
{
    const uint32_t i = pair_of(l, left, right);
    if (!i || !GROW(l, nodes, n_nodes, nodes_capacity) ||
        !GROW(l, touched, n_touched, touched_capacity))
        return;
    struct pair *p = &l->pairs[i];
    p->count += l->words[word].count;
    if (!p->is_touched) l->touched[l->n_touched++] = i;
    p->is_touched = true;
    if (p->nodes && l->nodes[p->nodes].word == word) return;
    l->nodes[l->n_nodes] = (struct node){.word = word, .next = p->nodes};
    p->nodes = (uint32_t)l->n_nodes++;
}

static void remove_pair(struct learner *l, uint32_t word, int32_t left, int32_t right)
{
    const uint32_t i = pair_of(l, left, right);
    if (i) l->pairs[i].count -= l->words[word].count;
}

static void push_touched(struct learner *l)
{
    for (size_t i = 0; i < l->n_touched; i++) {
        l->pairs[l->touched[i]].is_touched = false;
        if (l->pairs[l->touched[i]].count > 0) push(l, l->touched[i]);
    }
    l->n_touched = 0;
}

/* ---- words ------------------------------------------------------------------------------- */

/* Replace left, right by `id` in a word, from the left; the counts follow each replacement. */
static void merge_word(struct learner *l, uint32_t w, int32_t left, int32_t right,
                       int32_t id)
{
    struct word *word = &l->words[w];
    int32_t *s = l->symbols + word->first;
    uint32_t n = 0; /* s[0..n) is done */
    for (uint32_t i = 0; i < word->n; i++) {
        if (s[i] != left || i + 1 == word->n || s[i + 1] != right) {
            s[n++] = s[i];
            continue;
        }
        remove_pair(l, w, left, right);
        if (n > 0) {
            remove_pair(l, w, s[n - 1], left);
            add_pair(l, w, s[n - 1], id);
        }
        if (i + 2 < word->n) {
            remove_pair(l, w, right, s[i + 2]);
            add_pair(l, w, id, s[i + 2]);
        }
        s[n++] = id;
        i++;
    }
    word->n = n;
}

static bool read_words(struct learner *l, const struct byte_map *words,
                       const int32_t byte_ids[256])
{
    l->words = malloc((words->n + 1) * sizeof *l->words);
    l->symbols = malloc((words->keys_bytes + 1) * sizeof *l->symbols);
    if (!l->words || !l->symbols || words->n > UINT32_MAX) return false;
    size_t n_symbols = 0;
    for (size_t i = 0; i < words->capacity; i++) {
        const struct map_entry *e = &words->entries[i];
        if (!e->used) continue;
        const char *key = byte_map_key(words, e);
        struct word *w = &l->words[l->n_words];
        *w = (struct word){.first = n_symbols, .count = e->value, .n = e->key_bytes};
        for (uint32_t k = 0; k < w->n; k++)
            l->symbols[n_symbols++] = byte_ids[(unsigned char)key[k]];
        for (uint32_t k = 0; k + 1 < w->n; k++) {
            const int32_t *s = l->symbols + w->first + k;
            add_pair(l, (uint32_t)l->n_words, s[0], s[1]);
        }
        l->n_words++;
    }
    push_touched(l);
    return !l->no_memory;
}

/* ---- tokens ------------------------------------------------------------------------------ */

static bool reserve_token(struct learned *out, size_t bytes)
{
    if (out->n_tokens == out->capacity) {
        const int64_t larger = 2 * out->capacity + 1024;
        struct token *tokens = realloc(out->tokens, (size_t)larger * sizeof *tokens);
        if (!tokens) return false;
        out->tokens = tokens;
        out->capacity = larger;
    }
    if (out->pool_capacity - out->pool_bytes < bytes || !out->pool) {
        const size_t larger = 2 * out->pool_capacity + bytes + 4096;
        char *pool = realloc(out->pool, larger);
        if (!pool) return false;
        out->pool = pool;
        out->pool_capacity = larger;
    }
    return true;
}

/* The id of a new token, `bytes` long, whose bytes the caller puts at the end of the pool. */
static int32_t append_token(struct learned *out, size_t bytes)
{
    out->tokens[out->n_tokens] =
        (struct token){.offset = out->pool_bytes, .bytes = bytes};
    out->pool_bytes += bytes;
    return (int32_t)out->n_tokens++;
}

static bool add_fixed_tokens(struct learner *l, const struct tokenizer_train_options *o,
                             int32_t byte_ids[256])
{
    struct learned *out = l->out;
    for (int i = 0; i < o->n_special; i++) {
        const size_t n = strlen(o->special[i]);
        if (!reserve_token(out, n)) return false;
        memcpy(out->pool + out->pool_bytes, o->special[i], n);
        append_token(out, n);
    }
    for (uint32_t c = 0; c < ALPHABET_MAX_CHAR; c++)
        for (unsigned b = 0; b < 256; b++) {
            if (alphabet_char(b) != c) continue;
            const char byte = (char)b;
            int64_t *id = byte_map_add(&l->ids, &byte, 1, NULL);
            if (!id || !reserve_token(out, 1)) return false;
            out->pool[out->pool_bytes] = byte;
            byte_ids[b] = append_token(out, 1);
            *id = byte_ids[b];
        }
    return true;
}

static bool is_special(const char *bytes, size_t n,
                       const struct tokenizer_train_options *o)
{
    char *name = malloc(2 * n + 1);
    if (!name) return false; /* the caller is about to run out of memory as well */
    name[alphabet_write(name, bytes, n)] = '\0';
    bool found = false;
    for (int i = 0; i < o->n_special && !found; i++)
        found = strcmp(name, o->special[i]) == 0;
    free(name);
    return found;
}

/* The token of left and right together: a new one, or one that other merges made already.
 * -1: not to be made, because a special token is written that way. */
static int32_t join(struct learner *l, int32_t left, int32_t right,
                    const struct tokenizer_train_options *o)
{
    struct learned *out = l->out;
    const size_t n = out->tokens[left].bytes + out->tokens[right].bytes;
    if (!reserve_token(out, n)) {
        l->no_memory = true;
        return -1;
    }
    const struct token a = out->tokens[left], b = out->tokens[right];
    char *both = out->pool + out->pool_bytes;
    memcpy(both, out->pool + a.offset, a.bytes);
    memcpy(both + a.bytes, out->pool + b.offset, b.bytes);
    if (is_special(both, n, o)) return -1;
    bool is_new;
    int64_t *id = byte_map_add(&l->ids, both, n, &is_new);
    if (!id) {
        l->no_memory = true;
        return -1;
    }
    if (is_new) *id = append_token(out, n);
    return (int32_t)*id;
}

static void add_rule(struct learner *l, int32_t left, int32_t right)
{
    struct learned *out = l->out;
    if (out->n_merges == out->merges_capacity) {
        const int64_t larger = 2 * out->merges_capacity + 1024;
        struct learned_merge *merges =
            realloc(out->merges, (size_t)larger * sizeof *merges);
        if (!merges) {
            l->no_memory = true;
            return;
        }
        out->merges = merges;
        out->merges_capacity = larger;
    }
    out->merges[out->n_merges++] = (struct learned_merge){.left = left, .right = right};
}

/* ---- the loop ---------------------------------------------------------------------------- */

static void merge_best(struct learner *l, uint32_t pair,
                       const struct tokenizer_train_options *o)
{
    const int32_t left = (int32_t)(l->pairs[pair].key >> 32);
    const int32_t right = (int32_t)(l->pairs[pair].key & UINT32_MAX);
    const int32_t id = join(l, left, right, o);
    if (id < 0) { /* leave its occurrences alone for good */
        l->pairs[pair].count = 0;
        return;
    }
    /* a pair that was merged comes back when another rule makes a token that exists; merging
     * it again is what the encoder will do, by the rule that is there */
    if (!l->pairs[pair].is_rule) add_rule(l, left, right);
    l->pairs[pair].is_rule = true;
    uint32_t node = l->pairs[pair].nodes;
    l->pairs[pair].nodes = 0;
    for (; node && !l->no_memory; node = l->nodes[node].next)
        merge_word(l, l->nodes[node].word, left, right, id);
    push_touched(l);
}

status_t learn_merges(struct learned *out, const struct byte_map *words,
                      const struct tokenizer_train_options *o)
{
    *out = (struct learned){0};
    struct learner l = {.out = out, .n_pairs = 1, .n_nodes = 1};
    int32_t byte_ids[256];
    l.no_memory = !add_fixed_tokens(&l, o, byte_ids) || !read_words(&l, words, byte_ids);
    const int64_t least = o->min_count > 0 ? o->min_count : 2;
    while (!l.no_memory && out->n_tokens < o->vocab_size && l.n_heap > 0) {
        const struct candidate c = pop(&l);
        const int64_t count = l.pairs[c.pair].count;
        if (count != c.count) { /* it has become rarer since, or was pushed again */
            if (count > 0 && count < c.count) push(&l, c.pair);
            continue;
        }
        if (count < least) break;
        merge_best(&l, c.pair, o);
    }
    const bool no_memory = l.no_memory;
    byte_map_release(&l.ids);
    free(l.words);
    free(l.symbols);
    free(l.pairs);
    free(l.table);
    free(l.nodes);
    free(l.heap);
    free(l.touched);
    if (!no_memory) return STATUS_OK;
    learned_release(out);
    return status_set(STATUS_NOMEM, "no memory to learn merges from %zu words", words->n);
}

void learned_release(struct learned *l)
{
    free(l->tokens);
    free(l->pool);
    free(l->merges);
    *l = (struct learned){0};
}
