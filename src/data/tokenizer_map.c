#include "data/tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>

static struct map_entry *slot_of(const struct byte_map *m, const char *key, size_t bytes,
                                 uint32_t hash)
{
    size_t i = hash & (m->capacity - 1);
    for (;; i = (i + 1) & (m->capacity - 1)) {
        struct map_entry *e = &m->entries[i];
        if (!e->used) return e;
        if (e->hash == hash && e->key_bytes == bytes &&
            memcmp(m->keys + e->offset, key, bytes) == 0)
            return e;
    }
}

int64_t *byte_map_find(const struct byte_map *m, const char *key, size_t bytes)
{
    if (m->n == 0) return NULL;
    struct map_entry *e = slot_of(m, key, bytes, (uint32_t)hash_xxh3(key, bytes));
    return e->used ? &e->value : NULL;
}

static bool grow_entries(struct byte_map *m)
{
    struct byte_map larger = *m;
    larger.capacity = m->capacity ? 2 * m->capacity : 1024;
    larger.entries = calloc(larger.capacity, sizeof *larger.entries);
    if (!larger.entries) return false;
    for (size_t i = 0; i < m->capacity; i++) {
        const struct map_entry *e = &m->entries[i];
        if (e->used) *slot_of(&larger, m->keys + e->offset, e->key_bytes, e->hash) = *e;
    }
    free(m->entries);
    *m = larger;
    return true;
}

static bool grow_keys(struct byte_map *m, size_t more)
{
    if (m->keys && m->keys_capacity - m->keys_bytes >= more) return true;
    const size_t larger = 2 * m->keys_capacity + more + 4096;
    char *keys = realloc(m->keys, larger);
    if (!keys) return false;
    m->keys = keys;
    m->keys_capacity = larger;
    return true;
}

int64_t *byte_map_add(struct byte_map *m, const char *key, size_t bytes, bool *is_new)
{
    if (m->n + m->n / 2 >= m->capacity && !grow_entries(m)) return NULL;
    const uint32_t hash = (uint32_t)hash_xxh3(key, bytes);
    struct map_entry *e = slot_of(m, key, bytes, hash);
    if (is_new) *is_new = !e->used;
    if (e->used) return &e->value;
    if (!grow_keys(m, bytes)) return NULL;
    if (bytes > 0) memcpy(m->keys + m->keys_bytes, key, bytes);
    *e = (struct map_entry){.offset = m->keys_bytes,
                            .key_bytes = (uint32_t)bytes,
                            .hash = hash,
                            .used = true};
    m->keys_bytes += bytes;
    m->n++;
    return &e->value;
}

const char *byte_map_key(const struct byte_map *m, const struct map_entry *e)
{
    return m->keys + e->offset;
}

void byte_map_release(struct byte_map *m)
{
    free(m->entries);
    free(m->keys);
    *m = (struct byte_map){0};
}
