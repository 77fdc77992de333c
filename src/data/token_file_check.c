/* Whether a file holds what its structure promises, and the hash that names it. */
#include "data/token_file_impl.h"

#include <string.h>

enum { PIECE_TOKENS = 1024 };

/* ---- documents -------------------------------------------------------------------------- */

static status_t check_hash(const struct token_file *f, const char *name,
                           const unsigned char *data, int64_t bytes, uint64_t want)
{
    if (hash_xxh3(data, (size_t)bytes) == want) return STATUS_OK;
    return status_set(STATUS_DATA,
                      "%s: is damaged: /%s does not have the hash it was written with",
                      f->path, name);
}

/* Always in full: a small part of the file, and a binary search does not notice a wrong
 * offset but takes another document for the one that was meant. */
static status_t check_documents(const struct token_file *f)
{
    const int64_t n = f->info.n_documents;
    if (n < 0) return STATUS_OK;
    const int64_t first = f->offset(f, 0), last = f->offset(f, n);
    if (f->sealed)
        TRY(check_hash(f, "documents", f->documents, (n + 1) * 8, f->documents_xxh3));
    if (first != 0 || last != f->info.n_tokens)
        return status_set(
            STATUS_DATA, "%s: its documents span tokens %lld to %lld, it holds 0 to %lld",
            f->path, (long long)first, (long long)last, (long long)f->info.n_tokens);
    int64_t begin = first;
    for (int64_t i = 0; i < n; i++) {
        const int64_t end = f->offset(f, i + 1);
        if (begin > end)
            return status_set(STATUS_DATA,
                              "%s: document %lld begins at token %lld and ends at %lld",
                              f->path, (long long)i, (long long)begin, (long long)end);
        begin = end;
    }
    return STATUS_OK;
}

/* ---- tokens ----------------------------------------------------------------------------- */

/* What the pieces that were looked at have in common. */
struct sample {
    struct hash_stream *hash;
    bool even, odd; /* whether any id at an even and at an odd place is not 0 */
    int32_t largest;
};

static status_t look_at(const struct token_file *f, int64_t start, int64_t n,
                        struct sample *s)
{
    int32_t ids[PIECE_TOKENS];
    for (int64_t done = 0; done < n; done += PIECE_TOKENS) {
        const int64_t left = n - done, m = left < PIECE_TOKENS ? left : PIECE_TOKENS;
        TRY(token_file_read(f, start + done, m, ids));
        for (int64_t i = 0; i < m; i++) {
            const bool odd = (start + done + i) % 2 != 0;
            s->odd |= odd && ids[i] != 0;
            s->even |= !odd && ids[i] != 0;
            s->largest = ids[i] > s->largest ? ids[i] : s->largest;
        }
        hash_stream_update(s->hash, f->tokens + (start + done) * f->info.token_bytes,
                           (size_t)(m * f->info.token_bytes));
        if (f->loss) hash_stream_update(s->hash, f->loss + start + done, (size_t)m);
    }
    return STATUS_OK;
}

/* A few pieces spread evenly: a wrong vocabulary or width shows up in any of them. */
static status_t take_sample(const struct token_file *f, int pieces, struct sample *s)
{
    const int64_t n = f->info.n_tokens;
    if (n <= (int64_t)pieces * PIECE_TOKENS) return look_at(f, 0, n, s);
    const int64_t last = n - PIECE_TOKENS;
    for (int64_t piece = 0; piece < pieces; piece++) {
        const int64_t step = last / (pieces - 1);
        const int64_t start = piece == pieces - 1 ? last : piece * step;
        TRY(look_at(f, start, PIECE_TOKENS, s));
    }
    return STATUS_OK;
}

/* Half of every uint32 of a small vocabulary is zero. */
static status_t check_width(const struct token_file *f, const struct sample *s)
{
    const struct token_file_info *i = &f->info;
    if (i->format != TOKEN_FILE_RAW || i->token_bytes != 2 || i->n_tokens < 16 ||
        s->odd || !s->even)
        return STATUS_OK;
    return status_set(STATUS_DATA,
                      "%s: every second uint16 that was looked at is 0, as if its tokens "
                      "were uint32 (valid: dtype: uint32)",
                      f->path);
}

static status_t check_every_id(const struct token_file *f)
{
    int32_t ids[PIECE_TOKENS];
    const int64_t n = f->info.n_tokens;
    status_t st = STATUS_OK;
    token_map_advise(&f->map, true);
    for (int64_t at = 0; at < n && st == STATUS_OK; at += PIECE_TOKENS)
        st = token_file_read(f, at, n - at < PIECE_TOKENS ? n - at : PIECE_TOKENS, ids);
    token_map_advise(&f->map, false);
    return st;
}

/* ---- the whole -------------------------------------------------------------------------- */

/* All that decides what is read, but for most of the tokens. */
static void hash_structure(const struct token_file *f, struct hash_stream *hash)
{
    const struct token_file_info *i = &f->info;
    const int64_t numbers[] = {(int64_t)f->map.bytes, i->n_tokens, i->token_bytes,
                               i->n_documents,        i->eos_id,   i->bos_id};
    hash_stream_update(hash, numbers, sizeof numbers);
    hash_stream_update(hash, f->map.data, (size_t)(f->tokens - f->map.data));
    if (f->index_map.bytes > 0)
        hash_stream_update(hash, f->index_map.data, f->index_map.bytes);
    if (f->owned_documents)
        hash_stream_update(hash, f->owned_documents,
                           (size_t)(i->n_documents + 1) * sizeof(int64_t));
}

status_t token_file_check(struct token_file *f, const struct token_file_options *o,
                          int pieces)
{
    const bool all = o->check == TOKEN_FILE_CHECK_ALL;
    TRY(check_documents(f));
    token_map_advise(&f->map, true);
    if (all && f->sealed)
        TRY(check_hash(f, "tokens", f->tokens, f->info.n_tokens * f->info.token_bytes,
                       f->tokens_xxh3));
    if (all && f->sealed && f->loss)
        TRY(check_hash(f, "loss_mask", f->loss, f->info.n_tokens, f->loss_mask_xxh3));
    token_map_advise(&f->map, false);
    struct sample s = {.hash = hash_stream_create()};
    if (!f->sealed) hash_structure(f, s.hash);
    status_t st = take_sample(f, pieces, &s);
    const uint64_t hash = hash_stream_finish(&s.hash);
    if (!f->sealed) f->info.xxh3 = hash;
    f->info.largest_id = s.largest;
    if (st == STATUS_OK) st = check_width(f, &s);
    return all && st == STATUS_OK ? check_every_id(f) : st;
}
