#include "data/tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>

struct encoder {
    const struct tokenizer *tokenizer;
    struct matcher matcher;
    struct nfc nfc;
    struct bpe bpe;
    const struct trie *added; /* [2], during encoder_encode like the next */
    struct token_list *out;
};

status_t encoder_create(struct encoder **out, const struct tokenizer *t)
{
    *out = NULL;
    struct encoder *e = calloc(1, sizeof *e);
    if (!e) return status_set(STATUS_NOMEM, "no memory for an encoder");
    e->tokenizer = t;
    status_t st = matcher_init(&e->matcher);
    if (st == STATUS_OK) st = bpe_init(&e->bpe, t);
    if (st != STATUS_OK) encoder_destroy(&e);
    *out = e;
    return st;
}

void encoder_destroy(struct encoder **e)
{
    if (!*e) return;
    matcher_release(&(*e)->matcher);
    nfc_release(&(*e)->nfc);
    bpe_release(&(*e)->bpe);
    free(*e);
    *e = NULL;
}

static status_t encode_piece(void *context, const char *piece, size_t bytes)
{
    struct encoder *e = context;
    return bpe_encode(&e->bpe, piece, bytes, e->out);
}

/* Text without added tokens: well-formed stretches by the stages, each other byte alone. */
static status_t encode_plain(struct encoder *e, const char *text, size_t bytes)
{
    const struct tokenizer *t = e->tokenizer;
    while (bytes > 0) {
        const size_t n = utf8_prefix(text, bytes);
        TRY(pretokenize(t->stages, t->n_stages, &e->matcher, text, n, encode_piece, e));
        if (n == bytes) break;
        TRY(encode_piece(e, text + n, 1));
        text += n + 1;
        bytes -= n + 1;
    }
    return STATUS_OK;
}

/* What is left when added tokens of `level` have been found: first those of the text as it is,
 * then those of its normal form. */
static status_t encode_level(struct encoder *e, int level, const char *text, size_t bytes)
{
    if (level == 2) return encode_plain(e, text, bytes);
    if (level == 1 && e->tokenizer->is_nfc)
        TRY(nfc_normalize(&e->nfc, text, bytes, &text, &bytes));
    const struct trie *added = &e->added[level];
    struct added_search search = {0};
    struct added_match m;
    size_t done = 0;
    while (trie_next(added, text, bytes, &search, &m)) {
        if (m.start > done) TRY(encode_level(e, level + 1, text + done, m.start - done));
        TRY(token_list_reserve(e->out, 1));
        e->out->ids[e->out->n++] = m.id;
        done = m.end;
    }
    return done < bytes ? encode_level(e, level + 1, text + done, bytes - done)
                        : STATUS_OK;
}

status_t encoder_encode(struct encoder *e, const char *text, size_t bytes,
                        struct token_list *out)
{
    if (bytes == 0) return STATUS_OK;
    e->added = e->tokenizer->added;
    e->out = out;
    return encode_level(e, 0, text, bytes);
}

status_t encoder_encode_text(struct encoder *e, const char *text, size_t bytes,
                             struct token_list *out)
{
    if (bytes == 0) return STATUS_OK;
    e->added = e->tokenizer->plain;
    e->out = out;
    return encode_level(e, 0, text, bytes);
}

size_t tokenizer_cut(const struct tokenizer *t, const char *text, size_t bytes,
                     size_t from)
{
    if (!t->can_cut) return bytes;
    for (size_t at = from > 0 ? from : 1; at < bytes; at++)
        if (pretokenize_can_cut(text, at)) return at;
    return bytes;
}

status_t tokenizer_decode(const struct tokenizer *t, const int32_t *ids, int64_t n,
                          char **text, size_t *bytes)
{
    *text = NULL;
    *bytes = 0;
    size_t total = 0;
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= t->vocab_size)
            return status_set(STATUS_DATA, "token id %d, valid: 0 to %lld", (int)ids[i],
                              (long long)t->vocab_size - 1);
        total += t->tokens[ids[i]].bytes;
    }
    char *out = malloc(total + 1);
    if (!out) return status_set(STATUS_NOMEM, "no memory for %zu bytes of text", total);
    size_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        size_t length;
        const char *token = tokenizer_bytes(t, ids[i], &length);
        memcpy(out + at, token, length);
        at += length;
    }
    out[at] = '\0';
    *text = out;
    *bytes = total;
    return STATUS_OK;
}
