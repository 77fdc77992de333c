/* Rows in the order of questions and answers. */
#include <stdlib.h>
#include <string.h>

#include "data/task_impl.h"

static int compare(const void *a, const void *b)
{
    const struct task_row *x = a, *y = b;
    if (x->doc != y->doc) return x->doc < y->doc ? -1 : 1;
    if (x->idx != y->idx) return x->idx < y->idx ? -1 : 1;
    return x->line < y->line ? -1 : x->line > y->line;
}

static int64_t characters(const char *text)
{
    int64_t n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xC0) != 0x80;
    return n;
}

static status_t check_question(struct task_builder *b, const struct task_row *rows,
                               int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        b->line = rows[i].line;
        if (i > 0 && rows[i].idx == rows[i - 1].idx)
            return task_refuse(
                b, "idx %jd of doc_id %jd is also in line %jd; valid: each once",
                (intmax_t)rows[i].idx, (intmax_t)rows[i].doc, (intmax_t)rows[i - 1].line);
        if (rows[i].idx != i)
            return task_refuse(b,
                               "idx is %jd; valid: %jd, the first that doc_id %jd lacks",
                               (intmax_t)rows[i].idx, (intmax_t)i, (intmax_t)rows[i].doc);
        if (rows[i].label != rows[0].label)
            return task_refuse(
                b, "label is %jd; valid: %jd, as in line %jd of the same doc_id",
                (intmax_t)rows[i].label, (intmax_t)rows[0].label, (intmax_t)rows[0].line);
    }
    b->line = rows[0].line;
    if (rows[0].label < n) return STATUS_OK;
    return task_refuse(b, "label is %jd; valid: 0 to %jd, the answers of doc_id %jd",
                       (intmax_t)rows[0].label, (intmax_t)(n - 1), (intmax_t)rows[0].doc);
}

static status_t take_answer(struct task_builder *b, struct task_row *r)
{
    struct task *t = b->task;
    const char *text = r->continuation + (r->continuation[0] == ' ');
    b->line = r->line;
    if (!*text)
        return task_refuse(b, "the answer is empty; valid: some text behind one blank");
    t->answers[t->n_answers++] = (struct task_answer){.context = r->context,
                                                      .unconditional = -1,
                                                      .n_characters = characters(text),
                                                      .n_bytes = (int64_t)strlen(text),
                                                      .line = r->line,
                                                      .continuation = r->continuation};
    r->continuation = NULL;
    return STATUS_OK;
}

static status_t take_question(struct task_builder *b, struct task_row *rows, int64_t n)
{
    struct task *t = b->task;
    t->questions[t->n_questions++] = (struct task_question){
        .id = rows[0].doc, .label = rows[0].label, .first = t->n_answers, .n = n};
    for (int64_t i = 0; i < n; i++) TRY(take_answer(b, &rows[i]));
    return STATUS_OK;
}

static int compare_id(const void *id, const void *question)
{
    const int64_t a = *(const int64_t *)id,
                  b = ((const struct task_question *)question)->id;
    return a < b ? -1 : a > b;
}

/* The answers of a question without it; nothing if that question is not there. */
static status_t take_unconditional(struct task_builder *b, struct task_row *rows,
                                   int64_t n)
{
    struct task *t = b->task;
    const int64_t id = rows[0].doc - TASK_UNCONDITIONAL;
    const struct task_question *q =
        bsearch(&id, t->questions, (size_t)t->n_questions, sizeof *q, compare_id);
    if (!q) return STATUS_OK;
    b->line = rows[n - 1].line;
    if (n != q->n)
        return task_refuse(b, "doc_id %jd has %jd answers; valid: %jd, as doc_id %jd has",
                           (intmax_t)rows[0].doc, (intmax_t)n, (intmax_t)q->n,
                           (intmax_t)id);
    for (int64_t i = 0; i < n; i++) {
        t->answers[q->first + i].unconditional = t->n_answers;
        t->n_unconditional++;
        TRY(take_answer(b, &rows[i]));
    }
    return STATUS_OK;
}

status_t task_group(struct task_builder *b, int64_t limit)
{
    struct task *t = b->task;
    qsort(b->rows, (size_t)b->n_rows, sizeof *b->rows, compare);
    t->answers = calloc((size_t)b->n_rows, sizeof *t->answers);
    t->questions = calloc((size_t)b->n_rows, sizeof *t->questions);
    if (!t->answers || !t->questions)
        return status_set(STATUS_NOMEM, "%s: no memory for its questions", t->path);
    for (int64_t first = 0, end; first < b->n_rows; first = end) {
        struct task_row *rows = &b->rows[first];
        for (end = first + 1; end < b->n_rows && b->rows[end].doc == rows->doc;) end++;
        TRY(check_question(b, rows, end - first));
        if (b->by_doc && rows->doc >= TASK_UNCONDITIONAL)
            TRY(take_unconditional(b, rows, end - first));
        else if (limit == 0 || t->n_questions < limit)
            TRY(take_question(b, rows, end - first));
    }
    if (t->n_questions > 0) return STATUS_OK;
    return status_set(STATUS_DATA, "%s: holds no question, only answers without one",
                      t->path);
}
