/* chats - the stored tokenizer, templates and conversations of tests/fixtures/chat. */
#pragma once

#include "data/chat.h"
#include "data/tokenizers.h"

static inline struct tokenizer *chat_tokenizer(void)
{
    struct tokenizer *t = NULL;
    json_t *root = load_fixture("chat/tokenizer.json");
    ASSERT_OK(parse_json(&t, root));
    json_decref(root);
    return t;
}

/* The lines of conversations.jsonl, with an end; freed after the test. */
static inline char **chat_lines(void)
{
    char path[4096], *text;
    size_t bytes;
    snprintf(path, sizeof path, "%s/tests/fixtures/chat/conversations.jsonl",
             getenv("YOKE_SOURCE"));
    ASSERT_OK(file_read(path, 1 << 20, &text, &bytes));
    char **lines = test_alloc(100 * sizeof *lines), *copy = test_alloc(bytes + 1);
    memcpy(copy, text, bytes + 1);
    free(text);
    int n = 0;
    for (char *line; (line = strsep(&copy, "\n")) && *line;) lines[n++] = line;
    lines[n] = NULL;
    return lines;
}
