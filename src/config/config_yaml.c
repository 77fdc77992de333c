/* The reader walks libyaml's events, not its documents: an event tells whether the text used
 * an anchor, an alias or a tag (all refused: a configuration says what it means in place), and
 * nothing is built that a hostile file could make large or deep. */
#include "config/config_impl.h"

#include <stdio.h>
#include <string.h>
#include <yaml.h>

struct reader {
    struct config *c;
    yaml_parser_t parser;
    yaml_event_t event; /* the current one */
    int override;       /* -1: the file */
    const char *text;
    int sections[CONFIG_MAX_KEYS]; /* where the section of key i was begun */
    int stages;                    /* where the list of stages was */
};

static int place_of(const struct reader *r, size_t line)
{
    return r->override >= 0 ? -1 - r->override : (int)line + 1;
}

static int here(const struct reader *r)
{
    return place_of(r, r->event.start_mark.line);
}

static status_t refuse_syntax(const struct reader *r)
{
    const yaml_parser_t *p = &r->parser;
    size_t line = p->problem_mark.line;
    if (p->error == YAML_MEMORY_ERROR)
        return status_set(STATUS_NOMEM, "%s: no memory", r->c->places->name);
    if (p->error == YAML_READER_ERROR) { /* these come with an offset only */
        line = 0;
        for (size_t i = 0; i < p->problem_offset && r->text[i]; i++)
            line += r->text[i] == '\n';
    }
    return config_refuse(r->c, place_of(r, line), "not valid YAML: %s%s%s",
                         p->context ? p->context : "", p->context ? ", " : "",
                         p->problem ? p->problem : "unknown error");
}

static status_t refuse_extras(const struct reader *r)
{
    const yaml_event_t *e = &r->event;
    const yaml_char_t *anchor = NULL, *tag = NULL;
    if (e->type == YAML_ALIAS_EVENT)
        return config_refuse(r->c, here(r), "aliases (*name) are not supported");
    if (e->type == YAML_SCALAR_EVENT) {
        anchor = e->data.scalar.anchor;
        tag = e->data.scalar.tag;
    } else if (e->type == YAML_SEQUENCE_START_EVENT) {
        anchor = e->data.sequence_start.anchor;
        tag = e->data.sequence_start.tag;
    } else if (e->type == YAML_MAPPING_START_EVENT) {
        anchor = e->data.mapping_start.anchor;
        tag = e->data.mapping_start.tag;
    }
    if (anchor) return config_refuse(r->c, here(r), "anchors (&name) are not supported");
    if (tag) return config_refuse(r->c, here(r), "tags (!name) are not supported");
    return STATUS_OK;
}

static status_t next(struct reader *r)
{
    yaml_event_delete(&r->event);
    if (!yaml_parser_parse(&r->parser, &r->event)) return refuse_syntax(r);
    return refuse_extras(r);
}

/* The current event, a scalar; valid until `next`. */
static struct config_scalar scalar(const struct reader *r)
{
    return (struct config_scalar){.text = (const char *)r->event.data.scalar.value,
                                  .bytes = r->event.data.scalar.length,
                                  .plain = r->event.data.scalar.style ==
                                           YAML_PLAIN_SCALAR_STYLE,
                                  .place = here(r)};
}

/* P, or a list of them; the current event. */
static status_t read_paths(struct reader *r, const struct config_key *k)
{
    const int begin = here(r);
    const bool list = r->event.type == YAML_SEQUENCE_START_EVENT;
    for (int n = 0;; n++) {
        if (list) TRY(next(r));
        if (list && n > 0 && r->event.type == YAML_SEQUENCE_END_EVENT) return STATUS_OK;
        if (r->event.type != YAML_SCALAR_EVENT)
            return config_refuse(
                r->c, begin, "%s: path is neither a path nor a list of them", k->name);
        const struct config_scalar s = scalar(r);
        TRY(n == 0 ? config_add_source(r->c, k, &s) : config_add_path(r->c, k, &s));
        if (!list) return STATUS_OK;
    }
}

/* A source as far as it was read; its path goes to the list at once. */
struct pairs {
    bool path, of[CONFIG_SOURCE_KEYS]; /* which were given */
    struct data_source source;
};

/* One pair of a source: its key is the current event. */
static status_t read_source_pair(struct reader *r, const struct config_key *k,
                                 struct pairs *p)
{
    char name[CONFIG_NAME_BYTES] = "";
    if (r->event.type == YAML_SCALAR_EVENT)
        snprintf(name, sizeof name, "%s", scalar(r).text);
    const bool is_path = strcmp(name, "path") == 0;
    const int key = config_source_key(name);
    if (!is_path && key < 0)
        return config_refuse(r->c, here(r),
                             "%s: a source has no key %s (valid: path, weight, format, "
                             "dtype, vocab_size, eos, bos)",
                             k->name, config_quote(name).text);
    bool *given = is_path ? &p->path : &p->of[key];
    if (*given)
        return config_refuse(r->c, here(r), "%s: %s is given twice", k->name, name);
    *given = true;
    TRY(next(r));
    if (is_path) return read_paths(r, k);
    if (r->event.type != YAML_SCALAR_EVENT)
        return config_refuse(r->c, here(r), "%s: %s is not a single value", k->name,
                             name);
    const struct config_scalar s = scalar(r);
    return config_set_source(r->c, k, &p->source, key, &s);
}

/* {path: P, weight: W, ...}; its beginning is the current event. */
static status_t read_source(struct reader *r, const struct config_key *k)
{
    const struct config_sources *list = config_field(r->c, k);
    const int begin = here(r);
    struct pairs p = {.source = {.weight = 1}};
    for (;;) {
        TRY(next(r));
        if (r->event.type == YAML_MAPPING_END_EVENT) break;
        TRY(read_source_pair(r, k, &p));
    }
    if (!p.path) return config_refuse(r->c, begin, "%s: a source has no path", k->name);
    p.source.path = list->items[list->n - 1].path;
    list->items[list->n - 1] = p.source;
    return STATUS_OK;
}

static status_t read_source_item(struct reader *r, const struct config_key *k)
{
    if (r->event.type == YAML_MAPPING_START_EVENT) return read_source(r, k);
    if (r->event.type != YAML_SCALAR_EVENT)
        return config_refuse(r->c, here(r), "%s: a list in a list is not a source",
                             k->name);
    const struct config_scalar s = scalar(r);
    return config_add_source(r->c, k, &s);
}

static status_t read_sources(struct reader *r, const struct config_key *k)
{
    if (r->event.type != YAML_SEQUENCE_START_EVENT) return read_source_item(r, k);
    for (;;) {
        TRY(next(r));
        if (r->event.type == YAML_SEQUENCE_END_EVENT) return STATUS_OK;
        TRY(read_source_item(r, k));
    }
}

/* Note that `*place` is set at `line`, unless this text has set it already. */
static status_t claim(const struct reader *r, const char *name, int *place, int line)
{
    const bool file = r->override < 0;
    if (file ? *place > 0 : *place == line) {
        if (!file) return config_refuse(r->c, line, "%s: is given twice", name);
        return config_refuse(r->c, line, "%s: is given twice, first in line %d", name,
                             *place);
    }
    *place = line;
    return STATUS_OK;
}

/* NULL: there is none of that name here. */
static const struct config_key *find_key(const struct reader *r, const char *name)
{
    for (int i = 0; r->c->places->stage > 0 && i < CONFIG_STAGE_KEYS; i++)
        if (strcmp(config_stage_keys[i].name, name) == 0) return &config_stage_keys[i];
    return config_find(name);
}

/* Where the place of a key is noted. */
static int *place_in(const struct reader *r, const struct config_key *k)
{
    struct config_places *p = r->c->places;
    const bool own = k >= config_stage_keys && k < config_stage_keys + CONFIG_STAGE_KEYS;
    return own ? &p->of_stage[k - config_stage_keys] : &p->of[k - config_keys];
}

static status_t claim_key(struct reader *r, const struct config_key *k, int line)
{
    if (r->c->places->stage > 0 && !config_is_staged(k))
        return config_refuse(r->c, line,
                             "%s: is the same in all stages (valid: outside of stages)",
                             k->name);
    return claim(r, k->name, place_in(r, k), line);
}

static status_t read_key(struct reader *r, const struct config_key *k, int line)
{
    TRY(claim_key(r, k, line));
    if (k->type == CONFIG_SOURCES) {
        config_clear(r->c, k);
        return read_sources(r, k);
    }
    if (r->event.type != YAML_SCALAR_EVENT) {
        char valid[CONFIG_VALID_BYTES];
        config_valid(k, valid);
        return config_refuse(
            r->c, line, "%s: a %s is not a single value (valid: %s)", k->name,
            r->event.type == YAML_MAPPING_START_EVENT ? "mapping" : "list", valid);
    }
    const struct config_scalar s = scalar(r);
    return config_set(r->c, k, &s);
}

static status_t refuse_unknown(const struct reader *r, const char *name, int line)
{
    char hint[CONFIG_NAME_BYTES + 32];
    config_suggest(name, hint, sizeof hint);
    return config_refuse(r->c, line, "%s: unknown key%s", config_word(name).text, hint);
}

static status_t read_mapping(struct reader *r, const char *prefix);

static status_t read_section(struct reader *r, const char *name, int line)
{
    int first = 0;
    const size_t n = strlen(name);
    while (strncmp(config_keys[first].name, name, n) != 0 ||
           config_keys[first].name[n] != '.')
        first++;
    TRY(claim(r, name, &r->sections[first], line));
    const bool empty = r->event.type == YAML_SCALAR_EVENT && scalar(r).bytes == 0;
    if (empty) return STATUS_OK; /* a section with all its keys commented out */
    if (r->event.type != YAML_MAPPING_START_EVENT)
        return config_refuse(r->c, line, "%s: is a section, not a value (valid: %s.KEY)",
                             name, name);
    return read_mapping(r, name);
}

/* A stage; its beginning is the current event. */
static status_t read_stage(struct reader *r)
{
    struct config *run = r->c;
    int sections[CONFIG_MAX_KEYS];
    if (r->event.type != YAML_MAPPING_START_EVENT)
        return config_refuse(r->c, here(r),
                             "stages: a stage is a mapping (valid: {name: NAME, steps: "
                             "STEPS, and sections of keys})");
    TRY(config_add_stage(run, here(r)));
    memcpy(sections, r->sections, sizeof sections);
    memset(r->sections, 0, sizeof r->sections);
    r->c = &run->stages[run->n_stages - 1];
    const status_t st = read_mapping(r, "");
    r->c = run;
    memcpy(r->sections, sections, sizeof sections);
    return st;
}

/* The list of them; its beginning is the current event. */
static status_t read_stages(struct reader *r, int line)
{
    TRY(claim(r, "stages", &r->stages, line));
    if (r->event.type == YAML_SCALAR_EVENT && scalar(r).bytes == 0) return STATUS_OK;
    if (r->event.type != YAML_SEQUENCE_START_EVENT)
        return config_refuse(r->c, line,
                             "stages: is a list (valid: a list of {name: "
                             "NAME, steps: STEPS, and sections of keys})");
    for (;;) {
        TRY(next(r));
        if (r->event.type == YAML_SEQUENCE_END_EVENT) return STATUS_OK;
        TRY(read_stage(r));
    }
}

/* Pairs of a section, or of the file or a stage with prefix "". */
static status_t read_mapping(struct reader *r, const char *prefix)
{
    for (;;) {
        TRY(next(r));
        if (r->event.type == YAML_MAPPING_END_EVENT) return STATUS_OK;
        const int line = here(r);
        if (r->event.type != YAML_SCALAR_EVENT)
            return config_refuse(r->c, line, "a key is a word, not a list or a mapping");
        char name[4 * CONFIG_NAME_BYTES];
        snprintf(name, sizeof name, "%s%s%s", prefix, *prefix ? "." : "", scalar(r).text);
        const struct config_key *k = find_key(r, name);
        const bool stages = strcmp(name, "stages") == 0 && r->c->places->stage == 0;
        if (!k && !stages && !config_is_section(name))
            return refuse_unknown(r, name, line);
        TRY(next(r));
        if (stages) {
            TRY(read_stages(r, line));
            continue;
        }
        TRY(k ? read_key(r, k, line) : read_section(r, name, line));
    }
}

/* The value of an override; the current event is its beginning, or the end of the stream when
 * nothing is behind the '='. */
static status_t read_override(struct reader *r, const char *key)
{
    const int place = -1 - r->override;
    const struct config_key *k = find_key(r, key);
    if (r->event.type != YAML_STREAM_END_EVENT) {
        if (k) return read_key(r, k, place);
        if (config_is_section(key)) return read_section(r, key, place);
    } else if (k) {
        const struct config_scalar nothing = {
            .text = "", .plain = k->type != CONFIG_TEXT, .place = place};
        TRY(claim_key(r, k, place));
        return config_set(r->c, k, &nothing);
    }
    return refuse_unknown(r, key, place);
}

static status_t read_stream(struct reader *r, const char *prefix)
{
    TRY(next(r)); /* stream start */
    TRY(next(r));
    if (r->event.type == YAML_STREAM_END_EVENT)
        return *prefix ? read_override(r, prefix) : STATUS_OK;
    TRY(next(r)); /* what the document is */
    if (*prefix) {
        TRY(read_override(r, prefix));
    } else if (r->event.type == YAML_MAPPING_START_EVENT) {
        TRY(read_mapping(r, ""));
    } else if (r->event.type != YAML_SCALAR_EVENT || scalar(r).bytes > 0) {
        return config_refuse(r->c, here(r),
                             "is not a mapping of sections (valid: e.g. \"model:\" and "
                             "indented keys below)");
    }
    TRY(next(r)); /* document end */
    TRY(next(r));
    if (r->event.type != YAML_STREAM_END_EVENT)
        return config_refuse(r->c, here(r), "a second document begins; one is read");
    return STATUS_OK;
}

status_t config_read(struct config *c, int override, const char *prefix, const char *text,
                     size_t bytes)
{
    struct reader r = {.c = c, .override = override, .text = text};
    if (!yaml_parser_initialize(&r.parser))
        return status_set(STATUS_NOMEM, "%s: no memory for the YAML reader",
                          c->places->name);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, bytes);
    const status_t st = read_stream(&r, prefix);
    yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    return st;
}
