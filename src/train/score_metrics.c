#include <math.h>

#include "train/score.h"

const char *const score_metric_name[SCORE_METRICS] = {
    [SCORE_ACC] = "acc",
    [SCORE_ACC_NORM] = "acc_norm",
    [SCORE_ACC_CHARACTER] = "acc_per_character",
    [SCORE_ACC_BYTE] = "acc_per_byte",
    [SCORE_ACC_TOKEN] = "acc_per_token",
    [SCORE_ACC_UNCOND] = "acc_uncond",
    [SCORE_BITS_PER_BYTE] = "bits_per_byte",
    [SCORE_CE_LOSS] = "ce_loss"};

static double length(enum score_metric metric, const struct task *t,
                     const struct task_tokens *tokens, int64_t answer)
{
    static const enum score_metric customary[] = {[TASK_CHARACTERS] = SCORE_ACC_CHARACTER,
                                                  [TASK_BYTES] = SCORE_ACC_BYTE,
                                                  [TASK_TOKENS] = SCORE_ACC_TOKEN};
    switch (metric == SCORE_ACC_NORM ? customary[t->length] : metric) {
    case SCORE_ACC_CHARACTER:
    case SCORE_CE_LOSS:
        return (double)t->answers[answer].n_characters;
    case SCORE_ACC_BYTE:
    case SCORE_BITS_PER_BYTE:
        return (double)t->answers[answer].n_bytes;
    case SCORE_ACC_TOKEN:
        return (double)tokens->sequences[answer].n_targets;
    default:
        return 1;
    }
}

/* What the answers of a question are compared by. */
static double merit(enum score_metric metric, const struct task *t,
                    const struct task_tokens *tokens, const double *loglikelihood,
                    int64_t answer)
{
    if (metric == SCORE_ACC_UNCOND)
        return loglikelihood[answer] - loglikelihood[t->answers[answer].unconditional];
    return loglikelihood[answer] / length(metric, t, tokens, answer);
}

int64_t score_choice(enum score_metric metric, const struct task *t,
                     const struct task_tokens *tokens, const double *loglikelihood,
                     int64_t question)
{
    const struct task_question *q = &t->questions[question];
    int64_t best = 0;
    double most = 0;
    for (int64_t k = 0; k < q->n; k++) {
        const double x = merit(metric, t, tokens, loglikelihood, q->first + k);
        if (k > 0 && !(x > most)) continue;
        best = k;
        most = x;
    }
    return best;
}

/* One question's value; false: it does not count. */
static bool value_of(double *x, enum score_metric metric, const struct task *t,
                     const struct task_tokens *tokens, const double *loglikelihood,
                     int64_t question)
{
    const struct task_question *q = &t->questions[question];
    const int64_t right = q->first + q->label;
    if (metric == SCORE_BITS_PER_BYTE || metric == SCORE_CE_LOSS) {
        const double loss = -merit(metric, t, tokens, loglikelihood, right);
        *x = metric == SCORE_CE_LOSS ? loss : loss / M_LN2;
        return true;
    }
    if (metric == SCORE_ACC_UNCOND && t->answers[q->first].unconditional < 0)
        return false;
    *x = score_choice(metric, t, tokens, loglikelihood, question) == q->label;
    return q->n > 1;
}

static struct score mean(enum score_metric metric, const struct task *t,
                         const struct task_tokens *tokens, const double *loglikelihood)
{
    double sum = 0, squares = 0, n = 0, x;
    for (int64_t q = 0; q < t->n_questions; q++) {
        if (!value_of(&x, metric, t, tokens, loglikelihood, q)) continue;
        sum += x;
        n++;
    }
    for (int64_t q = 0; q < t->n_questions; q++)
        if (value_of(&x, metric, t, tokens, loglikelihood, q))
            squares += (x - sum / n) * (x - sum / n);
    return (struct score){.value = n > 0 ? sum / n : (double)NAN,
                          .standard_error =
                              n > 1 ? sqrt(squares / (n - 1) / n) : (double)NAN};
}

void score_metrics(struct score scores[SCORE_METRICS], const struct task *t,
                   const struct task_tokens *tokens, const double *loglikelihood)
{
    for (int m = 0; m < SCORE_METRICS; m++)
        scores[m] = mean((enum score_metric)m, t, tokens, loglikelihood);
}
