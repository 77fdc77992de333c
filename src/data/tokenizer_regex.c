/* Patterns in tokenizer.json are written for Oniguruma (Ruby syntax).  PCRE2 reads most of them
 * the same way; what it would read differently is either rewritten (\s) or refused, so that a
 * pattern never quietly means something else.  Left over: characters that entered Unicode
 * between the versions that the two libraries know, and foldings of one character to several
 * under (?i:...).  The published patterns do not come here (tokenizer_words.c). */
#include "data/tokenizer_impl.h"

#include <ctype.h>
#include <string.h>

/* Unicode White_Space, which is what \s means there; PCRE2's own \s has U+180E as well */
#define SPACES                                                                           \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}"   \
    "\\x{202f}\\x{205f}\\x{3000}"
#define NOT_SPACES                                                                       \
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}"         \
    "\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}"       \
    "\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}"

struct translation {
    const char *file, *at; /* at: what is still to be read */
    char out[8 * MAX_PATTERN_BYTES];
    size_t n;
    bool inside_class, is_full;
};

static void put(struct translation *t, const char *text, size_t n)
{
    t->is_full = t->is_full || n > sizeof t->out - t->n;
    if (t->is_full) return;
    memcpy(t->out + t->n, text, n);
    t->n += n;
}

static void put_string(struct translation *t, const char *text)
{
    put(t, text, strlen(text));
}

static status_t refuse(const struct translation *t, const char *at, int n)
{
    return parse_refuse(t->file,
                        "pre_tokenizer: \"%.*s\" in a pattern is not implemented", n, at);
}

/* \p{L}, \P{Lu}: general categories only; scripts mean different sets in the two libraries. */
static status_t put_property(struct translation *t)
{
    const char *p = t->at + 2;
    if (*p++ != '{' || !isupper((unsigned char)*p)) return refuse(t, t->at, 2);
    p++;
    if (islower((unsigned char)*p)) p++;
    if (*p != '}') return refuse(t, t->at, (int)strcspn(t->at, "}") + 1);
    put(t, t->at, (size_t)(p + 1 - t->at));
    t->at = p + 1;
    return STATUS_OK;
}

static status_t put_escape(struct translation *t)
{
    const char c = t->at[1];
    if (c == 'p' || c == 'P') return put_property(t);
    const bool is_set = c && strchr("sSdD", c);
    if (c == 's')
        put_string(t, t->inside_class ? SPACES : "[" SPACES "]");
    else if (c == 'S')
        put_string(t, t->inside_class ? NOT_SPACES : "[^" SPACES "]");
    else if (c && (strchr("dDrntf", c) || ispunct((unsigned char)c)))
        put(t, t->at, 2);
    else
        return refuse(t, t->at, c > ' ' && c <= '~' ? 2 : 1);
    t->at += 2;
    if (t->inside_class && is_set && t->at[0] == '-' && t->at[1] != ']')
        return refuse(t, t->at - 2, 3); /* a range that begins with a set */
    return STATUS_OK;
}

static status_t put_class(struct translation *t)
{
    const char *begin = t->at++;
    t->inside_class = true;
    put(t, "[", 1);
    if (*t->at == '^') put(t, t->at++, 1);
    if (*t->at == ']') return refuse(t, begin, (int)(t->at - begin) + 1);
    while (*t->at != ']') {
        if (!*t->at)
            return status_set(STATUS_DATA, "%s: pre_tokenizer: a pattern lacks a ]",
                              t->file);
        if (*t->at == '\\') {
            TRY(put_escape(t));
            continue;
        }
        if (*t->at == '[' || (t->at[0] == '&' && t->at[1] == '&'))
            return refuse(t, t->at, *t->at == '[' ? 1 : 2);
        put(t, t->at++, 1);
    }
    put(t, t->at++, 1);
    t->inside_class = false;
    return STATUS_OK;
}

/* {n}, {n,} and {n,m}, followed by neither ? nor +: those differ between the dialects. */
static status_t put_interval(struct translation *t)
{
    const char *p = t->at + 1;
    if (!isdigit((unsigned char)*p)) return refuse(t, t->at, 1);
    while (isdigit((unsigned char)*p)) p++;
    if (*p == ',') p++;
    while (isdigit((unsigned char)*p)) p++;
    if (*p != '}') return refuse(t, t->at, 1);
    p++;
    if (*p == '?' || *p == '+' || *p == '*')
        return refuse(t, t->at, (int)(p + 1 - t->at));
    put(t, t->at, (size_t)(p - t->at));
    t->at = p;
    return STATUS_OK;
}

static status_t put_group(struct translation *t)
{
    static const char *const known[] = {
        "(?:", "(?i:", "(?!", "(?=", "(?<!", "(?<=", "(?>"};
    if (t->at[1] == '*') return refuse(t, t->at, 2);
    if (t->at[1] != '?') {
        put(t, t->at++, 1);
        return STATUS_OK;
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const size_t n = strlen(known[i]);
        if (strncmp(t->at, known[i], n) != 0) continue;
        put(t, t->at, n);
        t->at += n;
        return STATUS_OK;
    }
    return refuse(t, t->at, 2);
}

static status_t translate(struct translation *t)
{
    while (*t->at) {
        if (*t->at == '\\')
            TRY(put_escape(t));
        else if (*t->at == '[')
            TRY(put_class(t));
        else if (*t->at == '{')
            TRY(put_interval(t));
        else if (*t->at == '(')
            TRY(put_group(t));
        else if (*t->at == '^' || *t->at == '$')
            return refuse(t, t->at, 1);
        else
            put(t, t->at++, 1);
    }
    if (t->is_full)
        return status_set(STATUS_DATA, "%s: pre_tokenizer: a pattern has too many \\s",
                          t->file);
    return STATUS_OK;
}

/* ---- compiling --------------------------------------------------------------------------- */

const char pattern_gpt2[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* The patterns that tokenizer_words.c knows. */
static bool is_published(struct stage *s, const char *pattern)
{
#define GPT4(digits)                                                                     \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits                 \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
    static const struct published {
        const char *pattern;
        struct stage stage;
    } published[] = {{pattern_gpt2, {.kind = STAGE_GPT2}},
                     {GPT4("\\p{N}{1,3}"), {.kind = STAGE_GPT4, .max_digits = 3}},
                     {GPT4("\\p{N}"), {.kind = STAGE_GPT4, .max_digits = 1}}};
#undef GPT4
    for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
        if (strcmp(pattern, published[i].pattern) != 0) continue;
        *s = published[i].stage;
        s->cut = STAGE_CUT_DIVIDES;
        return true;
    }
    return false;
}

status_t stage_compile(struct stage *s, const char *file, const char *pattern,
                       bool is_literal)
{
    *s = (struct stage){.kind = STAGE_PATTERN};
    if (!is_literal && is_published(s, pattern)) return STATUS_OK;
    const size_t n = strlen(pattern);
    if (n == 0 || n > MAX_PATTERN_BYTES)
        return status_set(STATUS_DATA,
                          "%s: pre_tokenizer: a pattern has %zu bytes, valid: 1 to %d",
                          file, n, MAX_PATTERN_BYTES);
    struct translation t = {.file = file, .at = pattern};
    if (is_literal)
        put(&t, pattern, n);
    else
        TRY(translate(&t));
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) return status_set(STATUS_NOMEM, "%s: no memory for a pattern", file);
    pcre2_set_newline(context, PCRE2_NEWLINE_LF); /* what a dot does not match */
    const uint32_t options = is_literal ? PCRE2_UTF | PCRE2_LITERAL
                                        : PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C;
    int code;
    size_t at;
    s->code = pcre2_compile((PCRE2_SPTR)t.out, t.n, options, &code, &at, context);
    pcre2_compile_context_free(context);
    if (!s->code) {
        PCRE2_UCHAR text[128] = "";
        pcre2_get_error_message(code, text, sizeof text);
        return status_set(STATUS_DATA, "%s: pre_tokenizer: a pattern is not valid: %s",
                          file, (const char *)text);
    }
    /* without JIT (no such processor, or no executable memory) matching is slower, not wrong */
    s->has_jit = pcre2_jit_compile(s->code, PCRE2_JIT_COMPLETE) == 0;
    const bool numbers =
        strcmp(pattern, "\\p{N}") == 0 || strcmp(pattern, "\\p{N}+") == 0;
    s->cut = numbers && !is_literal ? STAGE_CUT_KEEPS : STAGE_CUT_UNKNOWN;
    return STATUS_OK;
}
