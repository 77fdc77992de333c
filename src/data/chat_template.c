/* The templates, and the white space that one of them trims. */
#include <string.h>

#include "data/chat_impl.h"

const char chat_templates[] = "chatml, qwen2.5, smollm2, llama3, olmo2";

const struct chat_template chat_template_table[CHAT_TEMPLATES] = {
    {.name = "chatml",
     .turn_token = "<|im_start|>",
     .turn_text = "",
     .role_text = "\n",
     .end_token = "<|im_end|>",
     .end_text = "\n"},
    {.name = "qwen2.5",
     .default_system =
         "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
     .turn_token = "<|im_start|>",
     .turn_text = "",
     .role_text = "\n",
     .end_token = "<|im_end|>",
     .end_text = "\n"},
    {.name = "smollm2",
     .default_system =
         "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
     .turn_token = "<|im_start|>",
     .turn_text = "",
     .role_text = "\n",
     .end_token = "<|im_end|>",
     .end_text = "\n"},
    {.name = "llama3",
     .begin_token = "<|begin_of_text|>",
     .turn_token = "<|start_header_id|>",
     .turn_text = "",
     .role_token = "<|end_header_id|>",
     .role_text = "\n\n",
     .end_token = "<|eot_id|>",
     .end_text = "",
     .trims = true},
    {.name = "olmo2",
     .begin_token = "<|endoftext|>",
     .turn_text = "<|",
     .role_text = "|>\n",
     .end_token = "<|endoftext|>",
     .end_text = "\n",
     .ends_assistant_only = true,
     .bare_last = true},
};

const struct chat_template *chat_template_find(const char *name)
{
    for (int i = 0; i < CHAT_TEMPLATES; i++)
        if (strcmp(chat_template_table[i].name, name) == 0)
            return &chat_template_table[i];
    return NULL;
}

const char *chat_template_name(const struct chat_template *t)
{
    return t->name;
}

/* ---- white space ------------------------------------------------------------------------ */

/* Where str.isspace is true beyond ASCII: the code points of bidirectional class WS, B or S, or
 * category Zs. */
static bool is_wide_space(unsigned x)
{
    return x == 0x85 || x == 0xA0 || x == 0x1680 || (x >= 0x2000 && x <= 0x200A) ||
           x == 0x2028 || x == 0x2029 || x == 0x202F || x == 0x205F || x == 0x3000;
}

static bool is_narrow_space(unsigned char x)
{
    return x == ' ' || (x >= 0x09 && x <= 0x0D) || (x >= 0x1C && x <= 0x1F);
}

/* Bytes of the white space that text[0..n), valid UTF-8, begins with; 0: none. */
static size_t space_at(const char *text, size_t n)
{
    const unsigned char *s = (const unsigned char *)text;
    if (n >= 1 && is_narrow_space(s[0])) return 1;
    if (n >= 2 && s[0] >> 5 == 6 && is_wide_space((s[0] & 31u) << 6 | (s[1] & 63u)))
        return 2;
    if (n >= 3 && s[0] >> 4 == 14 &&
        is_wide_space((s[0] & 15u) << 12 | (s[1] & 63u) << 6 | (s[2] & 63u)))
        return 3;
    return 0;
}

void chat_trim(const char **text, size_t *bytes)
{
    for (size_t n; (n = space_at(*text, *bytes)) > 0; *bytes -= n) *text += n;
    for (size_t n = 1; n <= 3 && n <= *bytes;) {
        const bool found = space_at(*text + *bytes - n, n) == n;
        if (found) *bytes -= n;
        n = found ? 1 : n + 1;
    }
}
