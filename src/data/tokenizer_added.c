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

status_t trie_add(struct trie *t, const char *token, size_t bytes, int32_t id)
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
    return STATUS_OK;
}

void trie_release(struct trie *t)
{
    free(t->nodes);
    *t = (struct trie){0};
}

bool trie_find(const struct trie *t, const char *text, size_t bytes, size_t from,
               size_t *start, size_t *length, int32_t *id)
{
    for (size_t i = from; i < bytes; i++) {
        int32_t node = t->root[(unsigned char)text[i]];
        bool found = false;
        for (size_t j = i + 1; node; j++) {
            if (t->nodes[node].id >= 0) {
                found = true;
                *length = j - i;
                *id = t->nodes[node].id;
            }
            node = j < bytes ? find_child(t, node, (unsigned char)text[j]) : 0;
        }
        if (found) {
            *start = i;
            return true;
        }
    }
    return false;
}
