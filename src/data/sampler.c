#include "data/sampler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/rng.h"
#include "data/mixture.h"

struct sampler {
    int64_t T;
    uint64_t seed;
    bool shuffle, document_mask;
    struct repetition_limit repetition;
    int n;
    struct token_file **files; /* [n] */
    struct mixture *mixture;
};

/* ---- opening ---------------------------------------------------------------------------- */

static status_t check_length(const struct token_file *f, int64_t T)
{
    const int64_t n = token_file_info(f)->n_tokens, row = token_file_info(f)->row_tokens;
    if (row > 0 && row != T)
        return status_set(STATUS_DATA,
                          "%s: holds rows of %lld tokens, data.sequence_length is %lld "
                          "(valid: %lld)",
                          token_file_path(f), (long long)row, (long long)T,
                          (long long)row);
    if (row > 0 || n > T) return STATUS_OK;
    return status_set(STATUS_DATA,
                      "%s: has %lld tokens, a sequence of length %lld needs %lld",
                      token_file_path(f), (long long)n, (long long)T, (long long)T + 1);
}

/* One model reads all sources, so they must speak one vocabulary. */
static status_t check_same(const struct token_file *f, const struct token_file *first)
{
    const struct token_file_info *a = token_file_info(first), *b = token_file_info(f);
    const bool told = !a->vocab_assumed && !b->vocab_assumed;
    if (told && a->vocab_size != b->vocab_size)
        return status_set(
            STATUS_DATA,
            "%s has a vocabulary of %lld and %s one of %lld: all sources of "
            "a run need the same tokenizer",
            token_file_path(first), (long long)a->vocab_size, token_file_path(f),
            (long long)b->vocab_size);
    const bool known = a->tokenizer_sha256[0] && b->tokenizer_sha256[0];
    if (known && strcmp(a->tokenizer_sha256, b->tokenizer_sha256) != 0)
        return status_set(STATUS_DATA,
                          "%s was made with tokenizer %.12s... and %s with %.12s...: all "
                          "sources of a run need the same tokenizer",
                          token_file_path(first), a->tokenizer_sha256, token_file_path(f),
                          b->tokenizer_sha256);
    return STATUS_OK;
}

/* What only some forms say. */
static status_t check_told(const struct token_file *f, bool document_mask)
{
    const struct token_file_info *i = token_file_info(f);
    if (i->vocab_size == 0)
        return status_set(STATUS_DATA,
                          "%s: does not say how large its vocabulary is (valid: "
                          "vocab_size with the source, or model.vocab_size)",
                          token_file_path(f));
    if (document_mask && !i->documents_known)
        return status_set(STATUS_DATA,
                          "%s: does not say where documents end (valid: eos or bos with "
                          "the source, or data.document_mask: false)",
                          token_file_path(f));
    return STATUS_OK;
}

static status_t open_sources(struct sampler *s, const struct sampler_options *o)
{
    for (int k = 0; k < o->n_sources; k++) {
        struct token_file_options file = o->sources[k].file;
        file.check = o->check;
        file.fallback_vocab_size = k > 0 && o->vocab_size == 0
                                       ? token_file_info(s->files[0])->vocab_size
                                       : o->vocab_size;
        TRY(token_file_open_with(&s->files[k], o->sources[k].path, &file));
        TRY(check_told(s->files[k], o->document_mask));
        TRY(check_length(s->files[k], o->T));
        TRY(check_same(s->files[k], s->files[0]));
    }
    return STATUS_OK;
}

static status_t mix_sources(struct sampler *s, const struct sampler_options *o)
{
    double *weights = malloc((size_t)o->n_sources * sizeof *weights);
    if (!weights)
        return status_set(STATUS_NOMEM, "no memory for %d data sources", o->n_sources);
    for (int k = 0; k < o->n_sources; k++) weights[k] = o->sources[k].weight;
    const status_t st = mixture_create(&s->mixture, weights, o->n_sources);
    free(weights);
    return st;
}

status_t sampler_create(struct sampler **s, const struct sampler_options *o)
{
    CHECK(o->T >= 1 && o->n_sources >= 1);
    *s = NULL;
    struct sampler *x = calloc(1, sizeof *x);
    if (x) x->files = calloc((size_t)o->n_sources, sizeof *x->files);
    if (!x || !x->files) {
        free(x);
        return status_set(STATUS_NOMEM, "no memory for %d data sources", o->n_sources);
    }
    x->T = o->T;
    x->seed = o->seed;
    x->shuffle = o->shuffle;
    x->document_mask = o->document_mask;
    x->repetition = o->repetition;
    x->n = o->n_sources;
    status_t st = open_sources(x, o);
    if (st == STATUS_OK) st = mix_sources(x, o);
    if (st == STATUS_OK)
        *s = x;
    else
        sampler_destroy(&x);
    return st;
}

void sampler_destroy(struct sampler **s)
{
    if (!*s) return;
    for (int k = 0; k < (*s)->n; k++) token_file_close(&(*s)->files[k]);
    free((*s)->files);
    mixture_destroy(&(*s)->mixture);
    free(*s);
    *s = NULL;
}

const struct token_file *sampler_file(const struct sampler *s, int source)
{
    CHECK(source >= 0 && source < s->n);
    return s->files[source];
}

int64_t sampler_windows(const struct sampler *s, int source)
{
    const struct token_file_info *i = token_file_info(sampler_file(s, source));
    return (i->row_tokens > 0 ? i->n_tokens : i->n_tokens - 1) / s->T;
}

int64_t sampler_total_windows(const struct sampler *s)
{
    int64_t total = 0;
    for (int k = 0; k < s->n; k++) total += sampler_windows(s, k);
    return total;
}

/* ---- which window ----------------------------------------------------------------------- */

int64_t sampler_window(const struct sampler *s, int64_t index, int *source)
{
    int64_t nth = 0;
    mixture_at(s->mixture, index, source, &nth);
    const int64_t windows = sampler_windows(s, *source);
    const int64_t epoch = nth / windows, drawn = nth % windows;
    if (!s->shuffle) return drawn;
    /* numbers, not paths: moving the files does not change the order */
    char name[64];
    snprintf(name, sizeof name, "%d/%lld", *source, (long long)epoch);
    const uint64_t key = rng_key(s->seed, "sampler", name);
    return (int64_t)rng_permute(key, (uint64_t)windows, (uint64_t)drawn);
}

/* ---- one sequence ----------------------------------------------------------------------- */

enum { BLOCK = 1024 };

struct window {
    const struct token_file *f;
    int64_t start, T; /* its first token in the file */
    bool is_row;      /* no token follows on the last: that has no target */
    int32_t *tokens, *targets, *positions, *doc_start; /* [T] */
};

static status_t read_window(const struct window *w)
{
    TRY(token_file_read(w->f, w->start, w->T, w->tokens));
    memcpy(w->targets, w->tokens + 1, (size_t)(w->T - 1) * sizeof *w->targets);
    w->targets[w->T - 1] = -1;
    return w->is_row ? STATUS_OK
                     : token_file_read(w->f, w->start + w->T, 1, w->targets + w->T - 1);
}

static void fill_plain(const struct window *w)
{
    for (int64_t t = 0; t < w->T; t++) {
        w->positions[t] = (int32_t)t;
        w->doc_start[t] = 0;
    }
}

/* targets[t] is token start + t + 1 of the file, and none if that begins another document. */
static status_t fill_documents(const struct window *w)
{
    int32_t ids[BLOCK + 1] = {w->tokens[0]};
    bool begins[BLOCK + 1];
    int64_t begin = 0; /* also for a document that began before the window */
    for (int64_t done = 0; done < w->T; done += BLOCK) {
        const int64_t n = w->T - done < BLOCK ? w->T - done : BLOCK;
        const bool ends = w->is_row && done + n == w->T;
        memcpy(ids + 1, w->targets + done, (size_t)n * sizeof *ids);
        TRY(token_file_begins(w->f, w->start + done, ends ? n : n + 1, ids, begins));
        if (ends) begins[n] = false; /* nothing follows in the row */
        for (int64_t t = done; t < done + n; t++) {
            w->doc_start[t] = (int32_t)begin;
            w->positions[t] = (int32_t)(t - begin);
            if (!begins[t - done + 1]) continue;
            w->targets[t] = -1;
            begin = t + 1;
        }
        ids[0] = ids[n];
    }
    return STATUS_OK;
}

static void apply_loss_mask(const struct window *w)
{
    unsigned char loss[BLOCK];
    const int64_t T = w->is_row ? w->T - 1 : w->T;
    for (int64_t done = 0; done < T; done += BLOCK) {
        const int64_t n = T - done < BLOCK ? T - done : BLOCK;
        token_file_loss(w->f, w->start + done + 1, n, loss);
        for (int64_t t = 0; t < n; t++)
            if (!loss[t]) w->targets[done + t] = -1;
    }
}

status_t sampler_fill(const struct sampler *s, int64_t index, struct batch *b,
                      int64_t row)
{
    const int64_t T = s->T;
    CHECK(b->T == T && row >= 0 && row < b->B);
    int source = 0;
    const int64_t start = sampler_window(s, index, &source) * T;
    const struct token_file_info *info = token_file_info(s->files[source]);
    const struct window w = {.f = s->files[source],
                             .start = start,
                             .T = T,
                             .is_row = info->row_tokens > 0,
                             .tokens = b->tokens + row * T,
                             .targets = b->targets + row * T,
                             .positions = b->positions + row * T,
                             .doc_start = b->doc_start + row * T};
    TRY(read_window(&w));
    if (s->document_mask)
        TRY(fill_documents(&w));
    else
        fill_plain(&w);
    if (info->has_loss_mask) apply_loss_mask(&w);
    if (!w.is_row && repetition_found(w.tokens, T, s->repetition)) /* rows are padded */
        memset(w.targets, 0xff, (size_t)T * sizeof *w.targets);    /* -1 */
    for (int64_t t = 0; t < T; t++) b->n_targets += w.targets[t] >= 0;
    return STATUS_OK;
}
