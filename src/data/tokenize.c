#include "data/tokenize.h"

#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/log.h"
#include "data/text_pipeline.h"
#include "data/token_file.h"

struct target {
    struct token_writer *writer;
    struct tokenize_counts counts;
};

struct run {
    const struct tokenize_options *options;
    struct encoder **encoders; /* one a thread */
    struct target train, validation;
    struct token_list
        pending; /* the ids so far of a document that lies in several batches */
    int64_t eos; /* -1: none is added */
};

static size_t cut(const void *context, const char *text, size_t bytes, size_t from)
{
    const struct run *r = context;
    return tokenizer_cut(r->options->tokenizer, text, bytes, from);
}

static status_t encode_batch(void *context, int thread, struct text_batch *b)
{
    struct run *r = context;
    for (int64_t i = 0; i < b->n_parts; i++) {
        struct text_part *part = &b->parts[i];
        part->first_id = b->ids.n;
        TRY(encoder_encode(r->encoders[thread], b->text + part->offset, part->bytes,
                           &b->ids));
        const int32_t eos = (int32_t)r->eos;
        if (part->is_last && eos >= 0) TRY(token_list_append(&b->ids, &eos, 1));
    }
    return STATUS_OK;
}

static struct target *target_of(struct run *r, uint64_t hash)
{
    const double uniform = (double)(hash >> 11) * 0x1p-53; /* in [0, 1) */
    return r->validation.writer && uniform < r->options->validation_share ? &r->validation
                                                                          : &r->train;
}

static status_t write_document(struct run *r, const struct text_part *part,
                               const int32_t *ids, int64_t n)
{
    struct target *to = target_of(r, part->document_hash);
    to->counts.n_documents++;
    to->counts.n_tokens += n;
    to->counts.text_bytes += (int64_t)part->document_bytes;
    return token_writer_document(to->writer, ids, n, (int64_t)part->document_bytes);
}

static status_t write_batch(void *context, struct text_batch *b)
{
    struct run *r = context;
    for (int64_t i = 0; i < b->n_parts; i++) {
        const struct text_part *part = &b->parts[i];
        const int64_t end = i + 1 < b->n_parts ? b->parts[i + 1].first_id : b->ids.n;
        const int32_t *ids = b->ids.ids + part->first_id;
        const int64_t n = end - part->first_id;
        if (part->is_last && r->pending.n == 0) {
            TRY(write_document(r, part, ids, n));
            continue;
        }
        TRY(token_list_append(&r->pending, ids, n));
        if (!part->is_last) continue;
        TRY(write_document(r, part, r->pending.ids, r->pending.n));
        r->pending.n = 0;
    }
    if (!r->options->progress) return STATUS_OK;
    const struct tokenize_counts *a = &r->train.counts, *v = &r->validation.counts;
    const struct tokenize_counts both = {.n_documents = a->n_documents + v->n_documents,
                                         .n_tokens = a->n_tokens + v->n_tokens,
                                         .text_bytes = a->text_bytes + v->text_bytes};
    r->options->progress(r->options->progress_context, &both);
    return STATUS_OK;
}

static status_t start(struct run *r)
{
    const struct tokenize_options *o = r->options;
    r->eos = o->no_eos ? -1 : tokenizer_eos(o->tokenizer);
    if (r->eos < 0 && !o->no_eos)
        return status_set(
            STATUS_DATA,
            "the tokenizer has no end-of-document token, valid: one that has "
            "<|endoftext|>, <|end_of_text|>, </s> or <|im_end|>, or no_eos");
    const int64_t vocab_size = tokenizer_vocab_size(o->tokenizer);
    const char *sha256 = tokenizer_sha256(o->tokenizer);
    TRY(file_make_parent(o->train_path));
    if (o->validation_path) TRY(file_make_parent(o->validation_path));
    TRY(token_writer_create(&r->train.writer, o->train_path, vocab_size, r->eos, sha256));
    if (o->validation_path)
        TRY(token_writer_create(&r->validation.writer, o->validation_path, vocab_size,
                                r->eos, sha256));
    r->encoders = calloc((size_t)o->n_threads, sizeof(struct encoder *));
    if (!r->encoders) return status_set(STATUS_NOMEM, "no memory for encoders");
    for (int i = 0; i < o->n_threads; i++)
        TRY(encoder_create(&r->encoders[i], o->tokenizer));
    return STATUS_OK;
}

static status_t commit(struct run *r)
{
    const struct tokenize_options *o = r->options;
    const int64_t n_train = r->train.counts.n_documents;
    const int64_t n_validation = r->validation.counts.n_documents;
    if (n_train + n_validation == 0)
        return status_set(STATUS_DATA, "the text files hold no text");
    if (o->validation_path && (n_train == 0 || n_validation == 0))
        return status_set(
            STATUS_DATA,
            "a validation share of %g of %lld document%s leaves none for %s: "
            "choose another share, or cut plain text with --paragraphs-per-document",
            o->validation_share, (long long)(n_train + n_validation),
            n_train + n_validation == 1 ? "" : "s",
            n_train == 0 ? o->train_path : o->validation_path);
    char *sources;
    TRY(text_sources(o->text, &sources));
    status_t st = STATUS_OK;
    if (o->validation_path) st = token_writer_commit(r->validation.writer, sources);
    if (st == STATUS_OK) st = token_writer_commit(r->train.writer, sources);
    free(sources);
    return st;
}

status_t tokenize(const struct tokenize_options *o, struct tokenize_counts *train,
                  struct tokenize_counts *validation)
{
    CHECK(o->n_threads >= 1);
    struct run r = {.options = o};
    const struct text_pipeline p = {.text = o->text,
                                    .n_threads = o->n_threads,
                                    .cut = cut,
                                    .work = encode_batch,
                                    .finish = write_batch,
                                    .context = &r};
    status_t st = start(&r);
    if (st == STATUS_OK) st = text_pipeline_run(&p);
    if (st == STATUS_OK) st = commit(&r);
    for (int i = 0; i < o->n_threads && r.encoders; i++) encoder_destroy(&r.encoders[i]);
    free(r.encoders);
    token_writer_destroy(&r.train.writer);
    token_writer_destroy(&r.validation.writer);
    token_list_release(&r.pending);
    *train = r.train.counts;
    *validation = r.validation.counts;
    return st;
}
