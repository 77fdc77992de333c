#include "data/task_tokens.h"

#include <stdlib.h>
#include <string.h>

/* ---- texts to tokens --------------------------------------------------------------------------- */

struct encoding {
    const struct task *task;
    const struct tokenizer *tokenizer;
    struct encoder *encoder;
    bool apart;
    int64_t max_positions;
};

/* Tokens of `text`, or of a document's end if there is none. */
static status_t encode_context(const struct encoding *e, const char *text, size_t bytes,
                               struct token_list *ids)
{
    TRY(encoder_encode(e->encoder, text, bytes, ids));
    if (ids->n > 0) return STATUS_OK;
    const int32_t eos = (int32_t)tokenizer_eos(e->tokenizer);
    if (eos >= 0) return token_list_append(ids, &eos, 1);
    return status_set(STATUS_DATA,
                      "the context is empty and the tokenizer has no end-of-document "
                      "token to begin with; valid: some text");
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* ids = context and continuation; *n_context of them are the context's. */
static status_t encode_both(const struct encoding *e, const char *context,
                            const char *continuation, struct token_list *ids,
                            int64_t *n_context)
{
    size_t bytes = strlen(context);
    if (e->apart) {
        TRY(encode_context(e, context, bytes, ids));
        *n_context = ids->n;
        return encoder_encode(e->encoder, continuation, strlen(continuation), ids);
    }
    while (bytes > 0 && is_space(context[bytes - 1])) bytes--;
    TRY(encode_context(e, context, bytes, ids));
    *n_context = ids->n;
    if (bytes > 0) ids->n = 0; /* else what begins the document stays */
    char *both = malloc(strlen(context) + strlen(continuation) + 1);
    if (!both) return status_set(STATUS_NOMEM, "no memory for an answer");
    strcpy(both, context);
    strcat(both, continuation);
    const status_t st = encoder_encode(e->encoder, both, strlen(both), ids);
    free(both);
    return st;
}

static status_t encode(const struct encoding *e, struct task_sequence *s,
                       const struct task_answer *a)
{
    int64_t n_context = 0;
    struct token_list *ids = &s->ids;
    TRY(encode_both(e, e->task->contexts[a->context], a->continuation, ids, &n_context));
    s->n_targets = ids->n - n_context;
    if (s->n_targets <= 0)
        return status_set(STATUS_DATA,
                          "the answer's text has no token of its own behind the "
                          "context's %jd",
                          (intmax_t)n_context);
    if (s->n_targets > e->max_positions)
        return status_set(
            STATUS_DATA,
            "the answer has %jd tokens; valid: up to %jd, the model's positions",
            (intmax_t)s->n_targets, (intmax_t)e->max_positions);
    const int64_t extra = ids->n - 1 - e->max_positions;
    s->cut = extra > 0;
    if (!s->cut) return STATUS_OK;
    ids->n -= extra;
    memmove(ids->ids, ids->ids + extra, (size_t)ids->n * sizeof *ids->ids);
    return STATUS_OK;
}

/* Every `step`th answer from `first` on; *failed: the first that cannot be, or left. */
static status_t encode_some(struct task_tokens *tokens, struct encoding e, int64_t first,
                            int64_t step, int64_t *failed)
{
    status_t st = encoder_create(&e.encoder, e.tokenizer);
    *failed = first;
    for (; st == STATUS_OK && *failed < tokens->n; *failed += step)
        st = encode(&e, &tokens->sequences[*failed], &e.task->answers[*failed]);
    if (st != STATUS_OK && *failed > first) *failed -= step;
    encoder_destroy(&e.encoder);
    return st;
}

/* On all threads; the sentence of the first answer that fails is made here again. */
static status_t encode_all(struct task_tokens *tokens, const struct encoding *e)
{
    enum { PARTS = 64 };
    int64_t worst = tokens->n, failed[PARTS];
    status_t st[PARTS];
#pragma omp parallel for schedule(dynamic, 1)
    for (int p = 0; p < PARTS; p++) st[p] = encode_some(tokens, *e, p, PARTS, &failed[p]);
    for (int p = 0; p < PARTS; p++)
        if (st[p] != STATUS_OK && failed[p] < worst) worst = failed[p];
    if (worst == tokens->n) return STATUS_OK;
    token_list_release(&tokens->sequences[worst].ids);
    return status_prefix(encode_some(tokens, *e, worst, tokens->n, &failed[0]), "%s:%jd",
                         e->task->path, (intmax_t)e->task->answers[worst].line);
}

status_t task_tokens_make(struct task_tokens *tokens, const struct task *t,
                          const struct tokenizer *tokenizer, enum task_encoding encoding,
                          int64_t max_positions)
{
    *tokens = (struct task_tokens){.n = t->n_answers};
    tokens->sequences = calloc((size_t)t->n_answers, sizeof *tokens->sequences);
    if (!tokens->sequences)
        return status_set(STATUS_NOMEM, "no memory for %jd answers",
                          (intmax_t)t->n_answers);
    const struct encoding e = {
        .task = t,
        .tokenizer = tokenizer,
        .apart = encoding == TASK_AS_CUSTOMARY ? t->apart : encoding == TASK_APART,
        .max_positions = max_positions};
    TRY(encode_all(tokens, &e));
    for (int64_t i = 0; i < tokens->n; i++) {
        tokens->n_cut += tokens->sequences[i].cut;
        tokens->n_tokens += tokens->sequences[i].ids.n - 1;
    }
    return STATUS_OK;
}

void task_tokens_release(struct task_tokens *tokens)
{
    for (int64_t i = 0; tokens->sequences && i < tokens->n; i++)
        token_list_release(&tokens->sequences[i].ids);
    free(tokens->sequences);
    *tokens = (struct task_tokens){0};
}
