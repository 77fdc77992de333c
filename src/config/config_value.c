#include "config/config_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const *choices(const struct config_key *k)
{
    return k->type == CONFIG_FAMILY ? arch_families() : k->names;
}

void config_valid(const struct config_key *k, char out[CONFIG_VALID_BYTES])
{
    const size_t size = CONFIG_VALID_BYTES;
    size_t n = 0;
    switch (k->type) {
    case CONFIG_BOOL:
        snprintf(out, size, "true or false");
        return;
    case CONFIG_INTEGER:
        snprintf(out, size, "a whole number from %.0f to %.0f%s%s", k->low, k->high,
                 k->zero ? ", or " : "", k->zero ? k->zero : "");
        return;
    case CONFIG_NUMBER:
        snprintf(out, size, "a number from %.15g to %.15g", k->low, k->high);
        return;
    case CONFIG_ENUM:
    case CONFIG_FAMILY:
        out[0] = '\0';
        for (const char *const *name = choices(k); *name && n < size; name++)
            n += (size_t)snprintf(out + n, size - n, "%s%s", n ? ", " : "", *name);
        return;
    case CONFIG_TEXT:
        snprintf(out, size, "text of %.0f to %.0f bytes", k->low, k->high);
        return;
    case CONFIG_SOURCES:
        snprintf(out, size, "a path, a list of paths, or a list of {path, weight, ...}");
        return;
    }
}

static status_t invalid(const struct config *c, const struct config_key *k,
                        const struct config_scalar *s, const char *what)
{
    char valid[CONFIG_VALID_BYTES];
    config_valid(k, valid);
    if (s->plain && s->bytes == 0)
        return config_refuse(c, s->place, "%s: has no value (valid: %s)", k->name, valid);
    return config_refuse(c, s->place, "%s: %s %s%s (valid: %s)", k->name,
                         config_quote(s->text).text, s->plain ? "" : "in quotes ", what,
                         valid);
}

/* Decimal digits with a sign and no leading zero: YAML 1.1 readers take 010 for eight. */
bool config_read_integer(const char *text, int64_t *value)
{
    const bool negative = *text == '-';
    if (*text == '-' || *text == '+') text++;
    if (*text == '\0' || (*text == '0' && text[1] != '\0')) return false;
    int64_t x = 0; /* negative, as -2^63 has no positive twin */
    bool fits = true;
    for (; *text; text++) {
        if (*text < '0' || *text > '9') return false;
        fits = fits && !__builtin_mul_overflow(x, 10, &x) &&
               !__builtin_sub_overflow(x, *text - '0', &x);
    }
    if (!negative) fits = fits && !__builtin_sub_overflow(0, x, &x);
    if (!fits) x = negative ? INT64_MIN : INT64_MAX; /* out of any bounds */
    *value = x;
    return true;
}

bool config_read_number(const char *text, double *value)
{
    if (*text == '\0' || strspn(text, "0123456789+-.eE") != strlen(text)) return false;
    char *end;
    *value = strtod(text, &end);
    return *end == '\0';
}

static status_t set_integer(struct config *c, const struct config_key *k,
                            const struct config_scalar *s)
{
    int64_t x = 0;
    if (k->zero && strcmp(s->text, k->zero) == 0) {
        *(int64_t *)config_field(c, k) = 0;
        return STATUS_OK;
    }
    if (!s->plain || !config_read_integer(s->text, &x))
        return invalid(c, k, s, "is not a whole number");
    if ((double)x < k->low || (double)x > k->high)
        return invalid(c, k, s, "is out of bounds");
    *(int64_t *)config_field(c, k) = x;
    return STATUS_OK;
}

static status_t set_number(struct config *c, const struct config_key *k,
                           const struct config_scalar *s)
{
    double x = 0;
    if (!s->plain || !config_read_number(s->text, &x))
        return invalid(c, k, s, "is not a number");
    if (!(x >= k->low && x <= k->high)) return invalid(c, k, s, "is out of bounds");
    *(double *)config_field(c, k) = x;
    return STATUS_OK;
}

static status_t set_bool(struct config *c, const struct config_key *k,
                         const struct config_scalar *s)
{
    const bool yes = strcmp(s->text, "true") == 0;
    if (!s->plain || (!yes && strcmp(s->text, "false") != 0))
        return invalid(c, k, s, "is not a boolean");
    *(bool *)config_field(c, k) = yes;
    return STATUS_OK;
}

/* Index of the text among the choices, -1 if it is none of them. */
static int chosen(const struct config_key *k, const char *text)
{
    const char *const *names = choices(k);
    for (int i = 0; names[i]; i++)
        if (strcmp(names[i], text) == 0) return i;
    return -1;
}

/* Bytes that would break a line of a log, a path or the dump: controls, line and paragraph
 * separators, byte order marks and what is no character (YAML can write all of them). */
static bool has_odd_characters(const char *text, size_t bytes)
{
    static const char *const odd[] = {"\xE2\x80\xA8", "\xE2\x80\xA9", "\xEF\xBB\xBF",
                                      "\xEF\xBF\xBE", "\xEF\xBF\xBF"};
    for (size_t i = 0; i < bytes; i++) {
        const unsigned char b = (unsigned char)text[i];
        if (b < 0x20 || b == 0x7F) return true;
        if (b == 0xC2 && (unsigned char)text[i + 1] < 0xA0) return true;
    }
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        if (strstr(text, odd[i])) return true;
    return false;
}

/* A copy of a scalar that is a text within the key's bounds. */
static status_t copy_text(const struct config *c, const struct config_key *k,
                          const struct config_scalar *s, double least, char **copy)
{
    const bool null = s->plain && (s->bytes == 0 || strcmp(s->text, "~") == 0 ||
                                   strcmp(s->text, "null") == 0);
    const double most = k->type == CONFIG_TEXT ? k->high : 4095;
    if (null || (double)s->bytes < least) return invalid(c, k, s, "is no text");
    if (has_odd_characters(s->text, s->bytes))
        return invalid(c, k, s, "has control characters");
    if ((double)s->bytes > most) return invalid(c, k, s, "is too long");
    *copy = strdup(s->text);
    if (!*copy) return status_set(STATUS_NOMEM, "%s: no memory", k->name);
    return STATUS_OK;
}

static status_t set_text(struct config *c, const struct config_key *k,
                         const struct config_scalar *s)
{
    char *copy;
    TRY(copy_text(c, k, s, k->low, &copy));
    config_clear(c, k);
    *(char **)config_field(c, k) = copy;
    return STATUS_OK;
}

status_t config_set(struct config *c, const struct config_key *k,
                    const struct config_scalar *s)
{
    switch (k->type) {
    case CONFIG_BOOL:
        return set_bool(c, k, s);
    case CONFIG_INTEGER:
        return set_integer(c, k, s);
    case CONFIG_NUMBER:
        return set_number(c, k, s);
    case CONFIG_ENUM:
    case CONFIG_FAMILY:
        if (chosen(k, s->text) < 0) return invalid(c, k, s, "is not known");
        if (k->type == CONFIG_FAMILY) return set_text(c, k, s);
        *(int *)config_field(c, k) = chosen(k, s->text);
        return STATUS_OK;
    case CONFIG_TEXT:
        return set_text(c, k, s);
    case CONFIG_SOURCES:
        return config_add_source(c, k, s);
    }
    return status_set(STATUS_INTERNAL, "%s: has no type", k->name);
}

status_t config_add_source(struct config *c, const struct config_key *k,
                           const struct config_scalar *path)
{
    struct config_sources *list = config_field(c, k);
    char *copy;
    TRY(copy_text(c, k, path, 1, &copy));
    struct data_source *items =
        realloc(list->items, ((size_t)list->n + 1) * sizeof *items);
    if (!items) {
        free(copy);
        return status_set(STATUS_NOMEM, "%s: no memory", k->name);
    }
    items[list->n] = (struct data_source){.path = copy, .weight = 1};
    list->items = items;
    list->n++;
    return STATUS_OK;
}

status_t config_add_path(struct config *c, const struct config_key *k,
                         const struct config_scalar *path)
{
    const struct config_sources *list = config_field(c, k);
    struct data_source *source = &list->items[list->n - 1];
    char *copy;
    TRY(copy_text(c, k, path, 1, &copy));
    const size_t bytes = strlen(source->path) + strlen(copy) + 2;
    char *paths = malloc(bytes);
    if (paths) {
        snprintf(paths, bytes, "%s\n%s", source->path, copy);
        free(source->path);
        source->path = paths;
    }
    free(copy);
    return paths ? STATUS_OK : status_set(STATUS_NOMEM, "%s: no memory", k->name);
}

void config_clear(struct config *c, const struct config_key *k)
{
    if (k->type == CONFIG_SOURCES) {
        struct config_sources *list = config_field(c, k);
        for (int i = 0; i < list->n; i++) free(list->items[i].path);
        free(list->items);
        *list = (struct config_sources){0};
    } else if (k->type == CONFIG_TEXT || k->type == CONFIG_FAMILY) {
        char **text = config_field(c, k);
        free(*text);
        *text = NULL;
    }
}
