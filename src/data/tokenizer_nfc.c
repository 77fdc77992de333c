/* Only characters of the class CHAR_ACTIVE, and the one in front of them, can be changed by NFC
 * (Unicode Standard Annex #15); the others are copied.  That class is what Hugging Face's
 * `tokenizers` knows (Unicode 9), so marks that came later stay where they are, as they do there;
 * what becomes of those it knows cannot differ between versions of Unicode, which promises it. */
#include "data/tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum {
    MAX_DECOMPOSED = 4, /* characters that one stands for */
    SHORT_RUN = 32      /* marks up to which insertion beats counting */
};

void nfc_release(struct nfc *n)
{
    free(n->points);
    free(n->text);
    *n = (struct nfc){0};
}

static status_t reserve_text(struct nfc *n, size_t bytes)
{
    if (bytes <= n->text_capacity) return STATUS_OK;
    char *text = realloc(n->text, 2 * bytes);
    if (!text) return status_set(STATUS_NOMEM, "no memory for %zu bytes of text", bytes);
    n->text = text;
    n->text_capacity = 2 * bytes;
    return STATUS_OK;
}

static status_t reserve_points(struct nfc *n, size_t points)
{
    if (points <= n->points_capacity) return STATUS_OK;
    int32_t *larger = realloc(n->points, 2 * points * sizeof *larger);
    if (!larger)
        return status_set(STATUS_NOMEM, "no memory for %zu combining marks", points);
    n->points = larger;
    n->points_capacity = 2 * points;
    return STATUS_OK;
}

static unsigned order_of(int32_t point)
{
    return (unsigned)utf8proc_get_property(point)->combining_class & 0xFF;
}

static void insert_marks(int32_t *marks, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        const int32_t mark = marks[i];
        const unsigned order = order_of(mark);
        size_t k = i;
        for (; k > 0 && order_of(marks[k - 1]) > order; k--) marks[k] = marks[k - 1];
        marks[k] = mark;
    }
}

/* The same for any number of them in linear time; sorted: as much memory again. */
static void count_marks(int32_t *marks, size_t n, int32_t *sorted)
{
    size_t starts[257] = {0};
    for (size_t i = 0; i < n; i++) starts[order_of(marks[i]) + 1]++;
    for (int k = 1; k < 257; k++) starts[k] += starts[k - 1];
    for (size_t i = 0; i < n; i++) sorted[starts[order_of(marks[i])]++] = marks[i];
    memcpy(marks, sorted, n * sizeof *marks);
}

/* Canonical ordering: marks between two starters by their combining class, stably. */
static void order_marks(int32_t *points, size_t n, int32_t *scratch)
{
    for (size_t i = 0, end; i < n; i = end + 1) {
        for (end = i; end < n && order_of(points[end]) != 0; end++) {
        }
        if (end - i <= SHORT_RUN)
            insert_marks(points + i, end - i);
        else
            count_marks(points + i, end - i, scratch);
    }
}

/* Append the normal form of text[0..bytes), well-formed, to n->text[*at..). */
static status_t normalize(struct nfc *n, const char *text, size_t bytes, size_t *at)
{
    const size_t most = MAX_DECOMPOSED * bytes + 1;
    TRY(reserve_points(n, 2 * most));
    size_t n_points = 0, length;
    for (size_t i = 0; i < bytes; i += length) {
        const int32_t c = (int32_t)utf8_decode(text + i, &length);
        const utf8proc_ssize_t more =
            utf8proc_decompose_char(c, n->points + n_points, MAX_DECOMPOSED,
                                    UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, NULL);
        if (more < 1 || more > MAX_DECOMPOSED)
            return status_set(STATUS_DATA, "the character U+%04X cannot be normalised",
                              (unsigned)c);
        n_points += (size_t)more;
    }
    order_marks(n->points, n_points, n->points + most);
    const utf8proc_ssize_t written = utf8proc_reencode(
        n->points, (utf8proc_ssize_t)n_points, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    if (written < 0)
        return status_set(STATUS_DATA, "text cannot be normalised: %s",
                          utf8proc_errmsg(written));
    TRY(reserve_text(n, *at + (size_t)written));
    memcpy(n->text + *at, n->points, (size_t)written);
    *at += (size_t)written;
    return STATUS_OK;
}

static status_t copy(struct nfc *n, const char *text, size_t bytes, size_t *at)
{
    TRY(reserve_text(n, *at + bytes));
    if (bytes > 0) memcpy(n->text + *at, text, bytes);
    *at += bytes;
    return STATUS_OK;
}

/* Length of the character at text[0], 0 if it is none, and whether it is active. */
static inline size_t look_at(const uint8_t *classes, const char *text, size_t bytes,
                             bool *is_active)
{
    *is_active = false;
    if ((unsigned char)*text < 0x80) return 1;
    size_t length = utf8_sequence(text, bytes);
    if (length > 0) *is_active = (classes[utf8_decode(text, &length)] & CHAR_ACTIVE) != 0;
    return length;
}

/* A mark that came after Unicode 9, which is no mark here and joins nothing either. */
static bool is_newer_mark(const char *character, size_t bytes)
{
    size_t length;
    return bytes > 0 && order_of((int32_t)utf8_decode(character, &length)) != 0;
}

status_t nfc_normalize(struct nfc *n, const char *text, size_t bytes, const char **out,
                       size_t *out_bytes)
{
    const uint8_t *classes = char_classes();
    size_t done = 0, written = 0; /* text[0..done) is n->text[0..written) */
    size_t before = 0;            /* the character in front of `at`, or `at` */
    for (size_t at = 0, length; at < bytes;) {
        bool is_active;
        length = look_at(classes, text + at, bytes - at, &is_active);
        if (!is_active) {
            before = length > 0 ? at : at + 1;
            at += length > 0 ? length : 1;
            continue;
        }
        if (is_newer_mark(text + before, at - before)) before = at;
        while (is_active) {
            at += length;
            if (at == bytes) break;
            length = look_at(classes, text + at, bytes - at, &is_active);
        }
        TRY(copy(n, text + done, before - done, &written));
        TRY(normalize(n, text + before, at - before, &written));
        done = before = at;
    }
    *out = text;
    *out_bytes = bytes;
    if (done == 0) return STATUS_OK;
    TRY(copy(n, text + done, bytes - done, &written));
    *out = n->text;
    *out_bytes = written;
    return STATUS_OK;
}
