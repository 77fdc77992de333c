#include "data/token_file.h"

#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "data/token_file_impl.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "token files are mapped as they are, which needs a little-endian machine"
#endif

/* ---- shards ----------------------------------------------------------------------------- */

/* The last of offsets[0..n], ascending from <= at to > at, that is <= at. */
static int64_t find_last(int64_t (*offset)(const struct token_file *, int64_t),
                         const struct token_file *f, int64_t n, int64_t at)
{
    int64_t low = 0, high = n; /* offset of low <= at < offset of high */
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (offset(f, middle) <= at)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static int64_t first_of(const struct token_file *f, int64_t shard)
{
    return f->first[shard];
}

/* The shard that holds token *at, which becomes a number in it; *n: at most as many as the shard
 * has from there on. */
static const struct token_file *shard_at(const struct token_file *f, int64_t *at,
                                         int64_t *n)
{
    const int64_t k = find_last(first_of, f, f->info.n_shards, *at);
    const int64_t left = f->first[k + 1] - *at;
    if (*n > left) *n = left;
    *at -= f->first[k];
    return f->shards[k];
}

/* ---- documents -------------------------------------------------------------------------- */

int64_t token_file_document_at(const struct token_file *f, int64_t at)
{
    CHECK(at >= 0 && at < f->info.n_tokens && f->info.n_documents >= 0);
    if (!f->shards) return find_last(f->offset, f, f->info.n_documents, at);
    int64_t before = 0, one = 1;
    const struct token_file *shard = shard_at(f, &at, &one);
    for (int k = 0; f->shards[k] != shard; k++) before += f->shards[k]->info.n_documents;
    return before + token_file_document_at(shard, at);
}

void token_file_document(const struct token_file *f, int64_t document, int64_t *first,
                         int64_t *end)
{
    CHECK(document >= 0 && document < f->info.n_documents);
    int k = 0;
    while (f->shards && document >= f->shards[k]->info.n_documents)
        document -= f->shards[k++]->info.n_documents;
    const struct token_file *x = f->shards ? f->shards[k] : f;
    const int64_t before = f->shards ? f->first[k] : 0;
    *first = before + x->offset(x, document);
    *end = before + x->offset(x, document + 1);
}

static status_t refuse_document(const struct token_file *f, int64_t document,
                                int64_t first, int64_t end)
{
    return status_set(STATUS_DATA,
                      "%s: document %lld spans tokens %lld to %lld now: the file was "
                      "changed while in use",
                      f->path, (long long)document, (long long)first, (long long)end);
}

/* By the index, of one file. */
static status_t mark_indexed(const struct token_file *f, int64_t start, int64_t n,
                             bool *begins)
{
    int64_t document = find_last(f->offset, f, f->info.n_documents, start);
    int64_t first = f->offset(f, document), end = start;
    memset(begins, 0, (size_t)n * sizeof *begins);
    if (first > start) return refuse_document(f, document, first, end);
    begins[0] = first == start;
    for (bool holds_start = true; end < start + n; document++, holds_start = false) {
        if (document == f->info.n_documents)
            return refuse_document(f, document, first, end);
        end = f->offset(f, document + 1);
        if (end < first || (holds_start && end <= start))
            return refuse_document(f, document, first, end);
        if (end < start + n) begins[end - start] = true;
        first = end;
    }
    return STATUS_OK;
}

/* By the tokens between documents; with both kinds a document begins where they meet. */
static void mark_delimited(const struct token_file_info *info, int64_t n,
                           const int32_t *ids, bool *begins)
{
    const bool by_eos = info->eos_id >= 0, by_bos = info->bos_id >= 0;
    for (int64_t i = 1; i < n; i++)
        begins[i] = (!by_eos || ids[i - 1] == info->eos_id) &&
                    (!by_bos || ids[i] == info->bos_id);
}

status_t token_file_begins(const struct token_file *f, int64_t start, int64_t n,
                           const int32_t *ids, bool *begins)
{
    CHECK(start >= 0 && n >= 1 && n <= f->info.n_tokens - start);
    CHECK(f->info.documents_known);
    if (f->info.n_documents < 0) {
        mark_delimited(&f->info, n, ids, begins);
    } else if (!f->shards) {
        TRY(mark_indexed(f, start, n, begins));
    } else {
        for (int64_t done = 0, m; done < n; done += m) {
            int64_t at = start + done;
            m = n - done;
            const struct token_file *shard = shard_at(f, &at, &m);
            TRY(mark_indexed(shard, at, m, begins + done));
        }
    }
    begins[0] = true;
    return STATUS_OK;
}

/* ---- tokens ----------------------------------------------------------------------------- */

/* Both loops widen and find the largest id in one pass that compilers vectorise. */
static uint32_t widen_16(const unsigned char *from, int64_t n, int32_t *ids)
{
    uint32_t largest = 0;
    for (int64_t i = 0; i < n; i++) {
        uint16_t id;
        memcpy(&id, from + 2 * i, sizeof id);
        ids[i] = id;
        largest = id > largest ? id : largest;
    }
    return largest;
}

static uint32_t widen_32(const unsigned char *from, int64_t n, int32_t *ids)
{
    uint32_t largest = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t id;
        memcpy(&id, from + 4 * i, sizeof id);
        ids[i] = (int32_t)id;
        largest = id > largest ? id : largest;
    }
    return largest;
}

/* Ids are below this also where nobody told the vocabulary. */
static int64_t id_limit(const struct token_file *f)
{
    return f->info.vocab_size > 0 ? f->info.vocab_size : (int64_t)INT32_MAX + 1;
}

static status_t refuse_id(const struct token_file *f, int64_t start, int64_t n,
                          const int32_t *ids)
{
    int64_t i = 0;
    while (i < n - 1 && (uint32_t)ids[i] < (uint32_t)id_limit(f)) i++;
    return status_set(STATUS_DATA,
                      "%s: is damaged%s: token %lld is %u, ids are below the vocabulary "
                      "of %lld",
                      f->path, f->sealed ? "" : ", or its dtype or vocab_size is another",
                      (long long)(start + i), (unsigned)ids[i], (long long)id_limit(f));
}

/* Of one file. */
static status_t read_tokens(const struct token_file *f, int64_t start, int64_t n,
                            int32_t *ids)
{
    const unsigned char *from = f->tokens + start * f->info.token_bytes;
    const uint32_t largest =
        f->info.token_bytes == 2 ? widen_16(from, n, ids) : widen_32(from, n, ids);
    if (n > 0 && largest >= id_limit(f)) return refuse_id(f, start, n, ids);
    return STATUS_OK;
}

status_t token_file_read(const struct token_file *f, int64_t start, int64_t n,
                         int32_t *ids)
{
    CHECK(start >= 0 && n >= 0 && n <= f->info.n_tokens - start);
    if (!f->shards) return read_tokens(f, start, n, ids);
    for (int64_t done = 0, m; done < n; done += m) {
        int64_t at = start + done;
        m = n - done;
        const struct token_file *shard = shard_at(f, &at, &m);
        TRY(read_tokens(shard, at, m, ids + done));
    }
    return STATUS_OK;
}

void token_file_loss(const struct token_file *f, int64_t start, int64_t n,
                     unsigned char *loss)
{
    CHECK(start >= 0 && n >= 0 && n <= f->info.n_tokens - start);
    if (!f->info.has_loss_mask) {
        memset(loss, 1, (size_t)n);
        return;
    }
    for (int64_t done = 0, m; done < n; done += m) {
        int64_t at = start + done;
        m = n - done;
        const struct token_file *one = f->shards ? shard_at(f, &at, &m) : f;
        memcpy(loss + done, one->loss + at, (size_t)m);
    }
}

/* ---- life ------------------------------------------------------------------------------- */

status_t token_file_open(struct token_file **f, const char *path,
                         enum token_file_check check)
{
    return token_file_open_with(f, path, &(struct token_file_options){.check = check});
}

void token_file_close(struct token_file **f)
{
    if (!*f) return;
    struct token_file *x = *f;
    for (int k = 0; x->shards && k < x->info.n_shards; k++)
        token_file_close(&x->shards[k]);
    token_map_close(&x->map);
    token_map_close(&x->index_map);
    token_map_close(&x->loss_map);
    free(x->shards);
    free(x->first);
    free(x->owned_documents);
    free(x->path);
    free(x->sources);
    free(x->tokenizer_path);
    free(x);
    *f = NULL;
}

const struct token_file_info *token_file_info(const struct token_file *f)
{
    return &f->info;
}

const char *token_file_path(const struct token_file *f)
{
    return f->path;
}

const char *token_file_sources(const struct token_file *f)
{
    return f->sources ? f->sources : "[]";
}

const char *token_file_tokenizer(const struct token_file *f)
{
    if (f->shards) return token_file_tokenizer(f->shards[0]);
    return f->tokenizer_path ? f->tokenizer_path : "";
}
