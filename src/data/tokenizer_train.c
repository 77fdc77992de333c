#include "data/tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "data/text_pipeline.h"

enum {
    /* a longer piece is no word: rules and base64 blocks would only take memory */
    MAX_WORD_BYTES = 512,
    MAX_VOCAB = 1 << 24
};

struct counter { /* of one thread */
    struct matcher matcher;
    struct byte_map words; /* -> how often */
};

struct count_run {
    struct stage stage; /* the GPT-2 pattern */
    struct counter *counters;
};

static status_t count_word(void *context, const char *piece, size_t bytes)
{
    if (bytes > MAX_WORD_BYTES) return STATUS_OK;
    int64_t *count = byte_map_add(context, piece, bytes, NULL);
    if (!count) return status_set(STATUS_NOMEM, "no memory for the words of the text");
    ++*count;
    return STATUS_OK;
}

/* Bytes that are not UTF-8 are pieces of one byte, in which there is nothing to merge. */
static status_t count_part(const struct count_run *r, struct counter *c, const char *text,
                           size_t bytes)
{
    while (bytes > 0) {
        const size_t n = utf8_prefix(text, bytes);
        TRY(pretokenize(&r->stage, 1, &c->matcher, text, n, count_word, &c->words));
        if (n == bytes) break;
        text += n + 1;
        bytes -= n + 1;
    }
    return STATUS_OK;
}

static status_t count_batch(void *context, int thread, struct text_batch *b)
{
    const struct count_run *r = context;
    for (int64_t i = 0; i < b->n_parts; i++)
        TRY(count_part(r, &r->counters[thread], b->text + b->parts[i].offset,
                       b->parts[i].bytes));
    return STATUS_OK;
}

static size_t cut(const void *context, const char *text, size_t bytes, size_t from)
{
    (void)context;
    for (size_t at = from > 0 ? from : 1; at < bytes; at++)
        if (pretokenize_can_cut(text, at)) return at;
    return bytes;
}

static status_t add_counts(struct byte_map *to, const struct byte_map *from)
{
    for (size_t i = 0; i < from->capacity; i++) {
        const struct map_entry *e = &from->entries[i];
        if (!e->used) continue;
        int64_t *count = byte_map_add(to, byte_map_key(from, e), e->key_bytes, NULL);
        if (!count)
            return status_set(STATUS_NOMEM, "no memory for the words of the text");
        *count += e->value;
    }
    return STATUS_OK;
}

/* words of the whole text -> how often; the same for any number of threads. */
static status_t count_words(struct text_reader *text, int n_threads,
                            struct byte_map *words)
{
    struct count_run r = {.counters = calloc((size_t)n_threads, sizeof *r.counters)};
    status_t st = STATUS_OK;
    if (!r.counters) st = status_set(STATUS_NOMEM, "no memory for %d threads", n_threads);
    if (st == STATUS_OK) st = stage_compile(&r.stage, "GPT-2", pattern_gpt2, false);
    for (int i = 0; i < n_threads && st == STATUS_OK; i++)
        st = matcher_init(&r.counters[i].matcher);
    const struct text_pipeline p = {.text = text,
                                    .n_threads = n_threads,
                                    .cut = cut,
                                    .work = count_batch,
                                    .context = &r};
    if (st == STATUS_OK) st = text_pipeline_run(&p);
    for (int i = 0; i < n_threads && st == STATUS_OK; i++)
        st = add_counts(words, &r.counters[i].words);
    for (int i = 0; i < n_threads && r.counters; i++) {
        matcher_release(&r.counters[i].matcher);
        byte_map_release(&r.counters[i].words);
    }
    pcre2_code_free(r.stage.code);
    free(r.counters);
    return st;
}

/* ---- what was asked for ------------------------------------------------------------------ */

static status_t check_special(const struct tokenizer_train_options *o, int i)
{
    const char *token = o->special[i];
    const size_t n = strlen(token);
    char byte[ALPHABET_MAX_NAME_BYTES];
    if (n == 0 || utf8_prefix(token, n) != n)
        return status_set(STATUS_USAGE, "special token %d is empty or not UTF-8", i + 1);
    if (n <= sizeof byte && alphabet_read(byte, token, n) == 1)
        return status_set(STATUS_USAGE,
                          "special token \"%s\" is how a byte is written, valid: two "
                          "characters or more",
                          token);
    for (int k = 0; k < i; k++)
        if (strcmp(o->special[k], token) == 0)
            return status_set(STATUS_USAGE, "special token \"%s\" is given twice", token);
    return STATUS_OK;
}

static status_t check_options(const struct tokenizer_train_options *o)
{
    if (o->vocab_size < 256 + o->n_special || o->vocab_size > MAX_VOCAB)
        return status_set(STATUS_USAGE,
                          "a vocabulary of %lld, valid: %d (256 bytes and %d special "
                          "tokens) to %d",
                          (long long)o->vocab_size, 256 + o->n_special, o->n_special,
                          MAX_VOCAB);
    for (int i = 0; i < o->n_special; i++) TRY(check_special(o, i));
    return STATUS_OK;
}

status_t tokenizer_train(struct text_reader *text, const char *path,
                         const struct tokenizer_train_options *o)
{
    CHECK(o->n_threads >= 1);
    TRY(check_options(o));
    struct byte_map words = {0};
    struct learned learned = {0};
    status_t st = count_words(text, o->n_threads, &words);
    if (st == STATUS_OK) st = learn_merges(&learned, &words, o);
    if (st == STATUS_OK) st = learned_write(&learned, path, o);
    byte_map_release(&words);
    learned_release(&learned);
    return st;
}
