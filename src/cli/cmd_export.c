#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/hf.h"
#include "cli/cli.h"
#include "cli/hf_files.h"
#include "cli/options.h"
#include "config/config.h"
#include "core/file.h"
#include "model/names.h"
#include "data/tokenizer.h"

static const char help[] =
    "usage: yoke export PATH HF_FOLDER [--dtype fp32|bf16|fp16] [--shard-size MB] "
    "[--tokenizer DIR]\n\n"
    "Write the weights of a checkpoint as a Hugging Face model: config.json, "
    "generation_config.json,\n"
    "safetensors, the tokenizer's files byte for byte, and a stub of a model card.  PATH "
    "is a "
    "checkpoint,\n"
    "a run folder (its newest checkpoint) or a packed file.  HF_FOLDER must be new, or "
    "hold neither a model nor a run.\n\n"
    "  --dtype NAME       fp32 (default), bf16 or fp16, rounded to nearest\n"
    "  --shard-size MB    largest file, at least one tensor each (default 5000)\n"
    "  --tokenizer DIR    where the tokenizer's files are (default: the run folder)\n";

struct arguments {
    const char *path, *folder, *tokenizer;
    enum safetensors_dtype dtype;
    int64_t shard_mb;
};

/* The model of a checkpoint; sizes that its configuration left to the data are in its tensors. */
static status_t find_arch(struct arch *a, char family[32],
                          const struct checkpoint_source *s)
{
    struct config c = {0};
    char name[96];
    char *text;
    TRY(config_text_at(s->name, s->meta->config, s->meta->step, &text));
    const status_t st = config_parse(&c, s->name, text, strlen(text), NULL, 0);
    free(text);
    if (st != STATUS_OK) return st;
    *a = c.arch;
    snprintf(family, 32, "%s", c.family);
    config_release(&c);
    snprintf(name, sizeof name, "%s.weight", names_of(a)->embedding);
    const int i = checkpoint_source_find(s, name);
    if (i < 0) return status_set(STATUS_CHECKPOINT, "%s: has no %s", s->name, name);
    a->vocab_size = s->params[i].shape[0];
    return arch_check(a);
}

/* The folder that holds the tokenizer's files: --tokenizer, or where the checkpoint lies. */
static void tokenizer_folder(char out[PATH_MAX], const struct arguments *a,
                             const struct checkpoint_source *s)
{
    snprintf(out, PATH_MAX, "%s", a->tokenizer ? a->tokenizer : s->name);
    if (a->tokenizer) return;
    char *slash = strrchr(out, '/');
    if (slash && slash != out)
        *slash = '\0';
    else
        snprintf(out, PATH_MAX, ".");
}

static status_t end_of_text(const char *folder, int64_t *eos)
{
    char path[PATH_MAX];
    struct tokenizer *t = NULL;
    *eos = -1;
    file_join(path, sizeof path, folder, "tokenizer.json");
    if (!file_exists(path)) return STATUS_OK;
    TRY(tokenizer_open(&t, path));
    *eos = tokenizer_eos(t);
    tokenizer_close(&t);
    return STATUS_OK;
}

static status_t write_card(const struct arguments *a, const struct checkpoint_source *s,
                           const struct arch *arch)
{
    char path[PATH_MAX], text[2048];
    snprintf(
        text, sizeof text,
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\n---\n\n"
        "# Model card\n\n%jd parameters, trained for %jd steps on %jd tokens with yoke "
        "%s.\n\nWhat it was trained on, for what, and how it was evaluated is to be "
        "written here.\n",
        (intmax_t)arch_parameters(arch), (intmax_t)s->meta->step,
        (intmax_t)s->meta->tokens, YOKE_VERSION);
    file_join(path, sizeof path, a->folder, "README.md");
    return file_replace(path, text, strlen(text));
}

static status_t write_model(const struct arguments *a, struct checkpoint_source *s)
{
    struct arch arch;
    char tokenizer[PATH_MAX], family[32];
    int64_t eos;
    TRY(find_arch(&arch, family, s));
    TRY(hf_config_check(&arch, family));
    tokenizer_folder(tokenizer, a, s);
    TRY(end_of_text(tokenizer, &eos));
    TRY(hf_files_check_free(a->folder));
    TRY(file_make_dirs(a->folder));
    TRY(hf_write(a->folder, s, &arch, a->dtype, a->shard_mb * 1000000));
    TRY(hf_files_copy(a->folder, tokenizer));
    TRY(write_card(a, s, &arch));
    /* last: now it is a model */
    TRY(hf_config_write(a->folder, &arch, family, eos, a->dtype));
    printf("exported %s as %s\n", s->name, a->folder);
    return STATUS_OK;
}

static status_t export_model(const struct arguments *a)
{
    struct checkpoint_source s;
    TRY(checkpoint_source_open(&s, a->path));
    const status_t st = write_model(a, &s);
    checkpoint_source_close(&s);
    return st;
}

static status_t parse_dtype(const char *text, enum safetensors_dtype *dtype)
{
    static const char *const names[] = {"fp32", "bf16", "fp16"};
    for (int i = 0; i < 3; i++)
        if (strcmp(text, names[i]) == 0) {
            *dtype = (enum safetensors_dtype)i;
            return STATUS_OK;
        }
    return status_set(STATUS_USAGE, "--dtype: %s is not known; valid: fp32, bf16, fp16",
                      text);
}

int cmd_export(int argc, char **argv)
{
    static const struct option options[] = {{"dtype", required_argument, NULL, 'd'},
                                            {"shard-size", required_argument, NULL, 's'},
                                            {"tokenizer", required_argument, NULL, 't'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    struct arguments a = {.shard_mb = 5000};
    status_t st = STATUS_OK;
    opterr = 0;
    for (int c;
         st == STATUS_OK && (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h') return fputs(help, stdout), 0;
        if (c == '?') return cli_usage_option("export", argv);
        if (c == 'd') st = parse_dtype(optarg, &a.dtype);
        if (c == 's') st = option_int("--shard-size", optarg, 1, 1000000, &a.shard_mb);
        if (c == 't') a.tokenizer = optarg;
    }
    if (st != STATUS_OK) return cli_exit(st, NULL);
    if (argc - optind != 2) return cli_usage("export", "give PATH and HF_FOLDER");
    a.path = argv[optind];
    a.folder = argv[optind + 1];
    return cli_exit(export_model(&a), NULL);
}
