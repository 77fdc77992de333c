/* score - how likely a model finds the answers of a task, and what that says of the model. */
#pragma once

#include "data/task_tokens.h"
#include "train/inference.h"

/* loglikelihood[tokens->n] = the sum of log p(token | what is before) over each answer's own tokens,
 * in nats; the same on all ranks.  `tokens` is packed into windows of the T that `i` has room for.
 * STATUS_NOMEM.  Collective on the world of `i`; agreed. */
MUST_USE status_t score_answers(double *loglikelihood, struct inference *i,
                                const struct task_tokens *tokens);

enum score_metric {
    SCORE_ACC,      /* share of questions whose right answer is the likeliest */
    SCORE_ACC_NORM, /* the same of log-likelihoods divided by task.length */
    SCORE_ACC_CHARACTER,
    SCORE_ACC_BYTE,
    SCORE_ACC_TOKEN,
    SCORE_ACC_UNCOND,    /* of those minus that of the answer without its question */
    SCORE_BITS_PER_BYTE, /* of the right answers, mean over questions */
    SCORE_CE_LOSS,       /* nats a character of the right answers, mean over questions */
    SCORE_METRICS
};
extern const char *const score_metric_name[SCORE_METRICS]; /* "acc", "acc_norm", ... */

/* The mean over questions and its standard error, sqrt(variance / n) with n - 1 in the variance
 * (sample_stddev and mean_stderr of lm-evaluation-harness, lm_eval/api/metrics.py): of accuracies
 * sqrt(p (1 - p) / (n - 1)).  NaN where there are too few questions; accuracies are over those of two
 * answers or more.  Names and definitions: acc_raw, acc_per_char, acc_per_token, acc_uncond of oe-eval
 * (the last is PMI_DC of Holtzman et al. 2021, arXiv:2104.08315, section 2.2); acc, len_norm (ours:
 * acc_per_character), bpb and ce_loss of ICLMetric in olmo/eval/downstream.py; acc and acc_norm of
 * lm-evaluation-harness; llm.c's acc_norm is acc_per_token. */
struct score {
    double value, standard_error;
};

void score_metrics(struct score scores[SCORE_METRICS], const struct task *t,
                   const struct task_tokens *tokens, const double *loglikelihood);

/* The number of the likeliest answer of a question, the first if there are several, by metric (an
 * accuracy). */
int64_t score_choice(enum score_metric metric, const struct task *t,
                     const struct task_tokens *tokens, const double *loglikelihood,
                     int64_t question);
