/* Sequences in windows: none is padded to the length of another, and a row sees its own sequence
 * only. */
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "data/task_tokens.h"

/* Rows that a sequence takes: the last token is only a target. */
static int64_t rows_of(const struct task_sequence *s)
{
    return s->ids.n - 1;
}

int64_t task_tokens_longest(const struct task_tokens *tokens)
{
    int64_t longest = 0;
    for (int64_t i = 0; i < tokens->n; i++)
        if (rows_of(&tokens->sequences[i]) > longest)
            longest = rows_of(&tokens->sequences[i]);
    return longest;
}

/* Lists of numbers by a key in [0, T], each in one place of `next`; -1 ends a list. */
struct lists {
    int64_t *head, *next;
};

static void push(struct lists *l, int64_t key, int64_t number)
{
    l->next[number] = l->head[key];
    l->head[key] = number;
}

static int64_t pop(struct lists *l, int64_t key)
{
    const int64_t number = l->head[key];
    l->head[key] = l->next[number];
    return number;
}

static void place(struct task_tokens *tokens, struct lists *windows, int64_t i)
{
    struct task_sequence *s = &tokens->sequences[i];
    const int64_t n = rows_of(s), T = tokens->T;
    int64_t room = n;
    while (room <= T && windows->head[room] < 0) room++;
    s->window = room <= T ? pop(windows, room) : tokens->n_windows++;
    if (room > T) room = T;
    s->row = T - room;
    push(windows, room - n, s->window);
}

status_t task_tokens_pack(struct task_tokens *tokens, int64_t T)
{
    const int64_t n = tokens->n;
    CHECK(task_tokens_longest(tokens) <= T);
    int64_t *memory = malloc((size_t)(2 * (T + 1) + 2 * n) * sizeof *memory);
    if (!memory)
        return status_set(STATUS_NOMEM, "no memory for windows of %jd", (intmax_t)T);
    struct lists lengths = {memory, memory + 2 * (T + 1)};
    struct lists windows = {memory + T + 1, lengths.next + n};
    memset(memory, 0xff, (size_t)(2 * (T + 1)) * sizeof *memory); /* -1 */
    tokens->T = T;
    tokens->n_windows = 0;
    for (int64_t i = n - 1; i >= 0; i--)
        push(&lengths, rows_of(&tokens->sequences[i]), i);
    for (int64_t length = T; length > 0; length--)
        while (lengths.head[length] >= 0) place(tokens, &windows, pop(&lengths, length));
    free(memory);
    return STATUS_OK;
}

static void fill_sequence(const struct task_sequence *s, struct batch *b, int64_t window,
                          int32_t *owner, int64_t number)
{
    const int64_t n = rows_of(s), at = window * b->T + s->row;
    memcpy(b->tokens + at, s->ids.ids, (size_t)n * sizeof *b->tokens);
    for (int64_t k = 0; k < n; k++) {
        const bool is_target = k >= n - s->n_targets;
        b->targets[at + k] = is_target ? s->ids.ids[k + 1] : -1;
        owner[at + k] = is_target ? (int32_t)number : -1;
        b->positions[at + k] = (int32_t)k;
        b->doc_start[at + k] = (int32_t)s->row;
    }
}

void task_tokens_fill(const struct task_tokens *tokens, int64_t first, struct batch *b,
                      int32_t *owner)
{
    CHECK(b->T == tokens->T);
    for (int64_t k = 0; k < b->B * b->T; k++) { /* what no sequence fills: one row each */
        b->tokens[k] = b->positions[k] = 0;
        b->targets[k] = owner[k] = -1;
        b->doc_start[k] = (int32_t)(k % b->T);
    }
    for (int64_t i = 0; i < tokens->n; i++) {
        const struct task_sequence *s = &tokens->sequences[i];
        if (s->window >= first && s->window < first + b->B)
            fill_sequence(s, b, s->window - first, owner, i);
    }
}
