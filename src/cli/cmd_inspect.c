#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/checkpoint.h"
#include "cli/cli.h"
#include "cli/inspect_config.h"
#include "cli/inspect_tokens.h"
#include "cli/options.h"
#include "config/config.h"
#include "core/file.h"
#include "data/tokenizer.h"

static const char help[] =
    "usage: yoke inspect PATH [--config] [--verify] [--steps LIST] [--sample N] "
    "[--seed S]\n"
    "                    [--tokenizer FILE]\n"
    "                    [--format NAME] [--dtype NAME] [--vocab_size N] [--eos ID] "
    "[--bos ID]\n\n"
    "Describe a run folder, a checkpoint folder, a tokenizer (.json), a configuration "
    "(.yaml) or\n"
    "token files: one, a folder of them or a quoted pattern.\n\n"
    "  --config           print the configuration that a checkpoint was written with\n"
    "  --verify           check every byte of a checkpoint or token file\n"
    "  --steps LIST       of a configuration: print the learning rate of these steps, "
    "e.g. 0,1,99\n"
    "  --sample N         print the first N documents of a token file (rows, if it is in "
    "rows;\n"
    "                     64 tokens at a time, if it has no index), one token a line: "
    "its\n"
    "                     number, id, 1 if it is to be predicted, and text\n"
    "  --seed S           with --sample: draw them at random\n"
    "  --tokenizer FILE   with --sample: take the text from here, not from the tokenizer "
    "that\n"
    "                     made the file\n"
    "  --format, --dtype, --vocab_size, --eos, --bos\n"
    "                     what a token file does not say itself, as in data.train\n";

struct arguments {
    const char *path, *steps;
    bool config;
    struct inspect_tokens tokens;
};

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* The stages of a run, with a mark at the one that came to `step`. */
static void print_stages(const struct config *c, int64_t step)
{
    const int at = config_segment_at(c, step > 0 ? step - 1 : 0);
    for (int i = 0; i < c->n_stages; i++) {
        const struct config_span *s = &c->stages[i].span;
        printf("stage          %s, steps %jd to %jd%s\n", s->name,
               (intmax_t)s->first_step, (intmax_t)s->end_step - 1,
               i == at ? ": the checkpoint's" : "");
    }
}

/* Of a checkpoint's configuration; one that cannot be read says nothing. */
static void print_checkpoint_stages(const struct checkpoint_meta *m)
{
    struct config c;
    if (config_parse(&c, "configuration", m->config, strlen(m->config), NULL, 0) !=
        STATUS_OK)
        return;
    print_stages(&c, m->step);
    config_release(&c);
}

static status_t inspect_checkpoint(const char *path, const struct arguments *a)
{
    struct checkpoint *c = NULL;
    TRY(checkpoint_open(&c, path));
    const struct checkpoint_meta *m = checkpoint_meta(c);
    int64_t elements = 0;
    for (int i = 0; i < checkpoint_n_params(c); i++) {
        const struct checkpoint_param *p = &checkpoint_params(c)[i];
        if (p->n_dims == 2)
            printf("  %-48s [%jd, %jd]\n", p->name, (intmax_t)p->shape[0],
                   (intmax_t)p->shape[1]);
        else
            printf("  %-48s [%jd]\n", p->name, (intmax_t)p->shape[0]);
        elements += checkpoint_param_elements(p);
    }
    printf("checkpoint     %s\n", checkpoint_path(c));
    printf("parameters     %jd in %d tensors\n", (intmax_t)elements,
           checkpoint_n_params(c));
    printf("step           %jd (%jd skipped)\n", (intmax_t)m->step,
           (intmax_t)m->skipped_steps);
    print_checkpoint_stages(m);
    printf("tokens         %jd\n", (intmax_t)m->tokens);
    printf("next sample    %jd of the data since step %jd\n", (intmax_t)m->next_sample,
           (intmax_t)m->data_step);
    printf("seed           %ju\n", (uintmax_t)m->seed);
    if (m->validation_loss == m->validation_loss) /* NaN: none */
        printf("validation     loss %.6f\n", m->validation_loss);
    printf("rollbacks      %jd\n", (intmax_t)m->rollbacks);
    printf("metrics        the first %jd bytes of metrics.jsonl\n",
           (intmax_t)m->metrics_bytes);
    printf("shards         %d, %.1f MB with the index\n", checkpoint_n_shards(c),
           (double)checkpoint_bytes(c) * 1e-6);
    printf("versions       %s\ndata           %s\n", m->versions, m->data);
    if (a->config) printf("configuration\n%s", m->config);
    status_t st = STATUS_OK;
    if (a->tokens.verify) st = checkpoint_verify(c, 0, 1);
    if (a->tokens.verify && st == STATUS_OK)
        printf("verified       every byte is as written\n");
    checkpoint_close(&c);
    return st;
}

static bool names_tokens(const char *path)
{
    struct token_file_list list;
    const bool found = token_file_list(&list, path) == STATUS_OK;
    token_file_list_release(&list);
    return found;
}

static bool names_hf(const char *path)
{
    char inside[PATH_MAX];
    file_join(inside, sizeof inside, path, "config.json");
    return file_exists(inside);
}

static status_t inspect_folder(const struct arguments *a)
{
    char inside[PATH_MAX], latest[PATH_MAX];
    file_join(inside, sizeof inside, a->path, "model.h5");
    if (file_exists(inside)) return inspect_checkpoint(a->path, a);
    TRY(checkpoint_find_latest(a->path, latest));
    if (!latest[0] && names_tokens(a->path)) return inspect_tokens(&a->tokens);
    if (!latest[0] && names_hf(a->path))
        return status_set(STATUS_CHECKPOINT,
                          "%s: is a Hugging Face model; yoke import reads it", a->path);
    if (!latest[0])
        return status_set(
            STATUS_CHECKPOINT,
            "%s: is neither a checkpoint (model.h5) nor a run "
            "folder with one (step-*/model.h5), nor a folder of token files",
            a->path);
    printf("run            %s\n", a->path);
    return inspect_checkpoint(latest, a);
}

static status_t inspect_tokenizer(const char *path)
{
    struct tokenizer *t = NULL;
    TRY(tokenizer_open(&t, path));
    printf("tokenizer      %s\n", path);
    printf("vocabulary     %jd, of which %jd added\n", (intmax_t)tokenizer_vocab_size(t),
           (intmax_t)tokenizer_n_added(t));
    printf("merges         %jd\n", (intmax_t)tokenizer_n_merges(t));
    printf("end of document ");
    inspect_print_id(tokenizer_eos(t));
    putchar('\n');
    printf("sha256         %s\n", tokenizer_sha256(t));
    tokenizer_close(&t);
    return STATUS_OK;
}

static status_t inspect(const struct arguments *a)
{
    if (file_is_dir(a->path)) return inspect_folder(a);
    if (!file_exists(a->path) && !names_tokens(a->path))
        return status_set(STATUS_USAGE, "%s: does not exist", a->path);
    if (ends_with(a->path, ".json")) return inspect_tokenizer(a->path);
    if (ends_with(a->path, ".yaml") || ends_with(a->path, ".yml"))
        return inspect_config(a->path, a->steps);
    return inspect_tokens(&a->tokens);
}

/* Options of one letter are those of `inspect`, the others keys of a source. */
static status_t take_option(struct arguments *a, int c, const char *name)
{
    switch (c) {
    case 'c':
        a->config = true;
        return STATUS_OK;
    case 'v':
        a->tokens.verify = true;
        return STATUS_OK;
    case 'l':
        a->steps = optarg;
        return STATUS_OK;
    case 't':
        a->tokens.tokenizer = optarg;
        return STATUS_OK;
    case 'n':
        return option_int("--sample", optarg, 0, INT64_MAX, &a->tokens.sample);
    case 'r':
        return option_int("--seed", optarg, 0, INT64_MAX, &a->tokens.seed);
    default:
        return config_source_pair(&a->tokens.source, name, optarg);
    }
}

int cmd_inspect(int argc, char **argv)
{
    static const struct option options[] = {{"config", no_argument, NULL, 'c'},
                                            {"verify", no_argument, NULL, 'v'},
                                            {"steps", required_argument, NULL, 'l'},
                                            {"sample", required_argument, NULL, 'n'},
                                            {"seed", required_argument, NULL, 'r'},
                                            {"tokenizer", required_argument, NULL, 't'},
                                            {"format", required_argument, NULL, 's'},
                                            {"dtype", required_argument, NULL, 's'},
                                            {"vocab_size", required_argument, NULL, 's'},
                                            {"eos", required_argument, NULL, 's'},
                                            {"bos", required_argument, NULL, 's'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    struct arguments a = {.tokens.seed = -1};
    int which = 0;
    status_t st = STATUS_OK;
    opterr = 0;
    for (int c;
         st == STATUS_OK && (c = getopt_long(argc, argv, "h", options, &which)) != -1;) {
        if (c == 'h') return fputs(help, stdout), 0;
        if (c == '?') return cli_usage_option("inspect", argv);
        st = take_option(&a, c, options[which].name);
    }
    if (st == STATUS_OK && argc - optind != 1)
        return cli_usage("inspect", "give one PATH");
    if (st == STATUS_OK) {
        a.path = argv[optind];
        a.tokens.source.path = argv[optind];
        st = inspect(&a);
    }
    return cli_exit(st, NULL);
}
