#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/checkpoint.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "config/config.h"
#include "core/file.h"
#include "data/token_file.h"
#include "data/tokenizer.h"

static const char help[] =
    "usage: yoke inspect PATH [--config] [--verify] [--sample N] [--tokenizer FILE]\n\n"
    "Describe a run folder, a checkpoint folder, a token file (.h5), a tokenizer (.json) "
    "or a\n"
    "configuration (.yaml).\n\n"
    "  --config           print the configuration that a checkpoint was written with\n"
    "  --verify           check every byte of a checkpoint or token file\n"
    "  --sample N         print the first N tokens of a token file, one a line\n"
    "  --tokenizer FILE   with --sample: show the text of each token\n";

struct arguments {
    const char *path, *tokenizer;
    bool verify, config;
    int64_t sample;
};

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
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
    printf("tokens         %jd\n", (intmax_t)m->tokens);
    printf("next sample    %jd\n", (intmax_t)m->next_sample);
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
    if (a->verify) st = checkpoint_verify(c, 0, 1);
    if (a->verify && st == STATUS_OK) printf("verified       every byte is as written\n");
    checkpoint_close(&c);
    return st;
}

static status_t inspect_folder(const struct arguments *a)
{
    char inside[PATH_MAX], latest[PATH_MAX];
    file_join(inside, sizeof inside, a->path, "model.h5");
    if (file_exists(inside)) return inspect_checkpoint(a->path, a);
    TRY(checkpoint_find_latest(a->path, latest));
    if (!latest[0])
        return status_set(STATUS_CHECKPOINT,
                          "%s: is neither a checkpoint (model.h5) nor a run "
                          "folder with one (step-*/model.h5)",
                          a->path);
    printf("run            %s\n", a->path);
    return inspect_checkpoint(latest, a);
}

static status_t print_sample(const struct token_file *f, const struct arguments *a)
{
    const struct token_file_info *info = token_file_info(f);
    struct tokenizer *t = NULL;
    if (a->tokenizer) TRY(tokenizer_open(&t, a->tokenizer));
    status_t st = STATUS_OK;
    for (int64_t i = 0; i < a->sample && i < info->n_tokens && st == STATUS_OK; i++) {
        int32_t id;
        size_t n = 0;
        st = token_file_read(f, i, 1, &id);
        if (st != STATUS_OK) break;
        printf("%jd\t%d\t%jd", (intmax_t)i, id, (intmax_t)token_file_document_at(f, i));
        if (t && id < tokenizer_vocab_size(t)) {
            const char *text = tokenizer_bytes(t, id, &n);
            putchar('\t');
            for (size_t k = 0; k < n; k++) {
                const unsigned char byte = (unsigned char)text[k];
                if (byte < 0x20 || byte == 0x7f || byte == '\\')
                    printf("\\x%02x", byte);
                else
                    putchar(byte);
            }
        }
        putchar('\n');
    }
    tokenizer_close(&t);
    return st;
}

static status_t inspect_tokens(const struct arguments *a)
{
    struct token_file *f = NULL;
    TRY(token_file_open(&f, a->path,
                        a->verify ? TOKEN_FILE_CHECK_ALL : TOKEN_FILE_CHECK_SEAL));
    const struct token_file_info *i = token_file_info(f);
    printf("token file     %s\n", a->path);
    printf("tokens         %jd of %d bytes\n", (intmax_t)i->n_tokens, i->token_bytes);
    printf("documents      %jd\n", (intmax_t)i->n_documents);
    printf("vocabulary     %jd, end of document %jd\n", (intmax_t)i->vocab_size,
           (intmax_t)i->eos_id);
    if (i->text_bytes > 0)
        printf("text           %jd bytes, %.3f a token\n", (intmax_t)i->text_bytes,
               (double)i->text_bytes / (double)i->n_tokens);
    printf("tokenizer      sha256 %s\nsources        %s\n", i->tokenizer_sha256,
           token_file_sources(f));
    if (a->verify) printf("verified       every byte is as written\n");
    const status_t st = print_sample(f, a);
    token_file_close(&f);
    return st;
}

static status_t inspect_tokenizer(const char *path)
{
    struct tokenizer *t = NULL;
    TRY(tokenizer_open(&t, path));
    printf("tokenizer      %s\n", path);
    printf("vocabulary     %jd, of which %jd added\n", (intmax_t)tokenizer_vocab_size(t),
           (intmax_t)tokenizer_n_added(t));
    printf("merges         %jd\n", (intmax_t)tokenizer_n_merges(t));
    printf("end of document %jd\n", (intmax_t)tokenizer_eos(t));
    printf("sha256         %s\n", tokenizer_sha256(t));
    tokenizer_close(&t);
    return STATUS_OK;
}

static status_t inspect_config(const char *path)
{
    struct config c = {0};
    status_t st = config_load(&c, path, NULL, 0);
    if (st == STATUS_OK) {
        printf("configuration  %s\n", path);
        printf("model          %s, %jd layers, hidden %jd, heads %jd (%jd kv), ffn %jd\n",
               c.family, (intmax_t)c.arch.n_layers, (intmax_t)c.arch.hidden,
               (intmax_t)c.arch.n_heads, (intmax_t)c.arch.n_kv_heads,
               (intmax_t)c.arch.ffn);
        if (c.arch.vocab_size > 0)
            printf("parameters     %jd\n", (intmax_t)arch_parameters(&c.arch));
        else
            printf(
                "parameters     depend on the vocabulary, which the token files tell\n");
        printf("batch          %jd sequences of %jd tokens\n",
               (intmax_t)config_global_batch(&c), (intmax_t)c.sequence_length);
        printf("steps          %jd\n", (intmax_t)c.steps);
    }
    config_release(&c);
    return st;
}

static status_t inspect(const struct arguments *a)
{
    if (!file_exists(a->path))
        return status_set(STATUS_USAGE, "%s: does not exist", a->path);
    if (file_is_dir(a->path)) return inspect_folder(a);
    if (ends_with(a->path, ".h5")) return inspect_tokens(a);
    if (ends_with(a->path, ".json")) return inspect_tokenizer(a->path);
    if (ends_with(a->path, ".yaml") || ends_with(a->path, ".yml"))
        return inspect_config(a->path);
    return status_set(STATUS_USAGE, "%s: is none of a folder, .h5, .json, .yaml",
                      a->path);
}

int cmd_inspect(int argc, char **argv)
{
    static const struct option options[] = {{"config", no_argument, NULL, 'c'},
                                            {"verify", no_argument, NULL, 'v'},
                                            {"sample", required_argument, NULL, 'n'},
                                            {"tokenizer", required_argument, NULL, 't'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    struct arguments a = {0};
    status_t st = STATUS_OK;
    opterr = 0;
    for (int c;
         st == STATUS_OK && (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h') return fputs(help, stdout), 0;
        if (c == '?') return cli_usage("inspect", "unknown or incomplete option");
        if (c == 'c') a.config = true;
        if (c == 'v') a.verify = true;
        if (c == 't') a.tokenizer = optarg;
        if (c == 'n') st = option_int("--sample", optarg, 0, INT64_MAX, &a.sample);
    }
    if (st == STATUS_OK && argc - optind != 1)
        return cli_usage("inspect", "give one PATH");
    if (st == STATUS_OK) {
        a.path = argv[optind];
        st = inspect(&a);
    }
    return cli_exit(st, NULL);
}
