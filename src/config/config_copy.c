/* Values of one configuration in another. */
#include "config/config_impl.h"

#include <stdlib.h>
#include <string.h>

static status_t copy_sources(struct config_sources *to, const struct config_sources *from,
                             const char *name)
{
    for (int i = 0; i < from->n; i++) {
        struct data_source *items =
            realloc(to->items, ((size_t)to->n + 1) * sizeof *items);
        char *path = strdup(from->items[i].path);
        if (items) to->items = items;
        if (!items || !path) {
            free(path);
            return status_set(STATUS_NOMEM, "%s: no memory", name);
        }
        items[to->n] = from->items[i];
        items[to->n++].path = path;
    }
    return STATUS_OK;
}

status_t config_copy_value(struct config *to, const struct config *from,
                           const struct config_key *k)
{
    void *x = config_field(to, k);
    const void *y = config_field(from, k);
    switch (k->type) {
    case CONFIG_BOOL:
        *(bool *)x = *(const bool *)y;
        return STATUS_OK;
    case CONFIG_INTEGER:
        *(int64_t *)x = *(const int64_t *)y;
        return STATUS_OK;
    case CONFIG_NUMBER:
        *(double *)x = *(const double *)y;
        return STATUS_OK;
    case CONFIG_ENUM:
        *(int *)x = *(const int *)y;
        return STATUS_OK;
    case CONFIG_FAMILY:
    case CONFIG_TEXT:
        *(char **)x = strdup(*(char *const *)y);
        return *(char **)x ? STATUS_OK
                           : status_set(STATUS_NOMEM, "%s: no memory", k->name);
    case CONFIG_SOURCES:
        return copy_sources(x, y, k->name);
    }
    return status_set(STATUS_INTERNAL, "%s: has no type", k->name);
}

static bool same_source(const struct data_source *a, const struct data_source *b)
{
    const struct token_file_options *x = &a->file, *y = &b->file;
    return strcmp(a->path, b->path) == 0 && a->weight == b->weight &&
           x->format == y->format && x->token_bytes == y->token_bytes &&
           x->vocab_size == y->vocab_size && x->has_eos == y->has_eos &&
           x->eos_id == y->eos_id && x->has_bos == y->has_bos && x->bos_id == y->bos_id;
}

static bool same_sources(const struct config_sources *a, const struct config_sources *b)
{
    bool same = a->n == b->n;
    for (int i = 0; same && i < a->n; i++) same = same_source(&a->items[i], &b->items[i]);
    return same;
}

bool config_same_value(const struct config *a, const struct config *b,
                       const struct config_key *k)
{
    const void *x = config_field(a, k), *y = config_field(b, k);
    switch (k->type) {
    case CONFIG_BOOL:
        return *(const bool *)x == *(const bool *)y;
    case CONFIG_INTEGER:
        return *(const int64_t *)x == *(const int64_t *)y;
    case CONFIG_NUMBER:
        return *(const double *)x == *(const double *)y;
    case CONFIG_ENUM:
        return *(const int *)x == *(const int *)y;
    case CONFIG_FAMILY:
    case CONFIG_TEXT:
        return strcmp(*(char *const *)x, *(char *const *)y) == 0;
    case CONFIG_SOURCES:
        return same_sources(x, y);
    }
    return false;
}
