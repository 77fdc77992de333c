#include "cli/inspect_tokens.h"

#include <stdio.h>
#include <string.h>

#include "core/file.h"
#include "core/log.h"
#include "core/rng.h"
#include "data/token_file.h"
#include "data/tokenizer.h"

static void print_text(const struct tokenizer *t, int32_t id)
{
    size_t n = 0;
    const char *text = tokenizer_bytes(t, id, &n);
    putchar('\t');
    for (size_t k = 0; k < n; k++) {
        const unsigned char byte = (unsigned char)text[k];
        if (byte < 0x20 || byte == 0x7f || byte == '\\')
            printf("\\x%02x", byte);
        else
            putchar(byte);
    }
}

void inspect_print_id(int64_t id)
{
    if (id >= 0)
        printf("%jd", (intmax_t)id);
    else
        printf("none");
}

/* ---- a sample --------------------------------------------------------------------------- */

enum { PIECE_TOKENS = 64 };

/* What a sample takes: rows, or documents, or so many tokens. */
static int64_t count_pieces(const struct token_file_info *i)
{
    if (i->row_tokens > 0) return i->n_tokens / i->row_tokens;
    if (i->n_documents >= 0) return i->n_documents;
    return (i->n_tokens + PIECE_TOKENS - 1) / PIECE_TOKENS;
}

static void find_piece(const struct token_file *f, int64_t piece, int64_t *first,
                       int64_t *end)
{
    const struct token_file_info *i = token_file_info(f);
    const int64_t n = i->row_tokens > 0 ? i->row_tokens : PIECE_TOKENS;
    *first = piece * n;
    *end = *first + n < i->n_tokens ? *first + n : i->n_tokens;
    if (i->row_tokens == 0 && i->n_documents >= 0)
        token_file_document(f, piece, first, end);
}

/* One token a line: its number, id, whether it is to be predicted, text. */
static status_t print_piece(const struct token_file *f, const struct tokenizer *t,
                            int64_t piece)
{
    const struct token_file_info *info = token_file_info(f);
    int64_t first, end, document = -1;
    find_piece(f, piece, &first, &end);
    if (info->row_tokens > 0) printf("row %jd\n", (intmax_t)piece);
    for (int64_t i = first; i < end; i++) {
        int32_t id;
        unsigned char loss;
        TRY(token_file_read(f, i, 1, &id));
        token_file_loss(f, i, 1, &loss);
        const int64_t now = info->n_documents >= 0 ? token_file_document_at(f, i) : -1;
        if (now != document) printf("document %jd\n", (intmax_t)now);
        document = now;
        printf("%jd\t%d\t%d", (intmax_t)i, id, loss != 0);
        if (t && id < tokenizer_vocab_size(t)) print_text(t, id);
        putchar('\n');
    }
    return STATUS_OK;
}

static status_t print_sample(const struct token_file *f, const struct tokenizer *t,
                             const struct inspect_tokens *a)
{
    const int64_t pieces = count_pieces(token_file_info(f));
    const uint64_t key = rng_key((uint64_t)a->seed, "inspect", "");
    for (int64_t i = 0; i < a->sample && i < pieces; i++) {
        const uint64_t at = (uint64_t)i, n = (uint64_t)pieces;
        TRY(print_piece(f, t, a->seed < 0 ? i : (int64_t)rng_permute(key, n, at)));
    }
    return STATUS_OK;
}

/* The one that is asked for, or the one that made the file, if it is still there (*t is NULL
 * otherwise). */
static status_t open_tokenizer(struct tokenizer **t, const struct token_file *f,
                               const char *path)
{
    const char *hash = token_file_info(f)->tokenizer_sha256;
    const char *recorded = token_file_tokenizer(f);
    *t = NULL;
    if (!path && recorded[0] && !file_exists(recorded))
        log_warn("%s: made this file and is not there now: ids are shown without text "
                 "(valid: --tokenizer FILE)",
                 recorded);
    if (!path && file_exists(recorded)) path = recorded;
    if (!path) return STATUS_OK;
    TRY(tokenizer_open(t, path));
    if (!hash[0] || strcmp(hash, tokenizer_sha256(*t)) == 0) return STATUS_OK;
    return status_set(STATUS_DATA,
                      "%s: has sha256 %.12s..., %s was made with a tokenizer of %.12s...",
                      path, tokenizer_sha256(*t), token_file_path(f), hash);
}

/* ---- facts ------------------------------------------------------------------------------ */

static void print_loss_mask(const struct token_file *f)
{
    const struct token_file_info *info = token_file_info(f);
    if (info->row_tokens > 0)
        printf("rows           of %jd tokens\n", (intmax_t)info->row_tokens);
    if (!info->has_loss_mask) return;
    int64_t predicted = 0;
    for (int64_t at = 0, n; at < info->n_tokens; at += n) {
        unsigned char loss[1 << 14];
        const int64_t left = info->n_tokens - at;
        n = left < (int64_t)sizeof loss ? left : (int64_t)sizeof loss;
        token_file_loss(f, at, n, loss);
        for (int64_t i = 0; i < n; i++) predicted += loss[i] != 0;
    }
    printf("loss mask      %jd tokens are to be predicted, %.1f %%\n",
           (intmax_t)predicted, 100.0 * (double)predicted / (double)info->n_tokens);
}

static void print_documents(const struct token_file_info *i)
{
    if (i->n_documents >= 0)
        printf("documents      %jd\n", (intmax_t)i->n_documents);
    else
        printf("documents      %s\n",
               i->documents_known ? "told apart by their delimiters"
                                  : "unknown: give eos or bos to tell them apart");
}

static void print_facts(const struct token_file *f)
{
    const struct token_file_info *i = token_file_info(f);
    printf("token file     %s\n", token_file_path(f));
    printf("format         %s", token_file_formats[i->format]);
    if (i->n_shards > 1) printf(", %d shards", i->n_shards);
    printf("\ntokens         %jd of %d bytes\n", (intmax_t)i->n_tokens, i->token_bytes);
    print_documents(i);
    print_loss_mask(f);
    if (i->vocab_size > 0)
        printf("vocabulary     %jd", (intmax_t)i->vocab_size);
    else
        printf("vocabulary     unknown");
    printf(", end of document ");
    inspect_print_id(i->eos_id);
    if (i->bos_id >= 0) printf(", begin of document %jd", (intmax_t)i->bos_id);
    printf("\nlargest id     %jd in a sample\n", (intmax_t)i->largest_id);
    if (i->text_bytes > 0)
        printf("text           %jd bytes, %.3f a token\n", (intmax_t)i->text_bytes,
               (double)i->text_bytes / (double)i->n_tokens);
    if (i->tokenizer_name[0]) printf("tokenizer      %s\n", i->tokenizer_name);
    if (i->format == TOKEN_FILE_H5)
        printf("tokenizer      sha256 %s\nsources        %s\n", i->tokenizer_sha256,
               token_file_sources(f));
    printf("xxh3           %016jx\n", (uintmax_t)i->xxh3);
}

status_t inspect_tokens(const struct inspect_tokens *a)
{
    struct token_file *f = NULL;
    struct tokenizer *t = NULL;
    struct token_file_options o = a->source.file;
    o.check = a->verify ? TOKEN_FILE_CHECK_ALL : TOKEN_FILE_CHECK_SEAL;
    TRY(token_file_open_with(&f, a->source.path, &o));
    print_facts(f);
    if (a->verify)
        puts(token_file_info(f)->format == TOKEN_FILE_H5
                 ? "verified       every byte is as written"
                 : "verified       every id is below the vocabulary");
    status_t st = a->sample > 0 ? open_tokenizer(&t, f, a->tokenizer) : STATUS_OK;
    if (st == STATUS_OK) st = print_sample(f, t, a);
    tokenizer_close(&t);
    token_file_close(&f);
    return st;
}
