/* Which of the templates a model was published with: by the hash of its Jinja text. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/hash.h"
#include "data/chat_impl.h"

enum { MAX_FILE_BYTES = 64 << 20 };

/* SHA-256 of the published text without white space at its end, and the template that renders the
 * same; scripts/fixtures/make_chat_fixtures.py has the texts and prints this table. */
static const struct {
    const char *sha256, *name;
} published[] = {
    {"153280e3ff55d19da1398bdb3914ee2a51b80429bfaedde11d7d216c39db80f3", "chatml"},
    {"fcf7a096fe99a48fd9ad2b250bf9237e96e8f48bffec1c7ea4d3f225176cd40e", "chatml"},
    {"58c1a1f04baa7adaeaba1f90267c3d57d9396f0c1f0129bdde9e76d3c6784af7", "chatml"},
    {"d7b5b8c7b58f7a6bf868aa46a5f73ee976d7292f40fcb9c3e7a1defd8d235cfb", "chatml"},
    {"55b2f4a26ac9ee719330a61a0c39d9e538b0e9322212f048326318cff4f8674a", "qwen2.5"},
    {"872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788", "smollm2"},
    {"de9cde7d1b0ca0cc87459a6673e0d12fb89c070bdb24e4a30b6e4d187b226221", "smollm2"},
    {"ba03a121d097859c7b5b9cd03af99aafe95275210d2876f642ad9929a150f122", "llama3"},
    {"4f46ecd43418f216df8c26936c60e5d04bcc81db47db5d86fbe889f64212dd4c", "llama3"},
    {"fe689ffbd6a4e2d0532d7480696b065b10e0e1eff3f9b9fc4bea415761e4bf4a", "olmo2"},
    {"a3fff33b9c6fb5c804dab4d85d06d33452e646ec1e038b1b29f170569e2f0380", "olmo2"},
};

static status_t refuse(const char *path)
{
    return status_set(STATUS_DATA,
                      "%s: its chat template is none of those known (valid: --chat NAME "
                      "if one of %s renders the same)",
                      path, chat_templates);
}

static status_t find(const struct chat_template **t, const char *path, const char *text,
                     size_t bytes)
{
    char hex[HASH_SHA256_HEX];
    while (bytes > 0 && strchr(" \t\r\n", text[bytes - 1])) bytes--;
    hash_sha256(text, bytes, hex);
    for (size_t i = 0; i < sizeof published / sizeof *published; i++)
        if (strcmp(published[i].sha256, hex) == 0) {
            *t = chat_template_find(published[i].name);
            return STATUS_OK;
        }
    return refuse(path);
}

/* The text of "chat_template": a string, or the one named "default" of a list. */
static const json_t *template_text(const json_t *root)
{
    const json_t *x = json_object_get(root, "chat_template");
    if (!json_is_array(x)) return x;
    for (size_t i = 0; i < json_array_size(x); i++) {
        const json_t *item = json_array_get(x, i);
        const char *name = json_string_value(json_object_get(item, "name"));
        if (name && strcmp(name, "default") == 0)
            return json_object_get(item, "template");
    }
    return NULL;
}

static status_t find_in_config(const struct chat_template **t, const char *path,
                               const char *json, size_t bytes)
{
    json_error_t error;
    json_t *root = json_loadb(json, bytes, JSON_REJECT_DUPLICATES, &error);
    if (!root)
        return status_set(STATUS_DATA, "%s:%d: is not JSON: %s", path, error.line,
                          error.text);
    const json_t *text = template_text(root);
    status_t st;
    if (json_is_string(text))
        st = find(t, path, json_string_value(text), json_string_length(text));
    else
        st = status_set(STATUS_DATA,
                        "%s: has no chat_template (valid: --chat NAME, one of %s)", path,
                        chat_templates);
    json_decref(root);
    return st;
}

status_t chat_template_detect(const struct chat_template **t, const char *tokenizer_path)
{
    char jinja[PATH_MAX], config[PATH_MAX], *text = NULL;
    size_t bytes = 0;
    const char *slash = strrchr(tokenizer_path, '/');
    const int folder = slash ? (int)(slash - tokenizer_path) + 1 : 0;
    snprintf(jinja, sizeof jinja, "%.*schat_template.jinja", folder, tokenizer_path);
    snprintf(config, sizeof config, "%.*stokenizer_config.json", folder, tokenizer_path);
    *t = NULL;
    const bool alone = file_exists(jinja);
    if (!alone && !file_exists(config))
        return status_set(
            STATUS_DATA,
            "%s: has no tokenizer_config.json or chat_template.jinja beside "
            "it (valid: --chat NAME, one of %s)",
            tokenizer_path, chat_templates);
    TRY(file_read(alone ? jinja : config, MAX_FILE_BYTES, &text, &bytes));
    const status_t st =
        alone ? find(t, jinja, text, bytes) : find_in_config(t, config, text, bytes);
    free(text);
    return st;
}
