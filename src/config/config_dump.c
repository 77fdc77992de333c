#include "config/config_impl.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBER_BYTES = 40 };

/* The shortest decimal form that reads back as x, always with a point: YAML 1.1 readers take
 * 1e-08 for text. */
static void format_number(double x, char out[NUMBER_BYTES])
{
    char digits[32];
    if (x == trunc(x) && fabs(x) < 1e15) {
        snprintf(out, NUMBER_BYTES, "%.1f", x);
        return;
    }
    for (int precision = 1; precision <= 17; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, x);
        if (strtod(digits, NULL) == x) break;
    }
    const size_t mantissa = strcspn(digits, "e");
    const bool has_point = memchr(digits, '.', mantissa) != NULL;
    snprintf(out, NUMBER_BYTES, "%.*s%s%s", (int)mantissa, digits, has_point ? "" : ".0",
             digits + mantissa);
}

/* Texts hold no control characters (config_value.c), so these two are all there is. */
static void write_text(FILE *out, const char *text, size_t bytes)
{
    fputc('"', out);
    for (const char *end = text + bytes; text < end; text++) {
        if (*text == '"' || *text == '\\') fputc('\\', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

/* A path, or the list of those between newlines. */
static void write_paths(FILE *out, const char *paths)
{
    const bool list = strchr(paths, '\n') != NULL;
    if (!list) {
        write_text(out, paths, strlen(paths));
        return;
    }
    for (const char *separator = "["; *paths; separator = ", ") {
        const size_t n = strcspn(paths, "\n");
        fputs(separator, out);
        write_text(out, paths, n);
        paths += n + (paths[n] == '\n');
    }
    fputc(']', out);
}

static void write_sources(FILE *out, const struct config_sources *list, int indent)
{
    if (list->n == 0) fputs(" []", out);
    for (int i = 0; i < list->n; i++) {
        char weight[NUMBER_BYTES];
        format_number(list->items[i].weight, weight);
        fprintf(out, "\n%*s- {path: ", indent, "");
        write_paths(out, list->items[i].path);
        fprintf(out, ", weight: %s", weight);
        config_write_source(out, &list->items[i]);
        fputc('}', out);
    }
}

/* `indent`: of the items of a list, on lines of their own. */
static void write_value(FILE *out, const struct config *c, const struct config_key *k,
                        int indent)
{
    const void *field = config_field(c, k);
    char number[NUMBER_BYTES];
    switch (k->type) {
    case CONFIG_BOOL:
        fputs(*(const bool *)field ? " true" : " false", out);
        return;
    case CONFIG_INTEGER:
        if (*(const int64_t *)field == 0 && k->zero)
            fprintf(out, " %s", k->zero);
        else
            fprintf(out, " %" PRId64, *(const int64_t *)field);
        return;
    case CONFIG_NUMBER:
        format_number(*(const double *)field, number);
        fprintf(out, " %s", number);
        return;
    case CONFIG_ENUM:
        fprintf(out, " %s", k->names[*(const int *)field]);
        return;
    case CONFIG_FAMILY:
    case CONFIG_TEXT:
        fputc(' ', out);
        write_text(out, *(char *const *)field, strlen(*(char *const *)field));
        return;
    case CONFIG_SOURCES:
        write_sources(out, field, indent);
        return;
    }
}

/* Keys that do not change what is computed: see config_is_among. */
static const char *const circumstances[] = {"model.recompute",
                                            "data.tokenizer",
                                            "data.train",
                                            "data.validation",
                                            "data.verify",
                                            "data.loader_ahead",
                                            "train.run_dir",
                                            "train.micro_batch",
                                            "train.threads",
                                            "train.pin",
                                            "train.device",
                                            "train.graphs",
                                            "train.eval_",
                                            "train.time_",
                                            "parallel.",
                                            "checkpoint.",
                                            "log."};

static bool is_circumstance(const struct config_key *k)
{
    return config_is_among(k, circumstances,
                           sizeof circumstances / sizeof *circumstances);
}

/* What the stage says, and what is another value than the run's. */
static bool is_said(const struct config *stage, const struct config *run,
                    const struct config_key *k)
{
    if (!config_is_staged(k)) return false;
    if (strncmp(k->name, "schedule.", strlen("schedule.")) == 0)
        return config_in_stage(stage, "schedule.");
    return config_in_stage(stage, k->name) || !config_same_value(stage, run, k);
}

static void write_stage(FILE *out, const struct config *stage, const struct config *run,
                        bool recipe)
{
    fprintf(out, "  - name: \"%s\"\n    steps: %" PRId64 "\n", stage->span.name,
            stage->span.steps);
    const char *section = "";
    for (int i = 0; i < config_n_keys; i++) {
        const struct config_key *k = &config_keys[i];
        const int n = (int)strcspn(k->name, ".");
        if (!is_said(stage, run, k) || (recipe && is_circumstance(k))) continue;
        if (strncmp(section, k->name, (size_t)n + 1) != 0)
            fprintf(out, "    %.*s:\n", n, k->name);
        section = k->name;
        fprintf(out, "      %s:", k->name + n + 1);
        write_value(out, stage, k, 8);
        fputc('\n', out);
    }
}

static status_t dump(const struct config *c, bool recipe, char **text)
{
    char *buffer = NULL;
    size_t bytes = 0;
    *text = NULL;
    FILE *out = open_memstream(&buffer, &bytes);
    if (!out) return status_set(STATUS_NOMEM, "no memory to write the configuration");
    for (int i = 0; i < config_n_keys; i++) {
        const struct config_key *k = &config_keys[i];
        const int section = config_begins_section(i);
        if (section) fprintf(out, "%.*s:\n", section, k->name);
        if (recipe && is_circumstance(k)) continue;
        fprintf(out, "  %s:", strchr(k->name, '.') + 1);
        write_value(out, c, k, 4);
        fputc('\n', out);
    }
    if (c->n_stages > 0) fputs("stages:\n", out);
    for (int i = 0; i < c->n_stages; i++) write_stage(out, &c->stages[i], c, recipe);
    const bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        free(buffer);
        return status_set(STATUS_NOMEM, "no memory to write the configuration");
    }
    *text = buffer;
    return STATUS_OK;
}

status_t config_dump(const struct config *c, char **text)
{
    return dump(c, false, text);
}

status_t config_recipe(const struct config *c, char **text)
{
    return dump(c, true, text);
}
