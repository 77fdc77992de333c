#include "data/tokenizer_impl.h"

#include <string.h>
#include <jansson.h>

/* The id that Hugging Face gives to an added token that the vocabulary lacks: it counts and does
 * not read the file. */
static int64_t next_id(const struct parse *p, int64_t largest)
{
    const int64_t n = (int64_t)json_object_size(p->vocab);
    return largest >= n ? largest + 1 : n;
}

/* An added token that is also in model.vocab stands for what it is written with; so it must not
 * be made of other bytes there. */
static status_t check_known(struct parse *p, const char *content, int64_t known,
                            int64_t id)
{
    struct tokenizer *t = p->t;
    struct token *token = &t->tokens[known];
    const size_t n = strlen(content);
    if (known != id)
        return parse_refuse(p->file,
                            "added token \"%.60s\" has id %lld, but %lld in the "
                            "vocabulary",
                            content, (long long)id, (long long)known);
    if (token->bytes == n && memcmp(t->pool + token->offset, content, n) == 0)
        return STATUS_OK;
    if (p->made[known])
        return parse_refuse(p->file,
                            "added token \"%.60s\" stands for other bytes in "
                            "model.vocab",
                            content);
    *token = (struct token){.offset = t->pool_bytes, .bytes = n};
    memcpy(t->pool + t->pool_bytes, content, n);
    t->pool_bytes += n;
    return STATUS_OK;
}

static status_t take_id(struct parse *p, const char *content, int64_t id,
                        int64_t *largest)
{
    struct tokenizer *t = p->t;
    const size_t n = strlen(content);
    const int64_t *known = byte_map_find(&t->names, content, n);
    if (known) {
        TRY(check_known(p, content, *known, id));
    } else {
        memcpy(t->pool + t->pool_bytes, content, n);
        TRY(parse_token(p, id, content, n));
        if (id != next_id(p, *largest))
            return parse_refuse(p->file,
                                "added token \"%.60s\" has id %lld, which Hugging Face "
                                "does not follow, valid: %lld",
                                content, (long long)id, (long long)next_id(p, *largest));
    }
    if (id > *largest) *largest = id;
    return STATUS_OK;
}

/* Where text must not be cut because of a token: inside it, behind it where it strips what
 * follows, and in front of it where that decides whether it is a word. */
static bool allows_cuts(const char *token, size_t bytes, uint8_t flags)
{
    for (size_t at = 1; at < bytes; at++)
        if (pretokenize_can_cut(token, at)) return false;
    return !(flags & ADDED_RSTRIP) && !(flags & ADDED_SINGLE_WORD && *token == ' ');
}

static status_t add_to_tries(struct parse *p, const char *content, int64_t id,
                             bool is_normalized, bool is_special, uint8_t flags)
{
    struct tokenizer *t = p->t;
    struct nfc nfc = {0};
    const char *token = content;
    size_t bytes = strlen(content);
    status_t st = STATUS_OK;
    if (is_normalized && t->is_nfc)
        st = nfc_normalize(&nfc, content, bytes, &token, &bytes);
    if (st == STATUS_OK) {
        t->can_cut = t->can_cut && allows_cuts(token, bytes, flags);
        st = trie_add(&t->added[is_normalized], token, bytes, (int32_t)id, flags);
        if (st == STATUS_OK && !is_special)
            st = trie_add(&t->plain[is_normalized], token, bytes, (int32_t)id, flags);
    }
    nfc_release(&nfc);
    return st;
}

static status_t read_token(struct parse *p, size_t i, struct byte_map *seen,
                           int64_t *largest)
{
    static const char *const known[] = {"id",     "content", "single_word", "lstrip",
                                        "rstrip", "special", "normalized",  NULL};
    json_t *x = json_array_get(p->added, i);
    char section[64];
    snprintf(section, sizeof section, "added_tokens[%zu].", i);
    TRY(parse_known_keys(p->file, section, x, known));
    const char *content = json_string_value(json_object_get(x, "content"));
    if (!content || !*content)
        return parse_refuse(p->file, "%scontent is missing or empty", section);
    bool single_word, lstrip, rstrip, special, normalized;
    TRY(parse_flag(p->file, section, x, "single_word", &single_word));
    TRY(parse_flag(p->file, section, x, "lstrip", &lstrip));
    TRY(parse_flag(p->file, section, x, "rstrip", &rstrip));
    TRY(parse_flag(p->file, section, x, "special", &special));
    TRY(parse_flag(p->file, section, x, "normalized", &normalized));
    bool is_new;
    if (!byte_map_add(seen, content, strlen(content), &is_new))
        return status_set(STATUS_NOMEM, "%s: no memory for the added tokens", p->file);
    if (!is_new)
        return parse_refuse(p->file, "%scontent \"%.60s\" occurs twice", section,
                            content);
    const int64_t id = parse_id(json_object_get(x, "id"));
    TRY(take_id(p, content, id, largest));
    p->t->n_added++;
    const unsigned flags = (single_word ? ADDED_SINGLE_WORD : 0U) |
                           (lstrip ? ADDED_LSTRIP : 0U) | (rstrip ? ADDED_RSTRIP : 0U);
    return add_to_tries(p, content, id, normalized, special, (uint8_t)flags);
}

status_t parse_added(struct parse *p)
{
    struct byte_map seen = {0};
    int64_t largest = -1;
    status_t st = STATUS_OK;
    for (size_t i = 0; i < json_array_size(p->added) && st == STATUS_OK; i++)
        st = read_token(p, i, &seen, &largest);
    byte_map_release(&seen);
    return st;
}
