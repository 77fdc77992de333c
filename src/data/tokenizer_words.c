/* The published patterns without a regular-expression engine, which takes most of the time
 * otherwise.  Each function tries the alternatives of its pattern in their order:
 *
 *   GPT-2   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 *   GPT-4   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}
 *           | ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+                            */
#include "data/tokenizer_impl.h"

enum { KIND = CHAR_LETTER | CHAR_NUMBER | CHAR_SPACE }; /* 0: any other character */

/* The kind of the character at text[at], and where the next one begins. */
static inline unsigned kind_at(const uint8_t *classes, const char *text, size_t at,
                               size_t *next)
{
    size_t length;
    const uint32_t c = utf8_decode(text + at, &length);
    *next = at + length;
    return classes[c] & KIND;
}

/* The end of the characters of one kind that begin at `at`. */
static inline size_t run_end(const uint8_t *classes, const char *text, size_t bytes,
                             size_t at, unsigned kind)
{
    for (size_t next; at < bytes && kind_at(classes, text, at, &next) == kind;) at = next;
    return at;
}

static inline bool is_line_end(char c)
{
    return c == '\n' || c == '\r';
}

static inline char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

/* Length of the contraction that begins at the apostrophe s[0]; 0: none.  Of all characters
 * only U+017F is an s, t, r, e, v, m, l or d in another case that is not ASCII. */
static size_t contraction(const char *s, size_t n, bool any_case)
{
    if (n < 2) return 0;
    char a = s[1], b = n > 2 ? s[2] : '\0';
    if (any_case) {
        if (a == '\xC5' && b == '\xBF') return 3;
        a = lower(a);
        b = lower(b);
    }
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    return ((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* \s+(?!\S)|\s+ at the white space text[from]: all of it at the end of the text, otherwise all
 * but the last character, if that leaves any. */
static size_t spaces_end(const uint8_t *classes, const char *text, size_t bytes,
                         size_t from, bool line_ends_first)
{
    size_t end = from, last = from, behind_line_end = 0;
    for (size_t next; end < bytes && kind_at(classes, text, end, &next) == CHAR_SPACE;) {
        if (is_line_end(text[end])) behind_line_end = next;
        last = end;
        end = next;
    }
    if (line_ends_first && behind_line_end > 0) return behind_line_end; /* \s*[\r\n]+ */
    return end == bytes || last == from ? end : last;
}

static size_t next_gpt2(const uint8_t *classes, const char *text, size_t bytes,
                        size_t from)
{
    if (text[from] == '\'') {
        const size_t n = contraction(text + from, bytes - from, false);
        if (n > 0) return from + n;
    }
    const size_t at = text[from] == ' ' && from + 1 < bytes ? from + 1 : from;
    size_t next;
    const unsigned kind = kind_at(classes, text, at, &next);
    return kind == CHAR_SPACE ? spaces_end(classes, text, bytes, from, false)
                              : run_end(classes, text, bytes, next, kind);
}

static size_t numbers_end(const uint8_t *classes, const char *text, size_t bytes,
                          size_t at, int64_t most)
{
    size_t next;
    for (int64_t n = 0; n < most && at < bytes; n++, at = next)
        if (kind_at(classes, text, at, &next) != CHAR_NUMBER) break;
    return at;
}

static size_t next_gpt4(const uint8_t *classes, const char *text, size_t bytes,
                        size_t from, int64_t max_digits)
{
    const char c = text[from];
    if (c == '\'') {
        const size_t n = contraction(text + from, bytes - from, true);
        if (n > 0) return from + n;
    }
    size_t next, second;
    const unsigned kind = kind_at(classes, text, from, &next);
    if (kind == CHAR_LETTER) return run_end(classes, text, bytes, next, CHAR_LETTER);
    if (kind == CHAR_NUMBER) return numbers_end(classes, text, bytes, from, max_digits);
    const unsigned kind2 =
        next < bytes ? kind_at(classes, text, next, &second) : CHAR_SPACE;
    if (kind2 == CHAR_LETTER && !is_line_end(c))
        return run_end(classes, text, bytes, second, CHAR_LETTER);
    if (kind == CHAR_SPACE && !(c == ' ' && kind2 == 0))
        return spaces_end(classes, text, bytes, from, true);
    size_t end = run_end(classes, text, bytes, next, 0);
    while (end < bytes && is_line_end(text[end])) end++;
    return end;
}

size_t words_next(const struct stage *s, const uint8_t *classes, const char *text,
                  size_t bytes, size_t from)
{
    return s->kind == STAGE_GPT2 ? next_gpt2(classes, text, bytes, from)
                                 : next_gpt4(classes, text, bytes, from, s->max_digits);
}

bool words_digits(const struct stage *s, const uint8_t *classes, const char *text,
                  size_t bytes, size_t from, size_t *start, size_t *end)
{
    int64_t n = 0;
    size_t length;
    for (size_t at = from; at < bytes; at += length) {
        const bool is_digit =
            (classes[utf8_decode(text + at, &length)] & CHAR_NUMERIC) != 0;
        if (is_digit && n++ == 0) *start = at;
        if (is_digit) *end = at + length;
        if (n > 0 && (!is_digit || n == s->max_digits)) break;
    }
    return n > 0;
}
