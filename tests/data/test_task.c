/* Questions out of JSONL: what is not one is refused by line, key, value and what is valid; and every
 * sequence has rows of its own in the windows. */
#include <stdio.h>
#include <unistd.h>

#include "core/file.h"
#include "core/rng.h"
#include "data/task_tokens.h"
#include "data/tokenizers.h"
#include "harness/harness.h"

#define REQUEST(doc, idx, label, rest)                                                   \
    "{\"request_type\": \"loglikelihood\", \"task_name\": \"t\", \"doc_id\": " #doc      \
    ", \"idx\": " #idx ", \"label\": " #label                                            \
    ", \"request\": {\"context\": \"a\", \"continuation\": \" b\"}" rest "}\n"
#define HELLASWAG(label, endings)                                                        \
    "{\"ctx\": \"a\", \"ctx_a\": \"a\", \"ctx_b\": \"\", \"activity_label\": \"x\", "    \
    "\"label\": " label ", \"endings\": " endings "}\n"
#define GOOD REQUEST(0, 0, 1, "") REQUEST(0, 1, 1, "")

static status_t read_text(struct task *t, const char *text, enum task_hellaswag form)
{
    static const char path[] = "questions.jsonl";
    ASSERT_OK(file_replace(path, text, strlen(text)));
    const status_t st = task_read(t, path, form, 0);
    unlink(path);
    return st;
}

static void refuse(const char *text, const char *words)
{
    struct task t;
    const status_t st = read_text(&t, text, TASK_HELLASWAG_LLM_C);
    if (st != STATUS_DATA || !strstr(status_message(), words))
        fail_msg("%s: %s: %s; want: %s", text, status_name(st), status_message(), words);
    task_release(&t);
}

TEST(what_is_no_question_is_refused_in_words)
{
    refuse("", "questions.jsonl: holds no question");
    refuse("{\n", ":1: is not JSON");
    refuse("[1]\n", ":1: is [1]; valid: an object");
    refuse("\n7\n", ":2: is 7; valid: an object");
    refuse("{\"text\": \"x\"}\n", "has neither \"request_type\"");
    refuse("{\"request_type\": \"generate_until\"}\n",
           "request_type is \"generate_until\"; valid: \"loglikelihood\"");
    refuse("{\"request_type\": 1}\n", "request_type is 1; valid: a string");
    refuse("{\"request_type\": \"loglikelihood\"}\n",
           "task_name is missing; valid: a string");
    refuse(GOOD "{\"request_type\": \"loglikelihood\", \"task_name\": \"u\"}\n",
           ":3: task_name is \"u\"; valid: \"t\"");
    refuse(REQUEST("x", 0, 0, ""), "doc_id is \"x\"; valid: a whole number from 0 to");
    refuse(REQUEST(-1, 0, 0, ""), "doc_id is -1; valid");
    refuse(REQUEST(1.5, 0, 0, ""), "doc_id is 1.5; valid");
    refuse(REQUEST(0, null, 0, ""), "idx is null; valid");
    refuse(REQUEST(0, 0, "B", ""), "label is \"B\"; valid");
    refuse(REQUEST(0, 0, 0, ", \"request\": 3"), "request is 3; valid: an object");
    refuse(REQUEST(0, 0, 0, ", \"request\": {}"), "request.context is missing; valid");
    refuse(REQUEST(0, 0, 0, ", \"request\": {\"context\": \"a\", \"continuation\": []}"),
           "request.continuation is []; valid: a string");
    refuse(
        REQUEST(0, 0, 0, ", \"request\": {\"context\": \"a\", \"continuation\": \" \"}"),
        ":1: the answer is empty");
    refuse(GOOD REQUEST(0, 1, 1, ""), ":3: idx 1 of doc_id 0 is also in line 2");
    refuse(GOOD REQUEST(0, 3, 1, ""),
           ":3: idx is 3; valid: 2, the first that doc_id 0 lacks");
    refuse(GOOD REQUEST(0, 2, 0, ""), ":3: label is 0; valid: 1, as in line 1");
    refuse(REQUEST(4, 0, 1, ""), "label is 1; valid: 0 to 0, the answers of doc_id 4");
    refuse(REQUEST(1000000, 0, 0, ""), "holds no question, only answers without one");
    refuse(GOOD REQUEST(1000000, 0, 0, ""), "doc_id 1000000 has 1 answers; valid: 2");
    refuse(REQUEST(0, 0, 0,
                   ", \"request\": {\"context\": \"a\\u0000\", \"continuation\": \"b\"}"),
           "is not JSON");
    refuse(HELLASWAG("0", "[\"b\"]"), "endings is [\"b\"]; valid: a list of two or more");
    refuse(HELLASWAG("0", "[\"b\", 2]"), "endings[1] is 2; valid: a string");
    refuse(HELLASWAG("2", "[\"b\", \"c\"]"), "label is 2; valid: 0 to 1");
    refuse(HELLASWAG("\"\"", "[\"b\", \"c\"]"), "label is \"\"; valid: 0 to 1");
    refuse(HELLASWAG("0", "[\"b\", \"c\"]") GOOD, ":2: endings is missing; valid");
    refuse("{\"endings\": [\"a\", \"b\"], \"label\": 0}\n",
           "ctx is missing; valid: a string");
    struct task t;
    ASSERT_REFUSED(task_read(&t, "q.json", TASK_HELLASWAG_LLM_C, 0), STATUS_DATA,
                   "q.json: is not named as JSONL; valid: .jsonl");
    ASSERT_REFUSED(task_read(&t, "none.jsonl", TASK_HELLASWAG_LLM_C, 0), STATUS_IO,
                   "none.jsonl: cannot open");
    task_release(&t);
}

static status_t tokens_of(struct task_tokens *tokens, const char *text,
                          enum task_encoding encoding, int64_t max_positions)
{
    struct task t;
    struct tokenizer *tokenizer = NULL;
    ASSERT_OK(parse_json(&tokenizer, load_fixture("tokenizer_small.json")));
    ASSERT_OK(read_text(&t, text, TASK_HELLASWAG_LLM_C));
    const status_t st = task_tokens_make(tokens, &t, tokenizer, encoding, max_positions);
    task_release(&t);
    tokenizer_close(&tokenizer);
    return st;
}

TEST(an_answer_without_tokens_of_its_own_or_too_long_is_refused)
{
    struct task_tokens tokens;
    const char *joined =
        HELLASWAG("0", "[\"b\", \"c\"]") "{\"ctx\": \"t\", \"label\": 0, \"endings\": "
                                         "[\"b\", \"one two three four\"]}\n";
    ASSERT_REFUSED(tokens_of(&tokens, joined, TASK_WHOLE, 2), STATUS_DATA,
                   "questions.jsonl:2: the answer has");
    assert_non_null(strstr(status_message(), "valid: up to 2, the model's positions"));
    task_tokens_release(&tokens);
    const char *he =
        "{\"request_type\": \"loglikelihood\", \"task_name\": \"t\", \"doc_id\": 0, "
        "\"idx\": 0, \"label\": 0, "
        "\"request\": {\"context\": \"t\", \"continuation\": \"he\"}}\n";
    ASSERT_REFUSED(tokens_of(&tokens, he, TASK_WHOLE, 9), STATUS_DATA,
                   "questions.jsonl:1: the answer's text has no token of its own");
    task_tokens_release(&tokens);
    ASSERT_OK(tokens_of(&tokens, he, TASK_APART, 9));
    task_tokens_release(&tokens);
}

/* Random lengths, packed: all rows are written once, and windows are well filled. */
TEST(sequences_have_windows_of_their_own_rows)
{
    enum { N = 500, T = 64, B = 1000 };
    struct task_tokens tokens = {
        .n = N, .sequences = test_alloc(N * sizeof(struct task_sequence))};
    int32_t ids[T + 1];
    int64_t rows = 0;
    for (int i = 0; i <= T; i++) ids[i] = 7;
    for (int64_t i = 0; i < N; i++) {
        const int64_t n = 1 + (int64_t)(rng_u64(5, (uint64_t)i) % T);
        tokens.sequences[i].n_targets = 1 + n / 2;
        ASSERT_OK(token_list_append(&tokens.sequences[i].ids, ids, n + 1));
        rows += n;
    }
    ASSERT_OK(task_tokens_pack(&tokens, T));
    assert_true(tokens.n_windows * T < rows + rows / 20 + T); /* 95 % full */
    const int64_t W = tokens.n_windows;
    assert_true(W <= B);
    int32_t *memory = test_alloc((size_t)(5 * W * T) * sizeof *memory);
    struct batch b = {.B = W,
                      .T = T,
                      .tokens = memory,
                      .targets = memory + W * T,
                      .positions = memory + 2 * W * T,
                      .doc_start = memory + 3 * W * T};
    int32_t *owner = memory + 4 * W * T;
    task_tokens_fill(&tokens, 0, &b, owner);
    int64_t written = 0, owned = 0, targets = 0;
    for (int64_t k = 0; k < W * T; k++) {
        written += b.tokens[k] == 7;
        targets += b.targets[k] == 7;
        owned += owner[k] >= 0;
        assert_int_equal(b.positions[k], b.tokens[k] == 7 ? k % T - b.doc_start[k] : 0);
    }
    assert_int_equal(written, rows);
    for (int64_t i = 0; i < N; i++) {
        targets -= tokens.sequences[i].n_targets;
        owned -= tokens.sequences[i].n_targets;
    }
    assert_int_equal(targets, 0);
    assert_int_equal(owned, 0);
    for (int64_t i = 0; i < N; i++) token_list_release(&tokens.sequences[i].ids);
}
