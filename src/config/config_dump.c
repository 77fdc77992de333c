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

static void write_sources(FILE *out, const struct config_sources *list)
{
    if (list->n == 0) fputs(" []", out);
    for (int i = 0; i < list->n; i++) {
        char weight[NUMBER_BYTES];
        format_number(list->items[i].weight, weight);
        fputs("\n    - {path: ", out);
        write_paths(out, list->items[i].path);
        fprintf(out, ", weight: %s", weight);
        config_write_source(out, &list->items[i]);
        fputc('}', out);
    }
}

static void write_value(FILE *out, const struct config *c, const struct config_key *k)
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
        write_sources(out, field);
        return;
    }
}

/* Length of the section's name if key i is the first of its section, else 0. */
static int begins_section(int i)
{
    const char *name = config_keys[i].name;
    const size_t n = strcspn(name, ".");
    const bool same = i > 0 && strncmp(config_keys[i - 1].name, name, n + 1) == 0;
    return same ? 0 : (int)n;
}

/* Keys that do not change what is computed; a name that ends in a point or _ stands for all that
 * begin so. */
static const char *const circumstances[] = {
    "model.recompute", "data.tokenizer",    "data.train",    "data.validation",
    "data.verify",     "data.loader_ahead", "train.run_dir", "train.micro_batch",
    "train.threads",   "train.device",      "train.graphs",  "train.eval_",
    "train.time_",     "parallel.",         "checkpoint.",   "log."};

static bool is_circumstance(const struct config_key *k)
{
    for (size_t i = 0; i < sizeof circumstances / sizeof *circumstances; i++) {
        const char *name = circumstances[i];
        const size_t n = strlen(name);
        const bool prefix = name[n - 1] == '.' || name[n - 1] == '_';
        if (strncmp(k->name, name, prefix ? n : n + 1) == 0) return true;
    }
    return false;
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
        const int section = begins_section(i);
        if (section) fprintf(out, "%.*s:\n", section, k->name);
        if (recipe && is_circumstance(k)) continue;
        fprintf(out, "  %s:", strchr(k->name, '.') + 1);
        write_value(out, c, k);
        fputc('\n', out);
    }
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

static const char *type_name(const struct config_key *k)
{
    switch (k->type) {
    case CONFIG_BOOL:
        return "boolean";
    case CONFIG_INTEGER:
        return "integer";
    case CONFIG_NUMBER:
        return "number";
    case CONFIG_ENUM:
    case CONFIG_FAMILY:
        return "name";
    case CONFIG_TEXT:
        return "text";
    case CONFIG_SOURCES:
        return "sources";
    }
    return "";
}

static void write_reference_row(FILE *out, const struct config_key *k)
{
    char valid[CONFIG_VALID_BYTES];
    config_valid(k, valid);
    fprintf(out, "| `%s` | %s | %s | ", k->name, type_name(k), valid);
    if (k->from_family)
        fputs("the family's", out);
    else if (!k->initial)
        fputs("required", out);
    else
        fprintf(out, "`%s`", k->initial[0] ? k->initial : "\"\"");
    fprintf(out, " | %s |\n", k->doc);
}

void config_reference(FILE *out)
{
    fputs(
        "# Configuration\n\n"
        "This page is written by `yoke config --reference` (`scripts/make_docs.sh`); "
        "change the table in\n`src/config/config_keys.c` instead.\n\n"
        "A run is described by one YAML file. Keys lie in the sections below; "
        "`--set SECTION.KEY=VALUE` on the\ncommand line replaces a value (the last one "
        "counts), where VALUE is YAML as well:\n"
        "`--set data.train='[a.h5, {path: b.h5, weight: 0.5}]'`. `yoke config FILE` "
        "prints the file with every\ndefault and every derived value written out, and "
        "that print is a valid configuration itself.\n\n"
        "Unknown keys, values of another type, values out of bounds and combinations "
        "that do not fit are refused\nwith file, line, key and what is valid. Anchors, "
        "aliases, tags, duplicate keys and files above 1 MiB are\nrefused too. Relative "
        "paths are relative to the working directory.\n\n"
        "*Sources* are a path, a list of paths, or a list of `{path: PATH, weight: W}`; "
        "a weight is 1 if it is not\ngiven. PATH is a token file, a folder of shards, a "
        "pattern such as `data/part-*.npy`, or a list of these, which\nis one source "
        "then. What a file does not say itself its source may: `format` (auto, h5, npy, "
        "raw, llmc, megatron,\ndatatrove), `dtype` (uint16, uint32), `vocab_size`, `eos` "
        "and `bos` (the ids that end and begin every document);\nsee [data](data.md).\n",
        out);
    for (int i = 0; i < config_n_keys; i++) {
        const int section = begins_section(i);
        if (section)
            fprintf(out,
                    "\n## %.*s\n\n| key | type | valid | default | meaning |\n"
                    "|---|---|---|---|---|\n",
                    section, config_keys[i].name);
        write_reference_row(out, &config_keys[i]);
    }
}
