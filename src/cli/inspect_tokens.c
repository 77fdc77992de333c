#include "cli/inspect_tokens.h"

#include <stdio.h>

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

/* One token a line: its number, id, number of its document, text. */
static status_t print_sample(const struct token_file *f, const struct tokenizer *t,
                             int64_t sample)
{
    const struct token_file_info *info = token_file_info(f);
    int64_t document = 0;
    for (int64_t i = 0; i < sample && i < info->n_tokens; i++) {
        const int64_t before = i > 0 ? 1 : 0;
        int32_t ids[2];
        bool begins[2] = {false, false};
        TRY(token_file_read(f, i - before, 1 + before, ids));
        if (info->n_documents >= 0) {
            document = token_file_document_at(f, i);
        } else if (info->documents_known) {
            TRY(token_file_begins(f, i - before, 1 + before, ids, begins));
            document += before && begins[1];
        }
        printf("%jd\t%d\t%jd", (intmax_t)i, ids[before], (intmax_t)document);
        if (t && ids[before] < tokenizer_vocab_size(t)) print_text(t, ids[before]);
        putchar('\n');
    }
    return STATUS_OK;
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
    if (i->vocab_size > 0)
        printf("vocabulary     %jd", (intmax_t)i->vocab_size);
    else
        printf("vocabulary     unknown");
    printf(", end of document %jd", (intmax_t)i->eos_id);
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
    status_t st = a->tokenizer ? tokenizer_open(&t, a->tokenizer) : STATUS_OK;
    if (st == STATUS_OK) st = print_sample(f, t, a->sample);
    tokenizer_close(&t);
    token_file_close(&f);
    return st;
}
