/* A request for the log-likelihood of a continuation. */
#include <stdlib.h>
#include <string.h>

#include "data/task_impl.h"

enum { MAX_ANSWERS = 1 << 16 };

/* All lines are of one task. */
static status_t check_task(struct task_builder *b, const json_t *line)
{
    struct task *t = b->task;
    const char *name;
    TRY(task_string(b, line, "task_name", "task_name", &name));
    if (!t->name) {
        t->name = strdup(name);
        return t->name ? STATUS_OK : status_set(STATUS_NOMEM, "%s: no memory", t->path);
    }
    if (strcmp(t->name, name) == 0) return STATUS_OK;
    return task_refuse(b,
                       "task_name is \"%.60s\"; valid: \"%.60s\", as in the lines before",
                       name, t->name);
}

status_t task_read_request(struct task_builder *b, const json_t *line)
{
    int64_t doc, idx, label;
    const char *type, *context, *continuation;
    TRY(task_string(b, line, "request_type", "request_type", &type));
    if (strcmp(type, "loglikelihood") != 0)
        return task_refuse(b, "request_type is \"%.60s\"; valid: \"loglikelihood\"",
                           type);
    TRY(check_task(b, line));
    TRY(task_integer(b, line, "doc_id", 2 * TASK_UNCONDITIONAL - 1, &doc));
    TRY(task_integer(b, line, "idx", MAX_ANSWERS - 1, &idx));
    TRY(task_integer(b, line, "label", MAX_ANSWERS - 1, &label));
    const json_t *request = json_object_get(line, "request");
    if (!json_is_object(request))
        return task_refuse(b, "request is %s; valid: an object", task_show(request).text);
    TRY(task_string(b, request, "context", "request.context", &context));
    TRY(task_string(b, request, "continuation", "request.continuation", &continuation));
    TRY(task_add_context(b, context));
    return task_add_row(b, doc, idx, label, continuation);
}
