/* chat_impl - templates and messages, for chat*.c only. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "data/chat.h"

/* A turn: turn_token turn_text ROLE role_token role_text CONTENT end_token end_text.  A token is a
 * special one of the tokenizer, NULL: none; texts may be "". */
struct chat_template {
    const char *name;
    const char *begin_token; /* before the first turn */
    const char
        *default_system; /* content of a system turn where there is none; NULL: no turn */
    const char *turn_token, *turn_text;
    const char *role_token, *role_text;
    const char *end_token, *end_text;
    bool ends_assistant_only; /* other turns have no end_token */
    bool bare_last;           /* no end_text behind the assistant's if nothing follows */
    bool trims;               /* contents without white space at both ends */
};

enum { CHAT_TEMPLATES = 5 };
extern const struct chat_template chat_template_table[CHAT_TEMPLATES];

struct chat_message {
    const char *role, *content;
    size_t bytes; /* of the content */
    bool is_assistant;
};

struct chat_messages {
    json_t *root;               /* owns the texts */
    struct chat_message *items; /* [capacity], kept from line to line */
    size_t n, capacity;
};

/* Fill *m, also after an earlier line.  STATUS_DATA says what is wrong. */
MUST_USE status_t chat_read(struct chat_messages *m, const char *line, size_t bytes);
void chat_messages_release(struct chat_messages *m);

/* *text[0..*bytes), valid UTF-8, without white space at both ends: Unicode's, as Python's str.strip. */
void chat_trim(const char **text, size_t *bytes);
