/* docs/configuration.md. */
#include "config/config_impl.h"

#include <string.h>

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
    fprintf(out, " | %s | %s |\n", config_is_staged(k) ? "yes" : "", k->doc);
}

static void write_stage_reference(FILE *out)
{
    fputs(
        "\n## stages\n\n"
        "A run of several parts, each with some settings of its own, is one file with a "
        "list of stages:\n\n"
        "    optim: {lr: 4.0e-4}\n"
        "    schedule: {kind: cosine, warmup_steps: 2000}\n"
        "    stages:\n"
        "      - {name: pretrain, steps: 190000}\n"
        "      - name: anneal\n"
        "        steps: 11931\n"
        "        data: {train: dolmino.npy}\n"
        "        optim: {lr: 6.1e-5}\n"
        "        schedule: {kind: linear}\n\n"
        "A stage says its name, its steps, and what is other in it than outside of "
        "stages; the keys that may be are\nthose with *yes* in the column *stage*. "
        "`train.steps` is the sum of the stages' steps and may be left out.\n\n"
        "- The sections above hold for every stage that does not say otherwise, `--set` "
        "of their keys too.\n"
        "  `--set stages.NAME.KEY=VALUE` changes one stage, "
        "`--set stages.anneal.optim.lr=5.0e-5`.\n"
        "- A stage that says nothing of the schedule goes on along that of the run, "
        "whose steps count over all stages.\n"
        "  One that says any key of it has a schedule of its own, which counts from "
        "the stage's first step; keys that\n  it does not say have their defaults, "
        "not the run's values, but for `schedule.clock`.\n"
        "- Of `train.batch_sequences` and `train.batch_tokens` a stage may give the "
        "other one than the run does.\n"
        "- Data goes on where the stage before left it. It begins anew if `data.train`, "
        "`data.sequence_length` or\n  `train.seed` is another than in the stage before.\n"
        "- Weights and the optimizer's state go on. The last step of a stage is "
        "evaluated and saved.\n"
        "- All stages to come are checked before the first step.\n\n"
        "| key | type | valid | default | stage | meaning |\n|---|---|---|---|---|---|\n",
        out);
    for (int i = 0; i < CONFIG_STAGE_KEYS; i++)
        write_reference_row(out, &config_stage_keys[i]);
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
        const int section = config_begins_section(i);
        if (section)
            fprintf(out,
                    "\n## %.*s\n\n| key | type | valid | default | stage | meaning |\n"
                    "|---|---|---|---|---|---|\n",
                    section, config_keys[i].name);
        write_reference_row(out, &config_keys[i]);
    }
    write_stage_reference(out);
}
