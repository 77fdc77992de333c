/* Any bytes as tokenizer.json: refused with one line, or a tokenizer whose ids are in range and
 * decode to the text again, also when the text is cut where it says.  What stands behind a zero
 * byte is the text. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "data/tokenizer.h"

static const char fixed_text[] =
    "The cat's 12 hats,  <x> \xC3\xA9\xE6\xBC\xA2\xF0\x9F\x98\x80\xFF\r\n\n a"
    "e\xCC\x81\xCC\xA3 <x>\t'S\xC5\xBF";

/* a failed CHECK must look like a crash to libFuzzer, which keeps the input then */
static void check_text(const struct tokenizer *t, const char *text, size_t bytes,
                       bool may_change)
{
    struct encoder *e;
    struct token_list whole = {0}, parts = {0};
    CHECK(encoder_create(&e, t) == STATUS_OK);
    const size_t cut = tokenizer_cut(t, text, bytes, bytes / 2);
    if (encoder_encode(e, text, bytes, &whole) != STATUS_OK) {
        fuzz_check_refusal();
        goto out;
    }
    char *back;
    size_t n;
    CHECK(tokenizer_decode(t, whole.ids, whole.n, &back, &n) == STATUS_OK);
    CHECK(may_change || (n == bytes && memcmp(back, text, n) == 0));
    free(back);
    CHECK(encoder_encode(e, text, cut, &parts) == STATUS_OK);
    CHECK(encoder_encode(e, text + cut, bytes - cut, &parts) == STATUS_OK);
    CHECK(parts.n == whole.n);
    for (int64_t i = 0; i < parts.n; i++) CHECK(parts.ids[i] == whole.ids[i]);
out:
    token_list_release(&whole);
    token_list_release(&parts);
    encoder_destroy(&e);
}

/* A file may ask for other text: what a Split removes or a token strips, the normal form, a space
 * in front.  \u may spell the word. */
static bool changes_text(const char *json)
{
    static const char *const words[] = {"Removed", "strip", "NFC", "add_prefix_space",
                                        "\\u"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strstr(json, words[i])) return true;
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_begin();
    struct tokenizer *t;
    const uint8_t *zero = size > 0 ? memchr(data, 0, size) : NULL;
    const size_t json_bytes = zero ? (size_t)(zero - data) : size;
    char *json = malloc(json_bytes + 1);
    if (!json) return 0;
    memcpy(json, data, json_bytes);
    json[json_bytes] = '\0';
    if (tokenizer_parse(&t, "fuzz.json", json, json_bytes) != STATUS_OK) {
        fuzz_check_refusal();
    } else {
        const bool may_change = changes_text(json);
        check_text(t, fixed_text, sizeof fixed_text - 1, may_change);
        if (zero)
            check_text(t, (const char *)zero + 1, size - json_bytes - 1, may_change);
        tokenizer_close(&t);
    }
    free(json);
    return 0;
}
