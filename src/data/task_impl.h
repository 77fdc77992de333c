/* task_impl - lines become rows, rows become questions; for task*.c only. */
#pragma once

#include <jansson.h>

#include "data/task.h"

/* What is added to the doc_id of a question for its answers without it. */
enum { TASK_UNCONDITIONAL = 1000000 };

/* One answer as a line gave it. */
struct task_row {
    int64_t doc, idx, label, context, line;
    char *continuation;
};

struct task_builder {
    struct task *task;
    struct task_row *rows;
    int64_t n_rows, row_capacity, context_capacity, line;
    bool by_doc; /* the rows' doc is a doc_id, else the number of a line */
};

/* "PATH:LINE: " in front of the sentence. */
status_t task_refuse(const struct task_builder *b, const char *fmt, ...)
    PRINTF_LIKE(2, 3);

/* The member `key` of an object; `name` stands in messages. */
MUST_USE status_t task_string(const struct task_builder *b, const json_t *object,
                              const char *key, const char *name, const char **value);
MUST_USE status_t task_integer(const struct task_builder *b, const json_t *object,
                               const char *key, int64_t max, int64_t *value);
/* What a value is, for messages: short, on one line. */
struct task_shown {
    char text[64];
};
struct task_shown task_show(const json_t *value);

/* Both copy.  A context equal to the last one is kept once. */
MUST_USE status_t task_add_context(struct task_builder *b, const char *text);
MUST_USE status_t task_add_row(struct task_builder *b, int64_t doc, int64_t idx,
                               int64_t label, const char *continuation);

/* One line's object of each form. */
MUST_USE status_t task_read_request(struct task_builder *b, const json_t *line);
MUST_USE status_t task_read_hellaswag(struct task_builder *b, const json_t *line,
                                      enum task_hellaswag form);

/* Rows into questions and answers.  Takes the rows' texts. */
MUST_USE status_t task_group(struct task_builder *b, int64_t limit);
