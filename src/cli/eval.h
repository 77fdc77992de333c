/* eval - what the forms of yoke eval share. */
#pragma once

#include "data/task_tokens.h"
#include "parallel/comm/comm.h"
#include "train/inference.h"

enum { EVAL_MAX_OVERRIDES = 256 };

struct eval_arguments {
    const char *path;
    const char *data; /* token file; NULL: that of the run */
    int64_t sequences, batch, threads;
    const char *task, *tokenizer, *json, *details; /* files; NULL: not given */
    int hellaswag;                                 /* enum task_hellaswag */
    int encoding;                                  /* enum task_encoding */
    int64_t limit, window;
    const char *task_only, *loss_only; /* an option given for that form; NULL: none */
    const char *overrides[EVAL_MAX_OVERRIDES];
    int n_overrides;
    char named[8][256]; /* overrides that are options of their own */
};

/* Loss of token files.  `i` is open, not loaded.  Collective on world; agreed. */
MUST_USE status_t eval_loss(struct inference *i, struct comm *world,
                            const struct eval_arguments *a);

/* Multiple-choice questions.  The same. */
MUST_USE status_t eval_task(struct inference *i, struct comm *world,
                            const struct eval_arguments *a);
