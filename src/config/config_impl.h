/* config_impl - the table of keys and what its readers share. */
#pragma once

#include "config/config.h"

#include <stddef.h>

enum config_type {
    CONFIG_BOOL,    /* bool */
    CONFIG_INTEGER, /* int64_t */
    CONFIG_NUMBER,  /* double */
    CONFIG_ENUM,    /* int, an index into names */
    CONFIG_FAMILY,  /* char *, one of arch_families() */
    CONFIG_TEXT,    /* char *, owned */
    CONFIG_SOURCES  /* struct config_sources */
};

struct config_key {
    const char *name; /* "section.key" */
    enum config_type type;
    size_t offset;            /* of the field in struct config */
    double low, high;         /* bounds of a number; of the bytes of a text */
    const char *const *names; /* CONFIG_ENUM: NULL-terminated */
    const char *zero;         /* CONFIG_INTEGER: a word for 0, e.g. "auto"; may be NULL */
    const char *initial;      /* default as it would be written; NULL: none */
    bool from_family;         /* without a value the family's stays */
    const char *doc;          /* one line */
};

enum {
    CONFIG_MAX_KEYS = 128,
    CONFIG_MAX_BYTES = 1 << 20, /* of a file */
    CONFIG_VALID_BYTES = 256,
    CONFIG_NAME_BYTES = 64, /* of a key's name with its section, and the final zero */
    CONFIG_MAX_STAGES = 64,
};

/* Keys that only a stage has. */
enum { CONFIG_STAGE_NAME, CONFIG_STAGE_STEPS, CONFIG_STAGE_KEYS };
extern const struct config_key config_stage_keys[CONFIG_STAGE_KEYS];

extern const struct config_key config_keys[];
extern const int config_n_keys;

struct config_places {
    char *name;       /* of the file */
    char **overrides; /* as given */
    int n_overrides;
    int of[CONFIG_MAX_KEYS]; /* > 0: line of the file; 0: a default; -1 - i: override i */
    /* of a stage: its number, from 1; where it begins; its own keys; which it says itself */
    int stage, begin, of_stage[CONFIG_STAGE_KEYS];
    bool in_stage[CONFIG_MAX_KEYS];
};

/* ---- config_keys.c ---------------------------------------------------------------------- */

const struct config_key *config_find(const char *name); /* NULL if none */
bool config_is_section(const char *name);
/* Is the key one of these names?  One that ends in a point or _ stands for all that begin so. */
bool config_is_among(const struct config_key *k, const char *const *names, int n);
/* Length of the section's name if key i is the first of its section, else 0. */
int config_begins_section(int i);

/* ---- config_place.c: the beginning of every message ------------------------------------- */

/* STATUS_CONFIG with "FILE:LINE: " or "--set a.b=c: " in front of the sentence, and the name of the
 * stage if c is one. */
status_t config_refuse(const struct config *c, int place, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
/* The same with the place of a key, and "KEY: ". */
status_t config_refuse_key(const struct config *c, const char *key, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
int config_place(const struct config *c, const char *key);

/* What someone wrote, fit for a one-line message: in quotes, cut, control bytes as '?'. */
struct config_quoted {
    char text[88];
};
struct config_quoted config_quote(const char *text);
struct config_quoted config_word(const char *text); /* the same without the quotes */

/* ---- config_suggest.c ------------------------------------------------------------------- */

/* "; did you mean a.b?", or "" when nothing is close. */
void config_suggest(const char *unknown, char *out, size_t size);

/* ---- config_value.c --------------------------------------------------------------------- */

/* A scalar as libyaml gives it. */
struct config_scalar {
    const char *text;
    size_t bytes; /* of text, without the final zero */
    bool plain;   /* not in quotes */
    int place;
};

/* The valid values in words, "a number from 0 to 10". */
void config_valid(const struct config_key *k, char out[CONFIG_VALID_BYTES]);

/* Check and store a scalar. */
MUST_USE status_t config_set(struct config *c, const struct config_key *k,
                             const struct config_scalar *s);
/* Append a source of weight 1; the scalar is its path. */
MUST_USE status_t config_add_source(struct config *c, const struct config_key *k,
                                    const struct config_scalar *path);
/* Append a path to those of the last source. */
MUST_USE status_t config_add_path(struct config *c, const struct config_key *k,
                                  const struct config_scalar *path);
/* Of the pairs of a source but its path: index into config_source_keys, -1 if it is none. */
enum {
    CONFIG_SOURCE_WEIGHT,
    CONFIG_SOURCE_FORMAT,
    CONFIG_SOURCE_DTYPE,
    CONFIG_SOURCE_VOCAB_SIZE,
    CONFIG_SOURCE_EOS,
    CONFIG_SOURCE_BOS,
    CONFIG_SOURCE_KEYS
};
extern const char *const config_source_keys[CONFIG_SOURCE_KEYS];
int config_source_key(const char *name);
MUST_USE status_t config_set_source(const struct config *c, const struct config_key *k,
                                    struct data_source *source, int key,
                                    const struct config_scalar *value);
/* Write the pairs that differ from their defaults, each with ", " in front. */
void config_write_source(FILE *out, const struct data_source *source);
void config_clear(struct config *c, const struct config_key *k); /* free what k owns */
/* `to`, which owns nothing of it yet, gets the value of `from`. */
MUST_USE status_t config_copy_value(struct config *to, const struct config *from,
                                    const struct config_key *k);
bool config_same_value(const struct config *a, const struct config *b,
                       const struct config_key *k);
/* A number in [low, high] without leading or trailing text. */
bool config_read_number(const char *text, double *value);
/* Decimal digits; beyond 64 bits the nearest end of the range. */
bool config_read_integer(const char *text, int64_t *value);

/* ---- config_yaml.c, config_check.c ------------------------------------------------------ */

/* Set what the text sets; override -1 is the file (prefix ""), else `prefix` is the key. */
MUST_USE status_t config_read(struct config *c, int override, const char *prefix,
                              const char *text, size_t bytes);

/* Fill in what is derived and refuse what does not fit together; `run`: of a stage, else NULL. */
MUST_USE status_t config_check(struct config *c, const struct config *run);

/* ---- config.c, config_stages.c ------------------------------------------------------------ */

MUST_USE status_t config_places_create(struct config *c, const char *name,
                                       const char *const *overrides, int n_overrides);

bool config_is_staged(const struct config_key *k); /* may it differ between stages? */
/* Append a stage that says nothing yet. */
MUST_USE status_t config_add_stage(struct config *c, int place);
/* The stage of that name; NULL: there is none. */
struct config *config_find_stage(const struct config *c, const char *name, size_t bytes);
/* Names and steps of the stages, and what follows for all: once everything is read. */
MUST_USE status_t config_stages_settle(struct config *c);
/* What the stage does not say becomes what the run says, as given: before defaults. */
MUST_USE status_t config_stage_inherit(struct config *stage, const struct config *run);
/* Where its schedule and its data begin; `before`: the stage before it, NULL for the first. */
void config_stage_settle(struct config *stage, const struct config *before);
/* Does the stage itself say a key whose name begins so? */
bool config_in_stage(const struct config *c, const char *section);

/* The field of a key. */
static inline void *config_field(const struct config *c, const struct config_key *k)
{
    return (char *)(uintptr_t)c + k->offset;
}
