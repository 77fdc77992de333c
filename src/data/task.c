#include "data/task.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/task_impl.h"
#include "data/text.h"

/* ---- messages and members -------------------------------------------------------------------- */

status_t task_refuse(const struct task_builder *b, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return status_set(STATUS_DATA, "%s:%jd: %s", b->task->path, (intmax_t)b->line, text);
}

struct task_shown task_show(const json_t *value)
{
    struct task_shown s = {"missing"};
    if (!value) return s;
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_ENSURE_ASCII);
    const bool cut = text && strlen(text) >= sizeof s.text;
    snprintf(s.text, sizeof s.text, "%.*s%s",
             cut ? (int)sizeof s.text - 4 : (int)sizeof s.text, text ? text : "?",
             cut ? "..." : "");
    free(text);
    return s;
}

status_t task_string(const struct task_builder *b, const json_t *object, const char *key,
                     const char *name, const char **value)
{
    const json_t *v = json_object_get(object, key);
    *value = json_string_value(v);
    if (*value) return STATUS_OK;
    return task_refuse(b, "%s is %s; valid: a string", name, task_show(v).text);
}

status_t task_integer(const struct task_builder *b, const json_t *object, const char *key,
                      int64_t max, int64_t *value)
{
    const json_t *v = json_object_get(object, key);
    *value = json_is_integer(v) ? json_integer_value(v) : -1;
    if (*value >= 0 && *value <= max) return STATUS_OK;
    return task_refuse(b, "%s is %s; valid: a whole number from 0 to %jd", key,
                       task_show(v).text, (intmax_t)max);
}

/* ---- rows ------------------------------------------------------------------------------------- */

/* Room for one more element; NULL: none. */
static void *grow(void *list, int64_t n, int64_t *capacity, size_t element)
{
    if (n < *capacity) return list;
    const int64_t larger = *capacity > 0 ? 2 * *capacity : 1024;
    void *moved = realloc(list, (size_t)larger * element);
    if (moved) *capacity = larger;
    return moved;
}

static status_t no_memory(const struct task_builder *b)
{
    return status_set(STATUS_NOMEM, "%s: no memory for its questions", b->task->path);
}

status_t task_add_context(struct task_builder *b, const char *text)
{
    struct task *t = b->task;
    if (t->n_contexts > 0 && strcmp(t->contexts[t->n_contexts - 1], text) == 0)
        return STATUS_OK;
    char **list =
        grow(t->contexts, t->n_contexts, &b->context_capacity, sizeof *t->contexts);
    if (!list) return no_memory(b);
    t->contexts = list;
    t->contexts[t->n_contexts] = strdup(text);
    return t->contexts[t->n_contexts++] ? STATUS_OK : no_memory(b);
}

status_t task_add_row(struct task_builder *b, int64_t doc, int64_t idx, int64_t label,
                      const char *continuation)
{
    struct task_row *list = grow(b->rows, b->n_rows, &b->row_capacity, sizeof *b->rows);
    if (!list) return no_memory(b);
    b->rows = list;
    struct task_row *r = &b->rows[b->n_rows++];
    *r = (struct task_row){.doc = doc,
                           .idx = idx,
                           .label = label,
                           .context = b->task->n_contexts - 1,
                           .line = b->line,
                           .continuation = strdup(continuation)};
    return r->continuation ? STATUS_OK : no_memory(b);
}

/* ---- the file --------------------------------------------------------------------------------- */

enum form { FORM_UNKNOWN, FORM_REQUESTS, FORM_HELLASWAG };

static status_t read_line(struct task_builder *b, enum form *form,
                          enum task_hellaswag hellaswag, const struct text_document *d)
{
    json_error_t error;
    b->line = d->line;
    json_t *line = json_loadb(d->text, d->bytes, JSON_DECODE_ANY, &error);
    if (!line) return task_refuse(b, "is not JSON: %s", error.text);
    status_t st;
    if (*form == FORM_UNKNOWN && json_object_get(line, "request_type"))
        *form = FORM_REQUESTS;
    else if (*form == FORM_UNKNOWN && json_object_get(line, "endings"))
        *form = FORM_HELLASWAG;
    if (!json_is_object(line))
        st = task_refuse(b, "is %s; valid: an object", task_show(line).text);
    else if (*form == FORM_UNKNOWN)
        st = task_refuse(
            b, "has neither \"request_type\" (a request for a log-likelihood) nor "
               "\"endings\" (a question of HellaSwag)");
    else if (*form == FORM_REQUESTS)
        st = task_read_request(b, line);
    else
        st = task_read_hellaswag(b, line, hellaswag);
    json_decref(line);
    return st;
}

static status_t read_lines(struct task_builder *b, struct text_reader *text,
                           enum task_hellaswag hellaswag)
{
    enum form form = FORM_UNKNOWN;
    struct text_document d;
    for (;;) {
        TRY(text_next(text, &d));
        if (!d.text) break;
        TRY(read_line(b, &form, hellaswag, &d));
    }
    if (b->n_rows == 0)
        return status_set(STATUS_DATA, "%s: holds no question", b->task->path);
    b->by_doc = form == FORM_REQUESTS;
    if (b->by_doc) return STATUS_OK;
    b->task->apart = hellaswag == TASK_HELLASWAG_LLM_C;
    b->task->length = hellaswag == TASK_HELLASWAG_LLM_C ? TASK_TOKENS : TASK_CHARACTERS;
    return STATUS_OK;
}

status_t task_read(struct task *t, const char *path, enum task_hellaswag form,
                   int64_t limit)
{
    *t = (struct task){0};
    struct task_builder b = {.task = t};
    struct text_reader *text = NULL;
    const struct text_options o = {.lines = true};
    if (!text_is_jsonl(path))
        return status_set(
            STATUS_DATA,
            "%s: is not named as JSONL; valid: .jsonl, .jsonl.gz, .jsonl.zst", path);
    t->path = strdup(path);
    if (!t->path) return status_set(STATUS_NOMEM, "%s: no memory", path);
    status_t st = text_open(&text, &path, 1, &o);
    if (st == STATUS_OK) st = read_lines(&b, text, form);
    text_close(&text);
    if (st == STATUS_OK) st = task_group(&b, limit);
    for (int64_t i = 0; i < b.n_rows; i++) free(b.rows[i].continuation);
    free(b.rows);
    return st;
}

void task_release(struct task *t)
{
    for (int64_t i = 0; i < t->n_contexts; i++) free(t->contexts[i]);
    for (int64_t i = 0; i < t->n_answers; i++) free(t->answers[i].continuation);
    free(t->contexts);
    free(t->answers);
    free(t->questions);
    free(t->name);
    free(t->path);
    *t = (struct task){0};
}
