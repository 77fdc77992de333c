#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/hf.h"
#include "cli/cli.h"
#include "cli/hf_files.h"
#include "cli/options.h"
#include "config/config.h"
#include "core/file.h"

static const char help[] =
    "usage: yoke import HF_FOLDER RUN\n\n"
    "Turn a Hugging Face model (config.json, *.safetensors, tokenizer files) of a family "
    "that docs/huggingface.md lists\n"
    "into a run folder: RUN/step-00000000, the tokenizer's files as they are, and "
    "config.yaml to\n"
    "start from.  Every tensor's name, shape and type is checked first.  One tensor at a "
    "time is in\n"
    "memory, or a few small ones.  Then, in any layout:\n"
    "  yoke train my.yaml --set checkpoint.resume=RUN\n"
    "  yoke generate RUN --prompt ...\n";

/* A whole configuration of that model; what it does not know is there to be changed. */
static status_t make_config(struct config *c, const struct arch *a, const char *family,
                            const char *run_dir)
{
    char text[4 * PATH_MAX], tokenizer[PATH_MAX];
    file_join(tokenizer, sizeof tokenizer, run_dir, "tokenizer.json");
    snprintf(text, sizeof text,
             "model: {family: %s, layers: 1, hidden: 64, heads: 1}\n"
             "data: {tokenizer: \"%s\", train: train.h5, sequence_length: %jd}\n"
             "train: {run_dir: \"%s\", steps: 1000, batch_sequences: 8}\n"
             "optim: {lr: 1.0e-5}\nschedule: {kind: constant}\n",
             family, file_exists(tokenizer) ? tokenizer : "",
             (intmax_t)(a->max_positions < 1024 ? a->max_positions : 1024), run_dir);
    TRY(config_parse(c, "the imported model", text, strlen(text), NULL, 0));
    c->arch = *a;
    return STATUS_OK;
}

static status_t write_run(const char *folder, const char *run_dir, const struct arch *a,
                          const char *family)
{
    char path[PATH_MAX], *text = NULL;
    struct config c = {0};
    struct checkpoint_source s = {0};
    status_t st = make_config(&c, a, family, run_dir);
    if (st == STATUS_OK) st = config_dump(&c, &text);
    struct checkpoint_meta meta = {.validation_loss = (double)NAN,
                                   .config = text,
                                   .versions = "{\"yoke\": \"" YOKE_VERSION "\"}",
                                   .data = "{}"};
    if (st == STATUS_OK) st = hf_open(&s, folder, a, &meta);
    if (st == STATUS_OK) st = checkpoint_build(run_dir, &s);
    if (st == STATUS_OK) {
        file_join(path, sizeof path, run_dir, "config.yaml");
        st = file_replace(path, text, strlen(text));
    }
    checkpoint_source_close(&s);
    free(text);
    config_release(&c);
    return st;
}

static status_t import(const char *folder, const char *run_dir)
{
    struct arch a;
    const char *family;
    TRY(hf_config_read(folder, &a, &family));
    TRY(file_make_dirs(run_dir));
    TRY(hf_files_copy(run_dir, folder));
    TRY(write_run(folder, run_dir, &a, family));
    printf("imported %s: %s, %jd parameters, as %s/step-00000000\n", folder, family,
           (intmax_t)arch_parameters(&a), run_dir);
    return STATUS_OK;
}

int cmd_import(int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h') return fputs(help, stdout), 0;
        return cli_usage("import", "unknown option");
    }
    if (argc - optind != 2) return cli_usage("import", "give HF_FOLDER and RUN");
    return cli_exit(import(argv[optind], argv[optind + 1]), NULL);
}
