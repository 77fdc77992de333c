#include "config/config.h"

#include <stdlib.h>
#include <string.h>

#include "config/config_impl.h"
#include "core/file.h"

status_t config_places_create(struct config *c, const char *name,
                              const char *const *overrides, int n_overrides)
{
    struct config_places *p = calloc(1, sizeof *p);
    c->places = p;
    if (p) p->name = strdup(name);
    if (p) p->overrides = calloc((size_t)n_overrides + 1, sizeof *p->overrides);
    bool complete = p && p->name && p->overrides;
    for (int i = 0; complete && i < n_overrides; i++) {
        p->overrides[i] = strdup(overrides[i]);
        complete = p->overrides[i] != NULL;
        p->n_overrides = i + 1;
    }
    return complete ? STATUS_OK : status_set(STATUS_NOMEM, "%s: no memory", name);
}

static void places_destroy(struct config_places *p)
{
    if (!p) return;
    for (int i = 0; i < p->n_overrides; i++) free(p->overrides[i]);
    free(p->overrides);
    free(p->name);
    free(p);
}

/* An override of a stage that is not there. */
static status_t refuse_stage(const struct config *c, int i, const char *name,
                             size_t bytes)
{
    char list[256] = "", word[4 * CONFIG_NAME_BYTES];
    size_t n = 0;
    snprintf(word, sizeof word, "%.*s", (int)bytes, name);
    for (int k = 0; k < c->n_stages && n < sizeof list; k++)
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", k > 0 ? ", " : "",
                              c->stages[k].span.name ? c->stages[k].span.name : "-");
    return config_refuse(c, -1 - i, "there is no stage %s (valid: %s)",
                         config_quote(word).text,
                         n > 0 ? list : "none, as the file has no stages");
}

static status_t read_override(struct config *c, int i)
{
    const char *text = c->places->overrides[i], *equals = strchr(text, '=');
    if (!equals || equals == text)
        return status_set(STATUS_USAGE,
                          "--set %s: needs the form KEY=VALUE, e.g. optim.lr=1.0e-3",
                          config_word(text).text);
    const size_t length = (size_t)(equals - text);
    char key[4 * CONFIG_NAME_BYTES];
    snprintf(key, sizeof key, "%.*s", (int)(length < sizeof key ? length : sizeof key),
             text);
    const size_t n = strlen("stages.");
    if (strcmp(key, "stages") == 0)
        return config_refuse(c, -1 - i,
                             "stages: is a list that only a file can give "
                             "(valid: --set stages.NAME.KEY=VALUE)");
    if (strncmp(key, "stages.", n) != 0)
        return config_read(c, i, key, equals + 1, strlen(equals + 1));
    const size_t name_bytes = strcspn(key + n, ".");
    struct config *stage = config_find_stage(c, key + n, name_bytes);
    if (!stage) return refuse_stage(c, i, key + n, name_bytes);
    return config_read(stage, i, key + n + name_bytes + (key[n + name_bytes] == '.'),
                       equals + 1, strlen(equals + 1));
}

static status_t require_keys(const struct config *c)
{
    for (int i = 0; i < config_n_keys; i++) {
        const struct config_key *k = &config_keys[i];
        const bool summed = c->n_stages > 0 && config_field(c, k) == &c->steps;
        if (k->initial || k->from_family || summed || c->places->of[i] != 0) continue;
        char valid[CONFIG_VALID_BYTES];
        config_valid(k, valid);
        return config_refuse(c, 0, "%s: is missing; it has no default (%s; valid: %s)",
                             k->name, k->doc, valid);
    }
    return STATUS_OK;
}

/* The knobs of the family, except those the file sets itself. */
static status_t set_family(struct config *c)
{
    const struct config given = *c;
    TRY(arch_family(&c->arch, c->family));
    for (int i = 0; i < config_n_keys; i++) {
        const struct config_key *k = &config_keys[i];
        if (!k->from_family || c->places->of[i] == 0) continue;
        TRY(config_copy_value(c, &given, k));
    }
    return STATUS_OK;
}

static status_t set_defaults(struct config *c)
{
    for (int i = 0; i < config_n_keys; i++) {
        const struct config_key *k = &config_keys[i];
        const bool keep = c->places->of[i] != 0 || !k->initial;
        if (keep || k->type == CONFIG_SOURCES) continue; /* sources begin empty */
        const struct config_scalar s = {.text = k->initial,
                                        .bytes = strlen(k->initial),
                                        .plain = k->type != CONFIG_TEXT};
        TRY(config_set(c, k, &s));
    }
    return STATUS_OK;
}

/* Once all is read; `run`: of a stage, else NULL. */
static status_t complete(struct config *c, const struct config *run)
{
    TRY(set_family(c));
    TRY(set_defaults(c));
    return config_check(c, run);
}

static status_t parse(struct config *c, const char *text, size_t bytes)
{
    if (bytes > CONFIG_MAX_BYTES)
        return config_refuse(c, 0, "has %zu bytes; a configuration has at most %d", bytes,
                             (int)CONFIG_MAX_BYTES);
    TRY(config_read(c, -1, "", text, bytes));
    for (int i = 0; i < c->places->n_overrides; i++) TRY(read_override(c, i));
    TRY(config_stages_settle(c));
    for (int i = 0; i < c->n_stages; i++) TRY(config_stage_inherit(&c->stages[i], c));
    TRY(require_keys(c));
    TRY(complete(c, NULL));
    for (int i = 0; i < c->n_stages; i++) {
        TRY(complete(&c->stages[i], c));
        config_stage_settle(&c->stages[i], i > 0 ? &c->stages[i - 1] : NULL);
    }
    return STATUS_OK;
}

status_t config_parse(struct config *c, const char *name, const char *text, size_t bytes,
                      const char *const *overrides, int n_overrides)
{
    *c = (struct config){0};
    status_t st = config_places_create(c, name, overrides, n_overrides);
    if (st == STATUS_OK) st = parse(c, text, bytes);
    if (st != STATUS_OK) config_release(c);
    return st;
}

status_t config_load(struct config *c, const char *path, const char *const *overrides,
                     int n_overrides)
{
    char *text;
    size_t bytes;
    *c = (struct config){0};
    TRY(file_read(path, CONFIG_MAX_BYTES, &text, &bytes));
    const status_t st = config_parse(c, path, text, bytes, overrides, n_overrides);
    free(text);
    return st;
}

void config_release(struct config *c)
{
    for (int i = 0; i < c->n_stages; i++) config_release(&c->stages[i]);
    free(c->stages);
    for (int i = 0; i < config_n_keys; i++) config_clear(c, &config_keys[i]);
    for (int i = 0; i < CONFIG_STAGE_KEYS; i++) config_clear(c, &config_stage_keys[i]);
    places_destroy(c->places);
    *c = (struct config){0};
}

int64_t config_global_batch(const struct config *c)
{
    return c->batch_sequences > 0 ? c->batch_sequences
                                  : c->batch_tokens / c->sequence_length;
}
