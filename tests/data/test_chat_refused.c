/* A line that is no conversation, or not one that can be learned from, is refused with one line that
 * says what is wrong, and the next line is read as ever. */
#include "chats.h"

#define U "{\"role\": \"user\", \"content\": \"hi\"}"
#define A "{\"role\": \"assistant\", \"content\": \"ho\"}"
#define S "{\"role\": \"system\", \"content\": \"be\"}"

static const struct {
    const char *line, *words;
} refused[] = {
    {"", "is not JSON"},
    {"not json", "is not JSON"},
    {"{\"messages\": [" U ", " A "]", "is not JSON"},
    {"{\"messages\": [" U ", " A "]} more", "is not JSON"},
    {"{\"messages\": [" U "], \"messages\": [" A "]}", "duplicate"},
    {"[" U ", " A "]", "is not a JSON object with a \"messages\" array"},
    {"\"text\"", "is not a JSON object"},
    {"null", "is not a JSON object"},
    {"{}", "has no \"messages\""},
    {"{\"text\": \"plain\"}", "has no \"messages\""},
    {"{\"conversations\": [{\"from\": \"human\", \"value\": \"x\"}]}",
     "has no \"messages\" but \"conversations\""},
    {"{\"messages\": {}}", "\"messages\" is not an array"},
    {"{\"messages\": \"hi\"}", "\"messages\" is not an array"},
    {"{\"messages\": []}", "\"messages\" is empty"},
    {"{\"messages\": [\"hi\"]}", "messages[0] is not an object"},
    {"{\"messages\": [" U ", null]}", "messages[1] is not an object"},
    {"{\"messages\": [{\"content\": \"hi\"}]}", "messages[0] has no \"role\""},
    {"{\"messages\": [{\"role\": 1, \"content\": \"hi\"}]}",
     "messages[0] has a role that is not a string"},
    {"{\"messages\": [" U ", {\"role\": \"tool\", \"content\": \"42\"}, " A "]}",
     "messages[1].role is \"tool\" (valid: system, user, assistant)"},
    {"{\"messages\": [{\"role\": \"User\", \"content\": \"hi\"}, " A "]}",
     "messages[0].role is \"User\""},
    {"{\"messages\": [{\"role\": \"\", \"content\": \"hi\"}]}", "role is \"\""},
    {"{\"messages\": [{\"role\": \"a\\nb\", \"content\": \"hi\"}]}", "role is \"a?b\""},
    {"{\"messages\": [{\"role\": \"user\"}, " A "]}", "messages[0] has no \"content\""},
    {"{\"messages\": [" U ", {\"role\": \"assistant\", \"content\": null}]}",
     "messages[1].content is not a string"},
    {"{\"messages\": [" U ", {\"role\": \"assistant\", \"content\": 7}]}",
     "messages[1].content is not a string"},
    {"{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\"}]}, " A "]}",
     "messages[0].content is not a string but a list"},
    {"{\"messages\": [" S ", " S ", " U ", " A "]}", "messages[1] is a system message"},
    {"{\"messages\": [" U ", " S ", " A "]}", "messages[1] is a system message"},
    {"{\"messages\": [" A ", " U "]}", "messages[0]: the assistant speaks first"},
    {"{\"messages\": [" S ", " A "]}", "messages[1]: the assistant speaks first"},
    {"{\"messages\": [" U "]}", "has no message of the assistant"},
    {"{\"messages\": [" S "]}", "has no message of the assistant"},
    {"{\"messages\": [" S ", " U ", " U "]}", "has no message of the assistant"},
    {"{\"tools\": [{\"name\": \"f\"}], \"messages\": [" U ", " A "]}", "has \"tools\""},
    {"{\"functions\": {}, \"messages\": [" U ", " A "]}", "has \"functions\""},
    {"{\"messages\": [" U
     ", {\"role\": \"assistant\", \"content\": \"\", \"tool_calls\": "
     "[{}]}]}",
     "messages[1] has \"tool_calls\", which is not implemented"},
    {"{\"messages\": [" U
     ", {\"role\": \"assistant\", \"content\": \"x\", \"weight\": 0}]}",
     "messages[1] has \"weight\""},
    {"{\"messages\": [{\"role\": \"user\", \"content\": \"a\\u0000b\"}, " A "]}",
     "is not JSON"},
    {"{\"messages\": [{\"role\": \"user\", \"content\": \"\\ud800\"}, " A "]}",
     "is not JSON"},
    {"{\"messages\": [{\"role\": \"user\", \"content\": \"\xff\"}, " A "]}", "byte 0xff"},
    {"{\"messages\": [{\"role\": \"user\", \"content\": \"\xc0\xaf\"}, " A "]}",
     "byte 0xc0"},
    {"{\"messages\": [{\"role\": \"user\", \"content\": \"\xed\xa0\x80\"}, " A "]}",
     "byte 0xed"},
    {"{\"messages\": [{\"role\": \"user\", \"content\": \"a\nb\"}, " A "]}",
     "is not JSON"},
};

TEST(malformed_conversations_are_refused_and_leave_nothing)
{
    static const char good[] =
        "{\"messages\": [" U ", " A "], \"tools\": null, \"id\": 5}";
    struct tokenizer *t = chat_tokenizer();
    struct chat *c = NULL;
    struct token_list ids = {0}, loss = {0};
    int64_t bytes = 0, n = 0;
    ASSERT_OK(chat_create(&c, t, chat_template_find("smollm2"), CHAT_LOSS_ASSISTANT));
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        const char *line = refused[i].line;
        const status_t st = chat_encode(c, line, strlen(line), &ids, &loss, &bytes);
        if (st != STATUS_DATA || !strstr(status_message(), refused[i].words))
            fail_msg("%s: status %d, %s; want %s", line, st, status_message(),
                     refused[i].words);
        assert_null(strchr(status_message(), '\n'));
        assert_int_equal(ids.n, n);
        assert_int_equal(loss.n, n);
        ASSERT_OK(chat_encode(c, good, strlen(good), &ids, &loss, &bytes));
        assert_int_equal(ids.n, loss.n);
        if (i > 0) assert_int_equal(ids.n - n, n / (int64_t)i);
        n = ids.n;
    }
    /* a byte of zero in the line itself */
    char zero[200];
    const int length = snprintf(zero, sizeof zero, "{\"messages\": [" U ", " A "]}");
    zero[length - 2] = '\0';
    ASSERT_REFUSED(chat_encode(c, zero, (size_t)length, &ids, &loss, &bytes), STATUS_DATA,
                   "is not JSON");
    token_list_release(&ids);
    token_list_release(&loss);
    chat_destroy(&c);
    tokenizer_close(&t);
}

TEST(a_byte_without_a_token_leaves_nothing_either)
{
    static const char line[] = "{\"messages\": [" U ", {\"role\": \"assistant\", "
                               "\"content\": \"\\u0001\"}]}";
    struct tokenizer *t = NULL;
    struct chat *c = NULL;
    struct token_list ids = {0}, loss = {0};
    int64_t bytes = 0;
    json_t *root = load_fixture("chat/tokenizer.json");
    json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    json_object_set(vocab, "none", json_object_get(vocab, "\u0101"));
    json_object_del(vocab, "\u0101");
    ASSERT_OK(parse_json(&t, root));
    json_decref(root);
    ASSERT_OK(chat_create(&c, t, chat_template_find("llama3"), CHAT_LOSS_ASSISTANT));
    ASSERT_REFUSED(chat_encode(c, line, strlen(line), &ids, &loss, &bytes), STATUS_DATA,
                   "byte");
    assert_int_equal(ids.n, 0);
    assert_int_equal(loss.n, 0);
    token_list_release(&ids);
    token_list_release(&loss);
    chat_destroy(&c);
    tokenizer_close(&t);
}
