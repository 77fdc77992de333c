/* Any bytes as a file of questions: refused with one line, or questions whose answers are where they say.
 * The first byte says how questions of HellaSwag are put. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/task.h"
#include "fuzz.h"

static char path[64];

static void clean_up(void)
{
    unlink(path);
}

static void write_file(const uint8_t *data, size_t n)
{
    if (!path[0]) {
        snprintf(path, sizeof path, "%s/yoke-fuzz-%d.jsonl",
                 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (int)getpid());
        atexit(clean_up);
    }
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f) != 0) abort();
}

static void check(const struct task *t)
{
    int64_t answers = 0;
    CHECK(t->n_questions > 0 && t->name);
    for (int64_t q = 0; q < t->n_questions; q++) {
        const struct task_question *x = &t->questions[q];
        CHECK(x->n > 0 && x->first == answers && x->label >= 0 && x->label < x->n);
        answers += x->n;
    }
    CHECK(answers + t->n_unconditional == t->n_answers);
    for (int64_t i = 0; i < t->n_answers; i++) {
        const struct task_answer *a = &t->answers[i];
        CHECK(a->context >= 0 && a->context < t->n_contexts && t->contexts[a->context]);
        CHECK(a->continuation && a->n_bytes > 0 && a->n_characters <= a->n_bytes);
        CHECK(a->unconditional == -1 ||
              (a->unconditional >= answers && a->unconditional < t->n_answers));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_begin();
    struct task t;
    if (size == 0) return 0;
    write_file(data + 1, size - 1);
    const enum task_hellaswag form =
        data[0] % 2 ? TASK_HELLASWAG_LM_EVAL : TASK_HELLASWAG_LLM_C;
    if (task_read(&t, path, form, data[0] / 2 % 4) == STATUS_OK)
        check(&t);
    else
        fuzz_check_refusal();
    task_release(&t);
    return 0;
}
