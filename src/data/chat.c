/* Messages through a template into tokens, and which of them are to be predicted.
 *
 * Between two special tokens there is one text, which is encoded as a whole, as published
 * tokenizers do it: "assistant\n" and an answer that begins with a line feed may share a token.  A
 * token is to be predicted if any byte of it is. */
#include "data/chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "data/chat_impl.h"

struct chat {
    const struct tokenizer *tokenizer;
    const struct chat_template *template;
    enum chat_loss loss_on;
    struct encoder *encoder;
    struct chat_messages messages;
    int32_t begin, turn, role, end; /* ids of the template's tokens, -1: it has none */

    /* during chat_encode */
    struct token_list *ids, *loss;
    int64_t text_bytes;
    char *text; /* since the last special token */
    size_t n, capacity;
    size_t loss_from; /* from there on it is to be predicted; SIZE_MAX: nothing */
};

static status_t add_text(struct chat *c, const char *text, size_t bytes)
{
    if (c->n + bytes > c->capacity) {
        const size_t larger = c->n + bytes + c->capacity;
        char *room = realloc(c->text, larger);
        if (!room)
            return status_set(STATUS_NOMEM, "no memory for a text of %zu bytes", larger);
        c->text = room;
        c->capacity = larger;
    }
    if (bytes > 0) memcpy(c->text + c->n, text, bytes);
    c->n += bytes;
    c->text_bytes += (int64_t)bytes;
    return STATUS_OK;
}

/* ---- tokens of the template ------------------------------------------------------------- */

/* A token that text can make would let a content end its turn. */
static status_t check_not_text(struct chat *c, const char *token, int32_t id)
{
    struct token_list ids = {0};
    status_t st = encoder_encode_text(c->encoder, token, strlen(token), &ids);
    if (st == STATUS_OK && ids.n == 1 && ids.ids[0] == id)
        st = status_set(STATUS_DATA,
                        "template %s needs %s, which is not a special token of the "
                        "tokenizer: text could end a turn with it",
                        c->template->name, token);
    token_list_release(&ids);
    return st;
}

/* Texts are encoded one by one, so the token must take nothing of those around it, and be found next
 * to any. */
static status_t check_alone(struct chat *c, const char *token, int32_t id)
{
    static const char *const around[] = {"\n", "a"};
    struct token_list whole = {0}, side = {0};
    status_t st = STATUS_OK;
    for (int i = 0; i < 2 && st == STATUS_OK; i++) {
        whole.n = side.n = 0;
        c->n = 0;
        st = add_text(c, around[i], 1);
        if (st == STATUS_OK) st = add_text(c, token, strlen(token));
        if (st == STATUS_OK) st = add_text(c, around[i], 1);
        if (st == STATUS_OK) st = encoder_encode(c->encoder, c->text, c->n, &whole);
        if (st == STATUS_OK) st = encoder_encode(c->encoder, around[i], 1, &side);
        if (st == STATUS_OK && (whole.n != 2 * side.n + 1 || whole.ids[side.n] != id))
            st = status_set(
                STATUS_DATA,
                "template %s needs %s as it stands, and the tokenizer looks at "
                "what is around it (lstrip, rstrip or single_word)",
                c->template->name, token);
    }
    token_list_release(&whole);
    token_list_release(&side);
    return st;
}

static status_t find_token(struct chat *c, const char *token, int32_t *id)
{
    *id = -1;
    if (!token) return STATUS_OK;
    *id = (int32_t)tokenizer_id(c->tokenizer, token);
    if (*id < 0)
        return status_set(STATUS_DATA,
                          "template %s needs the token %s, which the tokenizer does not "
                          "have",
                          c->template->name, token);
    TRY(check_not_text(c, token, *id));
    return check_alone(c, token, *id);
}

static status_t find_tokens(struct chat *c)
{
    const struct chat_template *t = c->template;
    TRY(find_token(c, t->begin_token, &c->begin));
    TRY(find_token(c, t->turn_token, &c->turn));
    TRY(find_token(c, t->role_token, &c->role));
    return find_token(c, t->end_token, &c->end);
}

/* `st`, which find_tokens left with, and the templates that the tokenizer has all tokens of. */
static status_t add_fitting(struct chat *c, status_t st)
{
    char why[1024], fitting[256] = "";
    snprintf(why, sizeof why, "%s", status_message());
    for (int i = 0; i < CHAT_TEMPLATES; i++) {
        const size_t n = strlen(fitting);
        c->template = &chat_template_table[i];
        if (find_tokens(c) == STATUS_OK)
            snprintf(fitting + n, sizeof fitting - n, "%s%s", n ? ", " : "",
                     c->template->name);
    }
    return status_set(st, "%s (this tokenizer can do: %s)", why,
                      fitting[0] ? fitting : "none of them");
}

status_t chat_create(struct chat **c, const struct tokenizer *t,
                     const struct chat_template *template, enum chat_loss loss)
{
    *c = NULL;
    struct chat *x = calloc(1, sizeof *x);
    if (!x) return status_set(STATUS_NOMEM, "no memory for conversations");
    x->tokenizer = t;
    x->template = template;
    x->loss_on = loss;
    status_t st = encoder_create(&x->encoder, t);
    if (st == STATUS_OK) st = find_tokens(x);
    if (st == STATUS_DATA) st = add_fitting(x, st);
    if (st == STATUS_OK)
        *c = x;
    else
        chat_destroy(&x);
    return st;
}

void chat_destroy(struct chat **c)
{
    if (!*c) return;
    chat_messages_release(&(*c)->messages);
    encoder_destroy(&(*c)->encoder);
    free((*c)->text);
    free(*c);
    *c = NULL;
}

int32_t chat_end(const struct chat *c)
{
    return c->end;
}

/* ---- text ------------------------------------------------------------------------------- */

static size_t bytes_of(const struct chat *c, const struct token_list *ids, int64_t first)
{
    size_t sum = 0, n = 0;
    for (int64_t i = first; i < ids->n; i++) {
        tokenizer_bytes(c->tokenizer, ids->ids[i], &n);
        sum += n;
    }
    return sum;
}

/* Where loss_from lies in the bytes of the tokens of the text: a normaliser may have changed how
 * many come before it.  What stands there are a role and a line feed, so that nothing combines
 * across it. */
static status_t find_boundary(struct chat *c, int64_t first, size_t *boundary)
{
    *boundary = c->loss_from;
    if (c->loss_from == SIZE_MAX || bytes_of(c, c->ids, first) == c->n) return STATUS_OK;
    struct token_list before = {0};
    const status_t st = encoder_encode_text(c->encoder, c->text, c->loss_from, &before);
    if (st == STATUS_OK) *boundary = bytes_of(c, &before, 0);
    token_list_release(&before);
    return st;
}

static status_t mark(struct chat *c, int64_t first)
{
    size_t boundary, at = 0, n = 0;
    TRY(find_boundary(c, first, &boundary));
    for (int64_t i = first; i < c->ids->n; i++) {
        tokenizer_bytes(c->tokenizer, c->ids->ids[i], &n);
        at += n;
        const int32_t predicted = at > boundary;
        TRY(token_list_append(c->loss, &predicted, 1));
    }
    return STATUS_OK;
}

static status_t flush_text(struct chat *c)
{
    const int64_t first = c->ids->n;
    TRY(encoder_encode_text(c->encoder, c->text, c->n, c->ids));
    TRY(mark(c, first));
    c->n = 0;
    c->loss_from = SIZE_MAX;
    return STATUS_OK;
}

/* A special token of the template; `id` < 0: it has none here. */
static status_t add_token(struct chat *c, int32_t id, const char *name, bool predicted)
{
    if (id < 0) return STATUS_OK;
    const int32_t loss = predicted;
    TRY(flush_text(c));
    c->text_bytes += (int64_t)strlen(name);
    TRY(token_list_append(c->ids, &id, 1));
    return token_list_append(c->loss, &loss, 1);
}

/* ---- turns ------------------------------------------------------------------------------ */

static status_t add_turn(struct chat *c, const struct chat_message *m, bool is_last)
{
    const struct chat_template *t = c->template;
    const bool ends = m->is_assistant || !t->ends_assistant_only;
    const char *content = m->content;
    size_t bytes = m->bytes;
    if (t->trims) chat_trim(&content, &bytes);
    TRY(add_token(c, c->turn, t->turn_token, false));
    TRY(add_text(c, t->turn_text, strlen(t->turn_text)));
    TRY(add_text(c, m->role, strlen(m->role)));
    TRY(add_token(c, c->role, t->role_token, false));
    TRY(add_text(c, t->role_text, strlen(t->role_text)));
    if (m->is_assistant) c->loss_from = c->n;
    TRY(add_text(c, content, bytes));
    if (ends) TRY(add_token(c, c->end, t->end_token, m->is_assistant));
    if (m->is_assistant && t->bare_last && is_last) return STATUS_OK;
    return add_text(c, t->end_text, strlen(t->end_text));
}

static status_t add_turns(struct chat *c)
{
    const struct chat_template *t = c->template;
    const struct chat_messages *m = &c->messages;
    TRY(add_token(c, c->begin, t->begin_token, false));
    if (t->default_system && strcmp(m->items[0].role, "system") != 0) {
        const struct chat_message system = {.role = "system",
                                            .content = t->default_system,
                                            .bytes = strlen(t->default_system)};
        TRY(add_turn(c, &system, false));
    }
    for (size_t i = 0; i < m->n; i++) TRY(add_turn(c, &m->items[i], i + 1 == m->n));
    return flush_text(c);
}

status_t chat_encode(struct chat *c, const char *line, size_t bytes,
                     struct token_list *ids, struct token_list *loss, int64_t *text_bytes)
{
    CHECK(ids->n == loss->n);
    TRY(chat_read(&c->messages, line, bytes));
    const int64_t first = ids->n;
    c->ids = ids;
    c->loss = loss;
    c->text_bytes = 0;
    c->n = 0;
    c->loss_from = SIZE_MAX;
    const status_t st = add_turns(c);
    *text_bytes = c->text_bytes;
    if (st != STATUS_OK) {
        ids->n = loss->n = first;
        return st;
    }
    if (c->loss_on == CHAT_LOSS_ALL)
        for (int64_t i = first; i < loss->n; i++) loss->ids[i] = i > first;
    return STATUS_OK;
}
