/* Any bytes as conversations, and as what lies beside a tokenizer: refused with one line, or tokens
 * that are as many as their masks, with the turns of the template and no more.  The first byte says
 * which template and loss; 5 and beyond: a tokenizer_config.json. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/chat.h"
#include "fuzz.h"

enum { TEMPLATES = 5 };

static struct tokenizer *tokenizer;
static struct chat *chats[TEMPLATES][2]; /* of each loss */
static char folder[64], path[128], config[128];

static void clean_up(void)
{
    for (int i = 0; i < 2 * TEMPLATES; i++) chat_destroy(&chats[i / 2][i % 2]);
    tokenizer_close(&tokenizer);
    unlink(config);
    rmdir(folder);
}

/* All bytes, and the special tokens of all templates. */
static void set_up(void)
{
    static const char *const special[] = {
        "<|endoftext|>",       "<|im_start|>",      "<|im_end|>", "<|begin_of_text|>",
        "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"};
    if (tokenizer) return;
    snprintf(folder, sizeof folder, "%s/yoke-fuzz-chat-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(folder)) abort();
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    snprintf(config, sizeof config, "%s/tokenizer_config.json", folder);
    static char text[1 << 15];
    size_t n = (size_t)snprintf(
        text, sizeof text,
        "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"normalizer\":null,"
        "\"post_processor\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\","
        "\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true},"
        "\"decoder\":"
        "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,"
        "\"use_regex\":true},\"added_tokens\":[");
    for (int i = 0; i < 7; i++)
        n += (size_t)snprintf(text + n, sizeof text - n,
                              "%s{\"id\":%d,\"content\":\"%s\",\"single_word\":false,"
                              "\"lstrip\":false,\"rstrip\":false,\"normalized\":false,"
                              "\"special\":true}",
                              i ? "," : "", 256 + i, special[i]);
    n += (size_t)snprintf(
        text + n, sizeof text - n,
        "],\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
        "\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,"
        "\"fuse_unk\":false,\"byte_fallback\":false,\"merges\":[],"
        "\"vocab\":{");
    unsigned next = 256; /* the characters that stand for bytes, as GPT-2 orders them */
    for (unsigned byte = 0; byte < 256; byte++) {
        const bool itself = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
        n += (size_t)snprintf(text + n, sizeof text - n, "%s\"\\u%04x\":%u",
                              byte ? "," : "", itself ? byte : next++, byte);
    }
    n += (size_t)snprintf(text + n, sizeof text - n, "}}}");
    if (tokenizer_parse(&tokenizer, "fuzz", text, n) != STATUS_OK) {
        fprintf(stderr, "%s\n", status_message());
        abort();
    }
    static const char *const names[TEMPLATES] = {"chatml", "qwen2.5", "smollm2", "llama3",
                                                 "olmo2"};
    for (int i = 0; i < 2 * TEMPLATES; i++)
        if (chat_create(&chats[i / 2][i % 2], tokenizer, chat_template_find(names[i / 2]),
                        i % 2 ? CHAT_LOSS_ALL : CHAT_LOSS_ASSISTANT) != STATUS_OK)
            abort();
    atexit(clean_up);
}

static void encode(struct chat *c, const char *line, size_t bytes)
{
    struct token_list ids = {0}, loss = {0};
    int64_t text_bytes = 0, sum = 0;
    size_t n = 0;
    const status_t st = chat_encode(c, line, bytes, &ids, &loss, &text_bytes);
    CHECK(ids.n == loss.n);
    if (st != STATUS_OK) {
        CHECK(st == STATUS_DATA && ids.n == 0);
        fuzz_check_refusal();
    } else {
        int64_t predicted = 0;
        for (int64_t i = 0; i < ids.n; i++) {
            tokenizer_bytes(tokenizer, ids.ids[i], &n);
            sum += (int64_t)n;
            predicted += loss.ids[i];
        }
        CHECK(sum == text_bytes && predicted > 0 && loss.ids[0] == 0);
    }
    token_list_release(&ids);
    token_list_release(&loss);
}

static void detect(const uint8_t *data, size_t n)
{
    const struct chat_template *t = NULL;
    FILE *f = fopen(config, "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f) != 0) abort();
    if (chat_template_detect(&t, path) == STATUS_OK)
        CHECK(t && chat_template_find(chat_template_name(t)) == t);
    else
        fuzz_check_refusal();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_begin();
    set_up();
    if (size == 0) return 0;
    const unsigned which = data[0] % 6u;
    if (which == TEMPLATES)
        detect(data + 1, size - 1);
    else
        encode(chats[which][data[0] / 6 % 2], (const char *)data + 1, size - 1);
    return 0;
}
