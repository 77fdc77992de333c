#include "data/tokenizer_impl.h"

#include <stdlib.h>

static int32_t add_node(struct trie *t, unsigned char byte)
{
    if (t->n == t->capacity) {
        if (t->capacity > INT32_MAX / 2 - 64) return -1;
        const int32_t larger = 2 * t->capacity + 64;
        struct trie_node *nodes = realloc(t->nodes, (size_t)larger * sizeof *nodes);
        if (!nodes) return -1;
        t->nodes = nodes;
        t->capacity = larger;
    }
    t->nodes[t->n] = (struct trie_node){.byte = byte, .id = -1};
    return t->n++;
}

static int32_t find_child(const struct trie *t, int32_t node, unsigned char byte)
{
    int32_t c = t->nodes[node].first_child;
    while (c && t->nodes[c].byte != byte) c = t->nodes[c].next;
    return c;
}

status_t trie_add(struct trie *t, const char *token, size_t bytes, int32_t id,
                  uint8_t flags)
{
    if (t->n == 0 && add_node(t, 0) < 0)
        return status_set(STATUS_NOMEM, "no memory for added tokens");
    int32_t node = 0;
    for (size_t i = 0; i < bytes; i++) {
        const unsigned char byte = (unsigned char)token[i];
        int32_t child = find_child(t, node, byte);
        if (!child) {
            child = add_node(t, byte);
            if (child < 0) return status_set(STATUS_NOMEM, "no memory for added tokens");
            t->nodes[child].next = t->nodes[node].first_child;
            t->nodes[node].first_child = child;
            if (node == 0) t->root[byte] = child;
        }
        node = child;
    }
    t->nodes[node].id = id;
    t->nodes[node].flags = flags;
    return STATUS_OK;
}

void trie_release(struct trie *t)
{
    free(t->nodes);
    *t = (struct trie){0};
}

/* The leftmost longest token in text[from..); its node, 0 if there is none. */
static int32_t find(const struct trie *t, const char *text, size_t bytes, size_t from,
                    size_t *start, size_t *end)
{
    for (size_t i = from; i < bytes; i++) {
        int32_t node = t->root[(unsigned char)text[i]], found = 0;
        for (size_t j = i + 1; node; j++) {
            if (t->nodes[node].id >= 0) {
                found = node;
                *end = j;
            }
            node = j < bytes ? find_child(t, node, (unsigned char)text[j]) : 0;
        }
        *start = i;
        if (found) return found;
    }
    return 0;
}

/* Classes of the character that begins at text[at]; 0 for a byte that is none. */
static unsigned classes_at(const char *text, size_t bytes, size_t at, size_t *next)
{
    size_t length = 1;
    const bool is_char =
        (unsigned char)text[at] < 0x80 || utf8_sequence(text + at, bytes - at) > 0;
    const unsigned classes =
        is_char ? char_classes()[utf8_decode(text + at, &length)] : 0;
    *next = at + length;
    return classes;
}

/* Of the character that ends at text[at], at > 0. */
static unsigned classes_before(const char *text, size_t at, size_t *start)
{
    size_t next;
    for (*start = at - 1; *start > 0 && at - *start < 4; --*start)
        if (((unsigned char)text[*start] & 0xC0) != 0x80) break;
    const unsigned classes = classes_at(text, at, *start, &next);
    if (next == at) return classes;
    *start = at - 1;
    return 0;
}

static bool touches_word(const char *text, size_t bytes, size_t start, size_t end)
{
    size_t other;
    return (start > 0 && classes_before(text, start, &other) & CHAR_WORD) ||
           (end < bytes && classes_at(text, bytes, end, &other) & CHAR_WORD);
}

bool trie_next(const struct trie *t, const char *text, size_t bytes,
               struct added_search *s, struct added_match *m)
{
    int32_t node;
    size_t start, end, other;
    if (t->n == 0) return false;
    do {
        node = find(t, text, bytes, s->at, &start, &end);
        if (!node) return false;
        s->at = end;
    } while (t->nodes[node].flags & ADDED_SINGLE_WORD &&
             touches_word(text, bytes, start, end));
    if (t->nodes[node].flags & ADDED_LSTRIP)
        while (start > s->done && classes_before(text, start, &other) & CHAR_SPACE)
            start = other;
    if (t->nodes[node].flags & ADDED_RSTRIP)
        while (end < bytes && classes_at(text, bytes, end, &other) & CHAR_SPACE)
            end = other;
    *m = (struct added_match){.start = start, .end = end, .id = t->nodes[node].id};
    s->done = end;
    return true;
}
