#include "data/token_file.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/log.h"
#include "data/token_file_impl.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "token files are mapped as they are, which needs a little-endian machine"
#endif

enum { SAMPLE_PIECES = 64, PIECE_TOKENS = 1024 };

/* ---- documents -------------------------------------------------------------------------- */

static int64_t offset_at(const struct token_file *f, int64_t i)
{
    int64_t offset;
    memcpy(&offset, f->documents + i * 8, sizeof offset);
    return offset;
}

int64_t token_file_document_at(const struct token_file *f, int64_t at)
{
    CHECK(at >= 0 && at < f->info.n_tokens);
    int64_t low = 0,
            high = f->info.n_documents; /* offset of low <= at < offset of high */
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (offset_at(f, middle) <= at)
            low = middle;
        else
            high = middle;
    }
    return low;
}

void token_file_document(const struct token_file *f, int64_t document, int64_t *first,
                         int64_t *end)
{
    CHECK(document >= 0 && document < f->info.n_documents);
    *first = offset_at(f, document);
    *end = offset_at(f, document + 1);
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

static status_t refuse_id(const struct token_file *f, int64_t start, int64_t n,
                          const int32_t *ids)
{
    int64_t i = 0;
    while (i < n - 1 && (uint32_t)ids[i] < (uint32_t)f->info.vocab_size) i++;
    return status_set(STATUS_DATA,
                      "%s: is damaged: token %lld is %u, ids are below the vocabulary of "
                      "%lld",
                      f->path, (long long)(start + i), (unsigned)ids[i],
                      (long long)f->info.vocab_size);
}

status_t token_file_read(const struct token_file *f, int64_t start, int64_t n,
                         int32_t *ids)
{
    CHECK(start >= 0 && n >= 0 && n <= f->info.n_tokens - start);
    const unsigned char *from = f->tokens + start * f->info.token_bytes;
    const uint32_t largest =
        f->info.token_bytes == 2 ? widen_16(from, n, ids) : widen_32(from, n, ids);
    if (n > 0 && largest >= f->info.vocab_size) return refuse_id(f, start, n, ids);
    return STATUS_OK;
}

/* ---- checks of the contents ------------------------------------------------------------- */

static status_t check_ids(const struct token_file *f, int64_t start, int64_t n)
{
    int32_t ids[PIECE_TOKENS];
    for (int64_t done = 0; done < n; done += PIECE_TOKENS) {
        const int64_t left = n - done;
        TRY(token_file_read(f, start + done, left < PIECE_TOKENS ? left : PIECE_TOKENS,
                            ids));
    }
    return STATUS_OK;
}

/* A few pieces spread evenly: a wrong vocabulary or width shows up in any of them. */
static status_t check_sample(const struct token_file *f)
{
    const int64_t n = f->info.n_tokens;
    if (n <= (int64_t)SAMPLE_PIECES * PIECE_TOKENS) return check_ids(f, 0, n);
    const int64_t last = n - PIECE_TOKENS;
    for (int64_t piece = 0; piece < SAMPLE_PIECES; piece++) {
        const int64_t step = last / (SAMPLE_PIECES - 1);
        const int64_t start = piece == SAMPLE_PIECES - 1 ? last : piece * step;
        TRY(check_ids(f, start, PIECE_TOKENS));
    }
    return STATUS_OK;
}

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
    const int64_t first = offset_at(f, 0), last = offset_at(f, n);
    TRY(check_hash(f, "documents", f->documents, (n + 1) * 8, f->documents_xxh3));
    if (first != 0 || last != f->info.n_tokens)
        return status_set(
            STATUS_DATA, "%s: its documents span tokens %lld to %lld, it holds 0 to %lld",
            f->path, (long long)first, (long long)last, (long long)f->info.n_tokens);
    for (int64_t i = 0; i < n; i++)
        if (offset_at(f, i) > offset_at(f, i + 1))
            return status_set(STATUS_DATA,
                              "%s: document %lld begins at token %lld and ends at %lld",
                              f->path, (long long)i, (long long)offset_at(f, i),
                              (long long)offset_at(f, i + 1));
    return STATUS_OK;
}

static status_t check_tokens(const struct token_file *f)
{
    TRY(check_hash(f, "tokens", f->tokens, f->info.n_tokens * f->info.token_bytes,
                   f->tokens_xxh3));
    return check_ids(f, 0, f->info.n_tokens);
}

/* ---- life ------------------------------------------------------------------------------- */

status_t token_file_open(struct token_file **f, const char *path,
                         enum token_file_check check)
{
    *f = NULL;
    struct token_file *x = calloc(1, sizeof *x);
    if (x) x->path = strdup(path);
    if (!x || !x->path) {
        free(x);
        return status_set(STATUS_NOMEM, "%s: no memory to open it", path);
    }
    status_t st = token_file_h5_open(x);
    if (st == STATUS_OK) st = check_documents(x);
    if (st == STATUS_OK)
        st = check == TOKEN_FILE_CHECK_ALL ? check_tokens(x) : check_sample(x);
    if (st == STATUS_OK)
        *f = x;
    else
        token_file_close(&x);
    return st;
}

void token_file_close(struct token_file **f)
{
    if (!*f) return;
    if ((*f)->map) munmap((void *)(uintptr_t)(*f)->map, (*f)->map_bytes);
    free((*f)->path);
    free((*f)->sources);
    free(*f);
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
    return f->sources;
}
