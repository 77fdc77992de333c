/* Differences between two dumps (config_dump.c writes them): sections at the margin, keys two blanks
 * in, the items of a list below their key four blanks in.  A stage begins with its name, two blanks
 * in, and the rest of it is like a dump four blanks in. */
#include "config/config_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct entry {
    char *key, *value; /* "train.steps", "100"; owned */
};

struct entries {
    struct entry *items;
    size_t n;
};

static void release(struct entries *e)
{
    for (size_t i = 0; i < e->n; i++) {
        free(e->items[i].key);
        free(e->items[i].value);
    }
    free(e->items);
    *e = (struct entries){0};
}

/* "a" of n bytes, or "a b" with what is there already. */
static bool append(char **text, const char *more, size_t n)
{
    const size_t have = *text ? strlen(*text) : 0, gap = have > 0 ? 1 : 0;
    char *longer = realloc(*text, have + gap + n + 1);
    if (!longer) return false;
    if (gap) longer[have] = ' ';
    memcpy(longer + have + gap, more, n);
    longer[have + gap + n] = '\0';
    *text = longer;
    return true;
}

/* Where in a dump a line is. */
struct place {
    char stage[CONFIG_NAME_BYTES + 16]; /* "stages.NAME.", or "" */
    const char *section;                /* of section_bytes */
    size_t section_bytes;
};

/* The key that is written at `line`, its name `name` bytes long. */
static char *key_at(const struct place *p, const char *line, size_t name)
{
    const size_t bytes = strlen(p->stage) + p->section_bytes + name + 2;
    char *key = malloc(bytes);
    if (key)
        snprintf(key, bytes, "%s%.*s%s%.*s", p->stage, (int)p->section_bytes, p->section,
                 p->section_bytes > 0 ? "." : "", (int)name, line);
    return key;
}

/* A line that names a stage. */
static void begin_stage(struct place *p, const char *name, size_t n)
{
    const char *end = memchr(name, '"', n);
    snprintf(p->stage, sizeof p->stage, "stages.%.*s.",
             (int)(end && (size_t)(end - name) < CONFIG_NAME_BYTES ? end - name : 0),
             name);
    p->section_bytes = 0;
}

/* A line of `n` bytes without its end; it may change the place. */
static bool take_line(struct entries *e, struct place *p, const char *line, size_t n)
{
    static const char stage[] = "  - name: \"";
    if (n >= sizeof stage && strncmp(line, stage, sizeof stage - 1) == 0) {
        begin_stage(p, line + sizeof stage - 1, n - sizeof stage + 1);
        return true;
    }
    size_t indent = strspn(line, " ");
    if (indent >= n) return true;
    if (p->stage[0] && indent < 4) p->stage[0] = '\0';
    const size_t margin = p->stage[0] ? 4 : 0;
    if (indent == margin && line[n - 1] == ':') {
        p->section = line + margin;
        p->section_bytes = n - margin - 1;
        return true;
    }
    const char *colon = memchr(line, ':', n);
    if (indent >= margin + 4 || !colon) /* an item of a list */
        return e->n == 0 || append(&e->items[e->n - 1].value, line + indent, n - indent);
    struct entry *items = realloc(e->items, (e->n + 1) * sizeof *items);
    if (!items) return false;
    e->items = items;
    struct entry *new = &items[e->n++];
    *new =
        (struct entry){.key = key_at(p, line + indent, (size_t)(colon - line) - indent)};
    if (!new->key) return false;
    const char *value = colon + 1 + strspn(colon + 1, " ");
    const char *end = line + n;
    return append(&new->value, value, value < end ? (size_t)(end - value) : 0);
}

static status_t parse(struct entries *e, const char *text)
{
    struct place place = {.section = ""};
    while (*text) {
        const size_t n = strcspn(text, "\n");
        if (n > 0 && !take_line(e, &place, text, n))
            return status_set(STATUS_NOMEM, "no memory to compare configurations");
        text += n + (text[n] == '\n');
    }
    return STATUS_OK;
}

/* NULL: e has no such key. */
static const char *value_of(const struct entries *e, const char *key)
{
    for (size_t i = 0; i < e->n; i++)
        if (strcmp(e->items[i].key, key) == 0) return e->items[i].value;
    return NULL;
}

status_t config_compare(const char *before, const char *now, config_say *say,
                        void *context)
{
    struct entries a = {0}, b = {0};
    status_t st = parse(&a, before);
    if (st == STATUS_OK) st = parse(&b, now);
    for (size_t i = 0; i < a.n && st == STATUS_OK; i++) {
        const char *other = value_of(&b, a.items[i].key);
        if (!other || strcmp(other, a.items[i].value) != 0)
            say(context, a.items[i].key, a.items[i].value, other);
    }
    for (size_t i = 0; i < b.n && st == STATUS_OK; i++)
        if (!value_of(&a, b.items[i].key))
            say(context, b.items[i].key, NULL, b.items[i].value);
    release(&b);
    release(&a);
    return st;
}
