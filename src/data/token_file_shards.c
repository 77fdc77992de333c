/* Several files as one row.  All are mapped at once: an open file costs a mapping and no
 * descriptor, and Linux allows 65530 mappings to a process. */
#include "data/token_file_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLE_PIECES = 64, MAX_SHARDS = 32000 };

/* Shards are of one making; what some do not say, others may. */
static status_t join(struct token_file_info *all, const struct token_file *shard,
                     const char *first)
{
    const struct token_file_info *i = &shard->info;
    if (i->format != all->format || i->vocab_size != all->vocab_size)
        return status_set(STATUS_DATA,
                          "%s is of form %s with a vocabulary of %lld, and %s of form %s "
                          "with %lld: the shards of one source must be alike",
                          first, token_file_formats[all->format],
                          (long long)all->vocab_size, shard->path,
                          token_file_formats[i->format], (long long)i->vocab_size);
    const bool known =
        i->documents_known && (i->n_documents >= 0) == (all->n_documents >= 0);
    if (known != all->documents_known || i->eos_id != all->eos_id)
        return status_set(STATUS_DATA,
                          "%s and %s say in different ways where documents end: the "
                          "shards of one source must be alike",
                          first, shard->path);
    if (i->has_loss_mask != all->has_loss_mask || i->row_tokens != all->row_tokens)
        return status_set(
            STATUS_DATA,
            "%s has %s loss mask and rows of %lld tokens, and %s has %s and "
            "rows of %lld: the shards of one source must be alike",
            first, all->has_loss_mask ? "a" : "no", (long long)all->row_tokens,
            shard->path, i->has_loss_mask ? "one" : "none", (long long)i->row_tokens);
    if (strcmp(i->tokenizer_sha256, all->tokenizer_sha256) != 0 ||
        strcmp(i->tokenizer_name, all->tokenizer_name) != 0)
        return status_set(STATUS_DATA, "%s and %s were made with different tokenizers",
                          first, shard->path);
    all->n_tokens += i->n_tokens;
    if (i->n_documents >= 0) all->n_documents += i->n_documents;
    all->text_bytes =
        all->text_bytes && i->text_bytes ? all->text_bytes + i->text_bytes : 0;
    if (i->largest_id > all->largest_id) all->largest_id = i->largest_id;
    if (i->token_bytes > all->token_bytes) all->token_bytes = i->token_bytes;
    return STATUS_OK;
}

static status_t open_shards(struct token_file *f, const struct token_file_list *list,
                            const struct token_file_options *o)
{
    const int pieces = list->n > SAMPLE_PIECES / 2 ? 2 : SAMPLE_PIECES / list->n;
    struct hash_stream *hash = hash_stream_create();
    status_t st = STATUS_OK;
    for (int k = 0; k < list->n && st == STATUS_OK; k++) {
        struct token_file **shard = &f->shards[k];
        st = token_file_open_one(shard, list->paths[k], o, pieces);
        if (st != STATUS_OK) break;
        f->info.n_shards = k + 1;
        f->first[k + 1] = f->first[k] + (*shard)->info.n_tokens;
        hash_stream_update(hash, &(*shard)->info.xxh3, sizeof(uint64_t));
        if (k > 0)
            st = join(&f->info, *shard, list->paths[0]);
        else
            f->info = (*shard)->info;
    }
    f->info.xxh3 = hash_stream_finish(&hash);
    f->info.n_shards = list->n;
    return st;
}

/* What stands for a set in messages: its pattern or folder, or the first of a list. */
static char *title(const char *path, int n_shards)
{
    const size_t line = strcspn(path, "\n"), size = line + 32;
    char *text = malloc(size);
    if (!text) return NULL;
    if (path[line] == '\0')
        snprintf(text, size, "%s", path);
    else
        snprintf(text, size, "%.*s and %d more", (int)line, path, n_shards - 1);
    return text;
}

static status_t open_all(struct token_file **f, const char *path,
                         const struct token_file_list *list,
                         const struct token_file_options *o)
{
    if (list->n > MAX_SHARDS)
        return status_set(STATUS_DATA, "%s: names %d files, valid are at most %d", path,
                          list->n, MAX_SHARDS);
    struct token_file *x = calloc(1, sizeof *x);
    if (x) {
        x->path = title(path, list->n);
        x->shards = calloc((size_t)list->n, sizeof(struct token_file *));
        x->first = calloc((size_t)list->n + 1, sizeof *x->first);
    }
    const bool complete = x && x->path && x->shards && x->first;
    const status_t st = complete
                            ? open_shards(x, list, o)
                            : status_set(STATUS_NOMEM, "%s: no memory to open it", path);
    if (st == STATUS_OK)
        *f = x;
    else
        token_file_close(&x);
    return st;
}

status_t token_file_open_with(struct token_file **f, const char *path,
                              const struct token_file_options *o)
{
    struct token_file_list list;
    *f = NULL;
    TRY(token_file_list(&list, path));
    const status_t st = list.n == 1
                            ? token_file_open_one(f, list.paths[0], o, SAMPLE_PIECES)
                            : open_all(f, path, &list, o);
    token_file_list_release(&list);
    return st;
}
