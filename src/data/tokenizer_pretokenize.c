#include "data/tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>

enum { JIT_STACK_BYTES = 1 << 20 };

status_t matcher_init(struct matcher *m)
{
    *m =
        (struct matcher){.classes = char_classes(),
                         .data = pcre2_match_data_create(1, NULL),
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
    free(m->spaced);
    *m = (struct matcher){0};
}

/* The leftmost match in text[from..bytes); *found = false if there is none. */
static status_t match_pattern(const struct stage *s, const struct matcher *m,
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

static inline status_t match(const struct stage *s, const struct matcher *m,
                             const char *text, size_t bytes, size_t from, size_t *start,
                             size_t *end, bool *found)
{
    *found = true;
    switch (s->kind) {
    case STAGE_PATTERN:
        return match_pattern(s, m, text, bytes, from, start, end, found);
    case STAGE_DIGITS:
        *found = words_digits(s, m->classes, text, bytes, from, start, end);
        return STATUS_OK;
    default:
        *start = from;
        *end = words_next(s, m->classes, text, bytes, from);
        return STATUS_OK;
    }
}

/* Who gets the pieces of a stage, and the last one while the next may be joined to it. */
struct joiner {
    const struct stage *stages; /* this one and what follows */
    int n_stages;
    struct matcher *matcher;
    piece_fn *piece;
    void *context;
    const char *text;
    size_t start, end; /* of the piece that waits; equal: none */
    bool waits_matched, last_matched;
};

static status_t hand_on(const struct joiner *j, size_t start, size_t end)
{
    if (start == end) return STATUS_OK;
    return j->n_stages == 1
               ? j->piece(j->context, j->text + start, end - start)
               : pretokenize(j->stages + 1, j->n_stages - 1, j->matcher, j->text + start,
                             end - start, j->piece, j->context);
}

/* Is the piece that follows the waiting one, and matches or not, joined to it? */
static bool is_joined(const struct joiner *j, bool matched)
{
    switch (j->stages->behavior) {
    case STAGE_CONTIGUOUS:
        return matched == j->last_matched;
    case STAGE_MERGED_WITH_PREVIOUS:
        return matched && !j->last_matched;
    case STAGE_MERGED_WITH_NEXT:
        return !matched && j->waits_matched;
    default:
        return false;
    }
}

static status_t take(struct joiner *j, size_t start, size_t end, bool is_match)
{
    const bool matched = is_match != j->stages->invert;
    if (j->stages->behavior == STAGE_ISOLATED) return hand_on(j, start, end);
    if (j->stages->behavior == STAGE_REMOVED)
        return matched ? STATUS_OK : hand_on(j, start, end);
    if (j->end > j->start && is_joined(j, matched)) {
        j->end = end;
        j->waits_matched = false;
    } else {
        TRY(hand_on(j, j->start, j->end));
        j->start = start;
        j->end = end;
        j->waits_matched = matched;
    }
    j->last_matched = matched;
    return STATUS_OK;
}

static status_t put_space(const struct stage *stages, int n_stages, struct matcher *m,
                          const char *text, size_t bytes, piece_fn *piece, void *context)
{
    if (bytes + 1 > m->spaced_capacity) {
        char *larger = realloc(m->spaced, 2 * bytes + 1);
        if (!larger)
            return status_set(STATUS_NOMEM, "no memory for %zu bytes of text", bytes);
        m->spaced = larger;
        m->spaced_capacity = 2 * bytes + 1;
    }
    m->spaced[0] = ' ';
    memcpy(m->spaced + 1, text, bytes);
    return pretokenize(stages + 1, n_stages - 1, m, m->spaced, bytes + 1, piece, context);
}

status_t pretokenize(const struct stage *stages, int n_stages, struct matcher *m,
                     const char *text, size_t bytes, piece_fn *piece, void *context)
{
    if (bytes == 0) return STATUS_OK;
    if (n_stages == 0) return piece(context, text, bytes);
    if (stages->kind == STAGE_SPACE)
        return *text == ' '
                   ? pretokenize(stages + 1, n_stages - 1, m, text, bytes, piece, context)
                   : put_space(stages, n_stages, m, text, bytes, piece, context);
    struct joiner j = {.stages = stages,
                       .n_stages = n_stages,
                       .matcher = m,
                       .piece = piece,
                       .context = context,
                       .text = text};
    size_t done = 0; /* text[0..done) has been taken */
    for (size_t from = 0; from < bytes;) {
        size_t start, end;
        bool found;
        TRY(match(stages, m, text, bytes, from, &start, &end, &found));
        if (!found) break;
        if (start > done) TRY(take(&j, done, start, false));
        TRY(take(&j, start, end, true));
        done = from = end;
        if (end == start) /* an empty match only divides; the search goes on behind it */
            do from++;
            while (from < bytes && ((unsigned char)text[from] & 0xC0) == 0x80);
    }
    if (done < bytes) TRY(take(&j, done, bytes, false));
    return hand_on(&j, j.start, j.end);
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
