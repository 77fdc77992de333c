#include "data/tokenize.h"

#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/log.h"
#include "data/pack.h"
#include "data/text_pipeline.h"
#include "data/token_file.h"

struct target {
    struct token_writer *writer;
    struct packer *packer; /* NULL: no rows */
    struct tokenize_counts counts;
};

struct run {
    const struct tokenize_options *options;
    struct encoder **encoders; /* one a thread, of text */
    struct chat **chats;       /* one a thread, of conversations */
    struct target train, validation;
    struct token_list
        pending; /* the ids so far of a document that lies in several batches */
    int64_t eos; /* -1: none is added */
};

static size_t cut(const void *context, const char *text, size_t bytes, size_t from)
{
    const struct run *r = context;
    if (r->options->chat) return bytes;
    return tokenizer_cut(r->options->tokenizer, text, bytes, from);
}

static status_t encode_conversations(struct chat *c, struct text_batch *b)
{
    for (int64_t i = 0; i < b->n_parts; i++) {
        struct text_part *part = &b->parts[i];
        int64_t rendered = 0;
        part->first_id = b->ids.n;
        const status_t st = chat_encode(c, b->text + part->offset, part->bytes, &b->ids,
                                        &b->loss, &rendered);
        if (st != STATUS_OK)
            return status_prefix(st, "%s:%lld", part->path, (long long)part->line);
        part->document_bytes = (size_t)rendered; /* the text is what was rendered */
    }
    return STATUS_OK;
}

static status_t encode_batch(void *context, int thread, struct text_batch *b)
{
    struct run *r = context;
    if (r->options->chat) return encode_conversations(r->chats[thread], b);
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

/* ---- writing ---------------------------------------------------------------------------- */

static void count(struct target *to, int64_t n, int64_t text_bytes)
{
    to->counts.n_documents++;
    to->counts.n_tokens += n;
    to->counts.text_bytes += text_bytes;
}

static status_t write_document(struct run *r, const struct text_part *part,
                               const int32_t *ids, int64_t n)
{
    struct target *to = target_of(r, part->document_hash);
    count(to, n, (int64_t)part->document_bytes);
    return token_writer_document(to->writer, ids, n, (int64_t)part->document_bytes);
}

/* A conversation or a piece of one, unless nothing of it is to be predicted. */
static status_t write_piece(struct target *to, const int32_t *ids, const int32_t *loss,
                            int64_t n, int64_t text_bytes)
{
    int64_t predicted = 0;
    for (int64_t i = 1; i < n; i++)
        predicted += loss[i]; /* the first follows on nothing */
    if (predicted == 0) {
        to->counts.n_dropped++;
        return STATUS_OK;
    }
    count(to, n, text_bytes);
    to->counts.n_predicted += predicted;
    return to->packer ? packer_add(to->packer, ids, loss, n, text_bytes)
                      : token_writer_masked(to->writer, ids, loss, n, text_bytes);
}

static status_t write_overlong(const struct run *r, struct target *to,
                               const struct text_part *part, const int32_t *ids,
                               const int32_t *loss, int64_t n)
{
    const struct tokenize_options *o = r->options;
    const int64_t T = o->row_tokens;
    int64_t text_bytes = (int64_t)part->document_bytes;
    to->counts.n_overlong++;
    switch (o->overlong) {
    case TOKENIZE_OVERLONG_ERROR:
        return status_set(STATUS_DATA,
                          "%s:%lld: has %lld tokens, a row %lld (valid: longer rows, or "
                          "--overlong drop, truncate or split)",
                          part->path, (long long)part->line, (long long)n, (long long)T);
    case TOKENIZE_OVERLONG_DROP:
        to->counts.n_dropped++;
        return STATUS_OK;
    case TOKENIZE_OVERLONG_TRUNCATE:
        return write_piece(to, ids, loss, T, text_bytes);
    case TOKENIZE_OVERLONG_SPLIT:
        for (int64_t at = 0; at < n; at += T, text_bytes = 0)
            TRY(write_piece(to, ids + at, loss + at, n - at < T ? n - at : T,
                            text_bytes));
    }
    return STATUS_OK;
}

static status_t write_conversations(struct run *r, const struct text_batch *b)
{
    const int64_t T = r->options->row_tokens;
    for (int64_t i = 0; i < b->n_parts; i++) {
        const struct text_part *part = &b->parts[i];
        const int64_t end = i + 1 < b->n_parts ? b->parts[i + 1].first_id : b->ids.n;
        const int64_t first = part->first_id, n = end - first;
        const int32_t *ids = b->ids.ids + first, *loss = b->loss.ids + first;
        struct target *to = target_of(r, part->document_hash);
        if (T > 0 && n > T)
            TRY(write_overlong(r, to, part, ids, loss, n));
        else
            TRY(write_piece(to, ids, loss, n, (int64_t)part->document_bytes));
    }
    return STATUS_OK;
}

static status_t write_texts(struct run *r, const struct text_batch *b)
{
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
    return STATUS_OK;
}

static status_t write_batch(void *context, struct text_batch *b)
{
    struct run *r = context;
    TRY(r->options->chat ? write_conversations(r, b) : write_texts(r, b));
    if (!r->options->progress) return STATUS_OK;
    const struct tokenize_counts *a = &r->train.counts, *v = &r->validation.counts;
    const struct tokenize_counts both = {.n_documents = a->n_documents + v->n_documents,
                                         .n_tokens = a->n_tokens + v->n_tokens,
                                         .text_bytes = a->text_bytes + v->text_bytes};
    r->options->progress(r->options->progress_context, &both);
    return STATUS_OK;
}

/* ---- the run ---------------------------------------------------------------------------- */

static status_t create_encoders(struct run *r)
{
    const struct tokenize_options *o = r->options;
    r->encoders = calloc((size_t)o->n_threads, sizeof(struct encoder *));
    r->chats = calloc((size_t)o->n_threads, sizeof(struct chat *));
    if (!r->encoders || !r->chats)
        return status_set(STATUS_NOMEM, "no memory for encoders");
    status_t st = STATUS_OK;
    for (int i = 0; i < o->n_threads && st == STATUS_OK; i++)
        st = o->chat ? chat_create(&r->chats[i], o->tokenizer, o->chat, o->loss)
                     : encoder_create(&r->encoders[i], o->tokenizer);
    if (st == STATUS_OK || !o->tokenizer_path) return st;
    return status_prefix(st, "%s", o->tokenizer_path);
}

static status_t create_target(struct run *r, struct target *to, const char *path)
{
    const struct tokenize_options *o = r->options;
    TRY(file_make_parent(path));
    TRY(token_writer_create(&to->writer, path, tokenizer_vocab_size(o->tokenizer), r->eos,
                            tokenizer_sha256(o->tokenizer)));
    if (o->tokenizer_path) TRY(token_writer_set_tokenizer(to->writer, o->tokenizer_path));
    return o->row_tokens > 0 ? packer_create(&to->packer, path, o->row_tokens)
                             : STATUS_OK;
}

static status_t start(struct run *r)
{
    const struct tokenize_options *o = r->options;
    r->eos = o->no_eos || o->chat ? -1 : tokenizer_eos(o->tokenizer);
    if (r->eos < 0 && !o->no_eos && !o->chat)
        return status_set(
            STATUS_DATA,
            "the tokenizer has no end-of-document token, valid: one that has "
            "<|endoftext|>, <|end_of_text|>, </s> or <|im_end|>, or no_eos");
    TRY(create_encoders(r));
    TRY(create_target(r, &r->train, o->train_path));
    return o->validation_path ? create_target(r, &r->validation, o->validation_path)
                              : STATUS_OK;
}

static status_t pack(const struct run *r, struct target *to)
{
    if (!to->packer) return STATUS_OK;
    struct pack_counts packed;
    TRY(packer_write(to->packer, to->writer, chat_end(r->chats[0]), &packed));
    to->counts.n_rows = packed.n_rows;
    return STATUS_OK;
}

static status_t commit(struct run *r)
{
    const struct tokenize_options *o = r->options;
    const int64_t n_train = r->train.counts.n_documents;
    const int64_t n_validation = r->validation.counts.n_documents;
    if (n_train + n_validation == 0)
        return status_set(STATUS_DATA, o->chat
                                           ? "the files hold no conversation that fits"
                                           : "the text files hold no text");
    if (o->validation_path && (n_train == 0 || n_validation == 0))
        return status_set(
            STATUS_DATA,
            "a validation share of %g of %lld document%s leaves none for %s: "
            "choose another share%s",
            o->validation_share, (long long)(n_train + n_validation),
            n_train + n_validation == 1 ? "" : "s",
            n_train == 0 ? o->train_path : o->validation_path,
            o->chat ? "" : ", or cut plain text with --paragraphs-per-document");
    char *sources;
    TRY(text_sources(o->text, &sources));
    status_t st = STATUS_OK;
    if (o->validation_path) st = pack(r, &r->validation);
    if (st == STATUS_OK) st = pack(r, &r->train);
    if (st == STATUS_OK && o->validation_path)
        st = token_writer_commit(r->validation.writer, sources);
    if (st == STATUS_OK) st = token_writer_commit(r->train.writer, sources);
    free(sources);
    return st;
}

status_t tokenize(const struct tokenize_options *o, struct tokenize_counts *train,
                  struct tokenize_counts *validation)
{
    CHECK(o->n_threads >= 1 && (o->row_tokens == 0 || o->chat));
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
    for (int i = 0; i < o->n_threads && r.chats; i++) chat_destroy(&r.chats[i]);
    free(r.encoders);
    free(r.chats);
    packer_destroy(&r.train.packer);
    packer_destroy(&r.validation.packer);
    token_writer_destroy(&r.train.writer);
    token_writer_destroy(&r.validation.writer);
    token_list_release(&r.pending);
    *train = r.train.counts;
    *validation = r.validation.counts;
    return st;
}
