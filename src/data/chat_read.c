/* One line of JSON as messages, or what is wrong with it. */
#include <stdlib.h>
#include <string.h>

#include "data/chat_impl.h"

static bool is_there(const json_t *x)
{
    return x && !json_is_null(x) && !(json_is_array(x) && json_array_size(x) == 0);
}

/* The first of these keys that is there and says something, NULL: none. */
static const char *find_key(const json_t *object, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (is_there(json_object_get(object, names[i]))) return names[i];
    return NULL;
}

static status_t check_object(const json_t *root, const json_t **messages)
{
    static const char *const tools[] = {"tools", "functions", "documents"};
    if (!json_is_object(root))
        return status_set(STATUS_DATA, "is not a JSON object with a \"messages\" array");
    const char *key = find_key(root, tools, sizeof tools / sizeof *tools);
    if (key)
        return status_set(STATUS_DATA, "has \"%s\", which no template here renders", key);
    *messages = json_object_get(root, "messages");
    if (!*messages)
        return status_set(STATUS_DATA, "has no \"messages\"%s",
                          json_object_get(root, "conversations")
                              ? " but \"conversations\" (valid: messages of role and "
                                "content)"
                              : "");
    if (!json_is_array(*messages))
        return status_set(STATUS_DATA, "\"messages\" is not an array");
    if (json_array_size(*messages) == 0)
        return status_set(STATUS_DATA, "\"messages\" is empty");
    return STATUS_OK;
}

static status_t read_content(const json_t *x, size_t i, struct chat_message *m)
{
    const json_t *content = json_object_get(x, "content");
    if (!content) return status_set(STATUS_DATA, "messages[%zu] has no \"content\"", i);
    if (!json_is_string(content))
        return status_set(STATUS_DATA, "messages[%zu].content is not a string%s", i,
                          json_is_array(content) ? " but a list (valid: text)" : "");
    m->content = json_string_value(content);
    m->bytes = json_string_length(content);
    return STATUS_OK;
}

static status_t read_message(const json_t *x, size_t i, struct chat_message *m)
{
    static const char *const refused[] = {"tool_calls", "function_call", "weight"};
    if (!json_is_object(x))
        return status_set(STATUS_DATA, "messages[%zu] is not an object", i);
    const char *role = json_string_value(json_object_get(x, "role"));
    if (!role)
        return status_set(STATUS_DATA, "messages[%zu] %s", i,
                          json_object_get(x, "role") ? "has a role that is not a string"
                                                     : "has no \"role\"");
    if (strcmp(role, "system") != 0 && strcmp(role, "user") != 0 &&
        strcmp(role, "assistant") != 0)
        return status_set(STATUS_DATA,
                          "messages[%zu].role is \"%.40s\" (valid: system, user, "
                          "assistant)",
                          i, role);
    const char *key = find_key(x, refused, sizeof refused / sizeof *refused);
    if (key)
        return status_set(STATUS_DATA,
                          "messages[%zu] has \"%s\", which is not implemented", i, key);
    m->role = role;
    m->is_assistant = role[0] == 'a';
    return read_content(x, i, m);
}

static status_t check_order(const struct chat_messages *m)
{
    bool answered = false;
    for (size_t i = 0; i < m->n; i++) {
        const bool is_system = m->items[i].role[0] == 's';
        if (is_system && i > 0)
            return status_set(STATUS_DATA,
                              "messages[%zu] is a system message (valid: as the first "
                              "one only)",
                              i);
        answered = answered || m->items[i].is_assistant;
    }
    const size_t first = m->items[0].role[0] == 's' ? 1 : 0;
    if (first < m->n && m->items[first].is_assistant)
        return status_set(STATUS_DATA,
                          "messages[%zu]: the assistant speaks first (valid: user)",
                          first);
    if (!answered)
        return status_set(STATUS_DATA,
                          "has no message of the assistant: there is nothing to learn");
    return STATUS_OK;
}

static status_t read_messages(struct chat_messages *m)
{
    const json_t *list = NULL;
    TRY(check_object(m->root, &list));
    const size_t n = json_array_size(list);
    if (n > m->capacity) {
        struct chat_message *items = realloc(m->items, n * sizeof *items);
        if (!items) return status_set(STATUS_NOMEM, "no memory for %zu messages", n);
        m->items = items;
        m->capacity = n;
    }
    for (m->n = 0; m->n < n; m->n++)
        TRY(read_message(json_array_get(list, m->n), m->n, &m->items[m->n]));
    return check_order(m);
}

status_t chat_read(struct chat_messages *m, const char *line, size_t bytes)
{
    json_error_t error;
    json_decref(m->root);
    m->root = json_loadb(line, bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (!m->root) return status_set(STATUS_DATA, "is not JSON: %s", error.text);
    return read_messages(m);
}

void chat_messages_release(struct chat_messages *m)
{
    json_decref(m->root);
    free(m->items);
    *m = (struct chat_messages){0};
}
