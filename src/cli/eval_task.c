/* Multiple-choice questions: read, asked, counted, told. */
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <jansson.h>

#include "cli/eval.h"
#include "core/clock.h"
#include "core/file.h"
#include "core/log.h"
#include "train/score.h"

static const char *const length_name[] = {
    [TASK_CHARACTERS] = "character", [TASK_BYTES] = "byte", [TASK_TOKENS] = "token"};

/* What there is to tell in the end. */
struct result {
    const struct eval_arguments *a;
    struct task task;
    struct task_tokens tokens;
    double *loglikelihood; /* [answers] */
    struct score scores[SCORE_METRICS];
    double seconds;
};

/* ---- before --------------------------------------------------------------------------------- */

/* Can a file be made there?  Better known before the work than after. */
static status_t check_output(const char *option, const char *path)
{
    char folder[PATH_MAX];
    if (!path) return STATUS_OK;
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder] = '\0';
    else
        snprintf(folder, sizeof folder, ".");
    if (file_is_dir(path))
        return status_set(STATUS_IO, "%s: %s is a folder", option, path);
    if (access(folder, W_OK) == 0) return STATUS_OK;
    return status_set(STATUS_IO, "%s: cannot write into %s: %s", option, folder,
                      strerror(errno));
}

static status_t prepare(struct result *r, const struct inference *i)
{
    const struct eval_arguments *a = r->a;
    struct tokenizer *t = NULL;
    TRY(check_output("--json", a->json));
    TRY(check_output("--details", a->details));
    TRY(task_read(&r->task, a->task, (enum task_hellaswag)a->hellaswag, a->limit));
    TRY(a->tokenizer ? tokenizer_open(&t, a->tokenizer)
                     : inference_tokenizer_open(&t, i));
    status_t st = STATUS_OK;
    if (tokenizer_vocab_size(t) > i->config.arch.vocab_size)
        st = status_set(STATUS_DATA, "the tokenizer has %jd tokens, the model %jd",
                        (intmax_t)tokenizer_vocab_size(t),
                        (intmax_t)i->config.arch.vocab_size);
    if (st == STATUS_OK)
        st = task_tokens_make(&r->tokens, &r->task, t, (enum task_encoding)a->encoding,
                              i->config.arch.max_positions);
    tokenizer_close(&t);
    if (st != STATUS_OK) return st;
    const int64_t longest = task_tokens_longest(&r->tokens);
    TRY(task_tokens_pack(&r->tokens, longest > a->window ? longest : a->window));
    r->loglikelihood = calloc((size_t)r->tokens.n, sizeof *r->loglikelihood);
    return r->loglikelihood ? STATUS_OK
                            : status_set(STATUS_NOMEM, "no memory for answers");
}

/* ---- after ---------------------------------------------------------------------------------- */

static void print(const struct result *r)
{
    const struct task *t = &r->task;
    printf(
        "task %s: %jd questions, %jd answers, %jd without their question; %jd cut at the "
        "model's positions\n",
        t->name, (intmax_t)t->n_questions, (intmax_t)(t->n_answers - t->n_unconditional),
        (intmax_t)t->n_unconditional, (intmax_t)r->tokens.n_cut);
    printf("%-18s %8s %8s\n", "", "value", "stderr");
    for (int m = 0; m < SCORE_METRICS; m++) {
        const struct score s = r->scores[m];
        char error[32] = "-";
        if (!isnan(s.standard_error))
            snprintf(error, sizeof error, "%.4f", s.standard_error);
        if (isnan(s.value)) continue;
        printf("%-18s %8.4f %8s", score_metric_name[m], s.value, error);
        if (m == SCORE_ACC_NORM) printf("  per %s", length_name[t->length]);
        putchar('\n');
    }
}

static json_t *number(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

static json_t *metrics_json(const struct result *r)
{
    json_t *all = json_object();
    for (int m = 0; m < SCORE_METRICS; m++)
        json_object_set_new(all, score_metric_name[m],
                            json_pack("{s:o, s:o}", "value", number(r->scores[m].value),
                                      "stderr", number(r->scores[m].standard_error)));
    return all;
}

/* Takes the object. */
static status_t write_json(const char *path, json_t *object)
{
    char *text =
        object ? json_dumps(object, JSON_INDENT(1) | JSON_REAL_PRECISION(12)) : NULL;
    json_decref(object);
    if (!text)
        return status_set(STATUS_NOMEM, "%s: cannot be made (is every name UTF-8?)",
                          path);
    const status_t st = file_replace(path, text, strlen(text));
    free(text);
    return st;
}

static status_t write_summary(const struct result *r, const struct inference *i)
{
    const struct task *t = &r->task;
    return write_json(
        r->a->json,
        json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:s, s:o}", "checkpoint",
                  checkpoint_path(i->checkpoint), "task", t->name, "file", t->path,
                  "questions", (json_int_t)t->n_questions, "answers",
                  (json_int_t)(t->n_answers - t->n_unconditional), "cut",
                  (json_int_t)r->tokens.n_cut, "unconditional",
                  (json_int_t)t->n_unconditional, "tokens",
                  (json_int_t)r->tokens.n_tokens, "seconds", r->seconds,
                  "acc_norm_length", length_name[t->length], "metrics", metrics_json(r)));
}

static void detail(FILE *f, const struct result *r, int64_t question)
{
    const struct task *t = &r->task;
    const struct task_question *q = &t->questions[question];
    fprintf(f, "{\"id\": %jd, \"label\": %jd", (intmax_t)q->id, (intmax_t)q->label);
    for (int m = 0; m <= SCORE_ACC_NORM; m++)
        fprintf(f, ", \"%s\": %jd", m == SCORE_ACC ? "choice" : "choice_norm",
                (intmax_t)score_choice((enum score_metric)m, t, &r->tokens,
                                       r->loglikelihood, question));
    fprintf(f, ", \"answers\": [");
    for (int64_t a = q->first; a < q->first + q->n; a++) {
        const int64_t without = t->answers[a].unconditional;
        fprintf(f,
                "%s{\"loglikelihood\": %.9g, \"tokens\": %jd, \"characters\": %jd, "
                "\"bytes\": %jd, \"cut\": %s",
                a > q->first ? ", " : "", r->loglikelihood[a],
                (intmax_t)r->tokens.sequences[a].n_targets,
                (intmax_t)t->answers[a].n_characters, (intmax_t)t->answers[a].n_bytes,
                r->tokens.sequences[a].cut ? "true" : "false");
        if (without >= 0)
            fprintf(f, ", \"unconditional\": %.9g", r->loglikelihood[without]);
        fputc('}', f);
    }
    fprintf(f, "]}\n");
}

static status_t write_details(const struct result *r)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *f = open_memstream(&text, &bytes);
    if (!f) return status_set(STATUS_NOMEM, "no memory for the details");
    for (int64_t q = 0; q < r->task.n_questions; q++) detail(f, r, q);
    status_t st = fclose(f) == 0 ? STATUS_OK : status_set(STATUS_NOMEM, "no memory");
    if (st == STATUS_OK) st = file_replace(r->a->details, text, bytes);
    free(text);
    return st;
}

static status_t tell(const struct result *r, const struct inference *i)
{
    log_info("evaluation: %jd tokens in %jd windows of %jd, %.1f s, %.0f tokens/s",
             (intmax_t)r->tokens.n_tokens, (intmax_t)r->tokens.n_windows,
             (intmax_t)r->tokens.T, r->seconds, (double)r->tokens.n_tokens / r->seconds);
    print(r);
    if (r->a->json) TRY(write_summary(r, i));
    return r->a->details ? write_details(r) : STATUS_OK;
}

status_t eval_task(struct inference *i, struct comm *world,
                   const struct eval_arguments *a)
{
    struct result r = {.a = a};
    status_t st = comm_agree(world, prepare(&r, i));
    const struct inference_room room = {
        .max_B = a->batch, .T = r.tokens.T, .documents = true};
    if (st == STATUS_OK) st = inference_load(i, &room);
    const double start = clock_seconds();
    if (st == STATUS_OK) st = score_answers(r.loglikelihood, i, &r.tokens);
    r.seconds = clock_seconds() - start;
    if (st == STATUS_OK) {
        score_metrics(r.scores, &r.task, &r.tokens, r.loglikelihood);
        st = comm_agree(world, comm_rank(world) == 0 ? tell(&r, i) : STATUS_OK);
    }
    free(r.loglikelihood);
    task_tokens_release(&r.tokens);
    task_release(&r.task);
    return st;
}
