/* task_tokens - the answers of a task as tokens, and their places in windows. */
#pragma once

#include "data/sampler.h"
#include "data/task.h"
#include "data/tokenizer.h"

/* How context and continuation become tokens. */
enum task_encoding {
    TASK_AS_CUSTOMARY, /* task.apart */
    /* The text of both at once; the continuation's tokens are those behind as many as the context
     * has by itself.  Blanks at the end of the context are the continuation's (_encode_pair of
     * lm-evaluation-harness, lm_eval/api/model.py). */
    TASK_WHOLE,
    TASK_APART /* each by itself (OLMo, llm.c) */
};

struct task_tokens {
    struct task_sequence {
        struct token_list ids; /* a model reads all but the last */
        int64_t n_targets;     /* the last ones of ids */
        bool cut;              /* the beginning is missing: there are too few positions */
        int64_t window, row;   /* where its first token is */
    } * sequences;             /* [task.n_answers] */
    int64_t n, n_windows, T;
    int64_t n_cut, n_tokens; /* tokens that a model reads */
};

/* Tokens of all answers, at most max_positions to be read, the last ones.  An empty context is the
 * end-of-document token.  STATUS_DATA names the line of an answer that has no token of its own or
 * more than max_positions; STATUS_NOMEM.  Release it also after a failure. */
MUST_USE status_t task_tokens_make(struct task_tokens *tokens, const struct task *t,
                                   const struct tokenizer *tokenizer,
                                   enum task_encoding encoding, int64_t max_positions);
void task_tokens_release(struct task_tokens *tokens);

int64_t task_tokens_longest(const struct task_tokens *tokens);

/* Give every sequence a place in windows of T tokens, T >= the longest: the longest first, each where
 * it leaves least room.  STATUS_NOMEM. */
MUST_USE status_t task_tokens_pack(struct task_tokens *tokens, int64_t T);

/* Windows [first, first + b->B) as rows of a batch; owner [B * T] says whose target a row is, -1:
 * none. */
void task_tokens_fill(const struct task_tokens *tokens, int64_t first, struct batch *b,
                      int32_t *owner);
