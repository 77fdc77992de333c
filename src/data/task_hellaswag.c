/* A question of HellaSwag, as llm.c or as lm-evaluation-harness asks it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/task_impl.h"

/* ---- the words of lm-evaluation-harness -------------------------------------------------------- */

static void remove_bytes(char *at, size_t n)
{
    memmove(at, at + n, strlen(at + n) + 1);
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1C && c <= 0x1F);
}

/* As its `preprocess` does, in place: strip, " [title]" becomes ". ", what stands in brackets goes, two
 * blanks become one. */
static void clean(char *text)
{
    static const char title[] = " [title]";
    size_t n = strlen(text);
    while (n > 0 && is_space(text[n - 1])) text[--n] = '\0';
    while (is_space(*text)) remove_bytes(text, 1);
    for (char *p = text; (p = strstr(p, title)); p += 2) {
        memcpy(p, ". ", 2);
        remove_bytes(p + 2, sizeof title - 1 - 2);
    }
    for (char *p = text; (p = strchr(p, '['));) {
        const size_t inside = strcspn(p, "]\n");
        if (p[inside] == ']')
            remove_bytes(p, inside + 1);
        else
            p++;
    }
    for (char *p = text; (p = strstr(p, "  ")); p++) remove_bytes(p, 1);
}

/* The first letter large, the others small, as str.capitalize does. */
static void capitalise(char *text)
{
    for (char *p = text; *p; p++) {
        if (p == text && *p >= 'a' && *p <= 'z') *p = (char)(*p - 'a' + 'A');
        if (p != text && *p >= 'A' && *p <= 'Z') *p = (char)(*p - 'A' + 'a');
    }
}

static status_t add_query(struct task_builder *b, const json_t *line)
{
    const char *label, *a, *end;
    char *query = NULL, *tail;
    TRY(task_string(b, line, "activity_label", "activity_label", &label));
    TRY(task_string(b, line, "ctx_a", "ctx_a", &a));
    TRY(task_string(b, line, "ctx_b", "ctx_b", &end));
    tail = strdup(end);
    if (tail) capitalise(tail);
    if (!tail || asprintf(&query, "%s: %s %s", label, a, tail) < 0) {
        free(tail);
        return status_set(STATUS_NOMEM, "%s: no memory for a question", b->task->path);
    }
    clean(query);
    const status_t st = task_add_context(b, query);
    free(query);
    free(tail);
    return st;
}

/* ---- a line ------------------------------------------------------------------------------------ */

/* A number, or its digits as a string, as some copies of the data have it. */
static status_t read_label(const struct task_builder *b, const json_t *line, int64_t n,
                           int64_t *label)
{
    const json_t *v = json_object_get(line, "label");
    const char *text = json_string_value(v);
    *label = json_is_integer(v) ? json_integer_value(v)
             : text && text[0] >= '0' && text[0] <= '9' && !text[1] ? text[0] - '0'
                                                                    : -1;
    if (*label >= 0 && *label < n) return STATUS_OK;
    return task_refuse(b, "label is %s; valid: 0 to %jd, the number of the right ending",
                       task_show(v).text, (intmax_t)(n - 1));
}

static status_t add_ending(struct task_builder *b, const char *ending, int64_t idx,
                           int64_t label, enum task_hellaswag form)
{
    char *text = NULL;
    if (asprintf(&text, " %s", ending) < 0)
        return status_set(STATUS_NOMEM, "%s: no memory for an ending", b->task->path);
    if (form == TASK_HELLASWAG_LM_EVAL) clean(text + 1);
    const status_t st = task_add_row(b, b->line, idx, label, text);
    free(text);
    return st;
}

status_t task_read_hellaswag(struct task_builder *b, const json_t *line,
                             enum task_hellaswag form)
{
    const json_t *endings = json_object_get(line, "endings");
    const int64_t n = (int64_t)json_array_size(endings);
    int64_t label;
    if (!b->task->name && !(b->task->name = strdup("hellaswag")))
        return status_set(STATUS_NOMEM, "%s: no memory", b->task->path);
    if (n < 2)
        return task_refuse(b, "endings is %s; valid: a list of two or more strings",
                           task_show(endings).text);
    TRY(read_label(b, line, n, &label));
    if (form == TASK_HELLASWAG_LM_EVAL) {
        TRY(add_query(b, line));
    } else {
        const char *context;
        TRY(task_string(b, line, "ctx", "ctx", &context));
        TRY(task_add_context(b, context));
    }
    for (int64_t i = 0; i < n; i++) {
        const json_t *ending = json_array_get(endings, (size_t)i);
        if (!json_is_string(ending))
            return task_refuse(b, "endings[%jd] is %s; valid: a string", (intmax_t)i,
                               task_show(ending).text);
        TRY(add_ending(b, json_string_value(ending), i, label, form));
    }
    return STATUS_OK;
}
