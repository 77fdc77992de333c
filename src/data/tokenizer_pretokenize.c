#include "data/tokenizer_impl.h"

#include <stdlib.h>

enum { JIT_STACK_BYTES = 1 << 20 };

status_t matcher_init(struct matcher *m)
{
    *m =
        (struct matcher){.data = pcre2_match_data_create(1, NULL),
                         .context = pcre2_match_context_create(NULL),
                         .stack = pcre2_jit_stack_create(1 << 15, JIT_STACK_BYTES, NULL)};
    if (!m->data || !m->context)
        return status_set(STATUS_NOMEM, "no memory for the pre-tokenizer");
    /* without JIT there is no stack either, and none is needed */
    if (m->stack) pcre2_jit_stack_assign(m->context, NULL, m->stack);
    return STATUS_OK;
}

void matcher_release(struct matcher *m)
{
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->context);
    pcre2_jit_stack_free(m->stack);
    *m = (struct matcher){0};
}

/* The leftmost match in text[from..bytes); *found = false if there is none. */
static inline status_t match(const struct stage *s, const struct matcher *m,
                             const char *text, size_t bytes, size_t from, size_t *start,
                             size_t *end, bool *found)
{
    const int rc = s->has_jit ? pcre2_jit_match(s->code, (PCRE2_SPTR)text, bytes, from,
                                                PCRE2_NO_UTF_CHECK, m->data, m->context)
                              : pcre2_match(s->code, (PCRE2_SPTR)text, bytes, from,
                                            PCRE2_NO_UTF_CHECK, m->data, m->context);
    *found = rc >= 0;
    if (*found) {
        const PCRE2_SIZE *range = pcre2_get_ovector_pointer(m->data);
        *start = range[0];
        *end = range[1];
    } else if (rc != PCRE2_ERROR_NOMATCH) {
        PCRE2_UCHAR why[128] = "";
        pcre2_get_error_message(rc, why, sizeof why);
        return status_set(STATUS_DATA,
                          "the pre-tokenizer's pattern fails on a text of %zu bytes: %s",
                          bytes, (const char *)why);
    }
    return STATUS_OK;
}

status_t pretokenize(const struct stage *stages, int n_stages, const struct matcher *m,
                     const char *text, size_t bytes, piece_fn *piece, void *context)
{
    if (n_stages == 0) return bytes > 0 ? piece(context, text, bytes) : STATUS_OK;
    size_t done = 0; /* text[0..done) has been handed on */
    for (size_t from = 0; from < bytes;) {
        size_t start, end;
        bool found;
        TRY(match(stages, m, text, bytes, from, &start, &end, &found));
        if (!found) break;
        if (start > done && !stages->drops_gaps)
            TRY(pretokenize(stages + 1, n_stages - 1, m, text + done, start - done, piece,
                            context));
        if (end > start)
            TRY(pretokenize(stages + 1, n_stages - 1, m, text + start, end - start, piece,
                            context));
        done = from = end;
        if (end == start) /* an empty match only divides; the search goes on behind it */
            do from++;
            while (from < bytes && ((unsigned char)text[from] & 0xC0) == 0x80);
    }
    if (done < bytes && !stages->drops_gaps)
        return pretokenize(stages + 1, n_stages - 1, m, text + done, bytes - done, piece,
                           context);
    return STATUS_OK;
}

/* A cut between a printable ASCII character c and a space:
 *
 * - The GPT-2 and GPT-4 patterns divide there.  They cover every character, and no piece of
 *   theirs has a space behind a character that is not one: they are letters, digits or other
 *   characters with at most one character in front, other characters with line ends behind, or
 *   white space only.  The digit patterns may leave a gap across the cut, so they alone do not
 *   do; with one of the others before or behind them, the pieces end there.
 * - Pieces in front do not change when the text ends at the cut: a pattern looks at the
 *   following character only to extend a run, which a space ends as the end of the text does,
 *   and to see what follows white space, which c stands between.
 * - Pieces behind do not change: no pattern looks back. */
bool pretokenize_can_cut(const char *text, size_t at)
{
    return text[at] == ' ' && text[at - 1] > ' ' && text[at - 1] <= '~';
}
