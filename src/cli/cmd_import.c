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
#include "core/commit.h"
#include "core/file.h"
#include "core/log.h"
#include "data/tokenizer.h"
#include "train/layout.h"

static const char help[] =
    "usage: yoke import HF_FOLDER RUN [--tp N] [--pp N] [--cp N] [--dp N]\n\n"
    "Turn a Hugging Face model (config.json, *.safetensors, tokenizer files) of a family "
    "that docs/huggingface.md lists\n"
    "into a run folder: RUN/step-00000000, the tokenizer's files as they are, and "
    "config.yaml to\n"
    "start from.  Every tensor's name, shape and type is checked first.  A rank holds "
    "less "
    "than half a\n"
    "GB of it at a time, whatever the size of the model.  Then, in any layout:\n"
    "  yoke train my.yaml --set checkpoint.resume=RUN\n"
    "  yoke generate RUN --prompt ...\n\n"
    "Under mpirun the ranks share the work; with --tp, --pp, --cp and --dp each reads "
    "and "
    "writes what it\n"
    "will hold in that layout, which config.yaml then has.  The tensors are the same.\n";

enum { MAX_OVERRIDES = 4 };

struct arguments {
    const char *folder, *run_dir;
    char named[MAX_OVERRIDES][64]; /* parallel.tp=2 */
    const char *overrides[MAX_OVERRIDES];
    int n_overrides;
};

/* What an import goes through. */
struct job {
    const struct arguments *args;
    struct comm *world;
    struct arch arch;
    const char *family;
    bool has_tokenizer;
    struct config config;
    struct hf *from;
    struct layout layout;
    struct param_table whole, local;
};

static bool is_first(const struct job *j)
{
    return comm_rank(j->world) == 0;
}

/* All its tokens have a row in the model.  One that yoke does not read may be of use elsewhere. */
static status_t check_tokenizer(const struct job *j, const char *path)
{
    struct tokenizer *t = NULL;
    if (tokenizer_open(&t, path) != STATUS_OK) {
        if (is_first(j))
            log_warn("imported all the same, but yoke cannot use it: %s",
                     status_message());
        return STATUS_OK;
    }
    const int64_t n = tokenizer_vocab_size(t), V = j->arch.vocab_size;
    tokenizer_close(&t);
    if (n <= V) return STATUS_OK;
    return status_set(
        STATUS_DATA,
        "%s: has %jd tokens, but config.json's vocab_size is %jd (valid: up "
        "to that; give the model's own tokenizer.json, or none)",
        path, (intmax_t)n, (intmax_t)V);
}

/* A whole configuration of that model; what it does not know is there to be changed. */
static status_t make_config(struct job *j)
{
    const char *run_dir = j->args->run_dir;
    const int64_t positions = j->arch.max_positions, ranks = comm_size(j->world);
    char text[4 * PATH_MAX], tokenizer[PATH_MAX];
    file_join(tokenizer, sizeof tokenizer, j->args->folder, "tokenizer.json");
    j->has_tokenizer = file_exists(tokenizer);
    if (j->has_tokenizer) TRY(check_tokenizer(j, tokenizer));
    file_join(tokenizer, sizeof tokenizer, run_dir, "tokenizer.json");
    snprintf(text, sizeof text,
             "model: {family: %s, layers: 1, hidden: 64, heads: 1}\n"
             "data: {tokenizer: \"%s\", train: train.h5, sequence_length: %jd}\n"
             "train: {run_dir: \"%s\", steps: 1000, batch_sequences: %jd}\n"
             "optim: {lr: 1.0e-5}\nschedule: {kind: constant}\n",
             j->family, j->has_tokenizer ? tokenizer : "",
             (intmax_t)(positions < 1024 ? positions : 1024), run_dir,
             (intmax_t)(ranks < 8 ? 8 : ranks));
    TRY(config_parse(&j->config, "the imported model", text, strlen(text),
                     j->args->overrides, j->args->n_overrides));
    /* the default where positions are not stretched, as reading config.yaml again would have it */
    const double rope_high = j->config.arch.rope_high;
    j->config.arch = j->arch;
    if (j->arch.rope_high == 0) j->config.arch.rope_high = rope_high;
    return STATUS_OK;
}

/* All that can be known before anything is written.  Local. */
static status_t prepare(struct job *j)
{
    TRY(hf_config_read(j->args->folder, &j->arch, &j->family));
    TRY(hf_files_check_free(j->args->run_dir));
    TRY(make_config(j));
    TRY(layout_init(&j->layout, &j->config, comm_rank(j->world), comm_size(j->world)));
    TRY(param_table_init(&j->whole, &j->arch, NULL, 0));
    return param_table_init(&j->local, &j->arch, &j->layout.shard, 0);
}

/* The first rank by itself, so that what is wrong with the tensors is listed once. */
static status_t open_folder(struct job *j)
{
    const char *folder = j->args->folder;
    TRY(comm_agree(j->world,
                   is_first(j) ? hf_open(&j->from, folder, &j->arch) : STATUS_OK));
    return comm_agree(j->world,
                      is_first(j) ? STATUS_OK : hf_open(&j->from, folder, &j->arch));
}

static status_t make_run(const struct job *j)
{
    if (!is_first(j)) return STATUS_OK;
    TRY(file_make_dirs(j->args->run_dir));
    return hf_files_copy(j->args->run_dir, j->args->folder);
}

static status_t write_config(const struct job *j, const char *text)
{
    char path[PATH_MAX];
    if (!is_first(j)) return STATUS_OK;
    file_join(path, sizeof path, j->args->run_dir, "config.yaml");
    TRY(file_replace(path, text, strlen(text)));
    printf("imported %s: %s, %jd parameters, as %s/step-00000000\n", j->args->folder,
           j->family, (intmax_t)arch_parameters(&j->arch), j->args->run_dir);
    if (!j->has_tokenizer)
        printf(
            "%s holds no tokenizer.json: data.tokenizer is empty; yoke generate and eval "
            "--task need --tokenizer FILE\n",
            j->args->folder);
    return STATUS_OK;
}

static status_t write_run(struct job *j)
{
    char *text = NULL, versions[128];
    status_t st = comm_agree(j->world, config_dump(&j->config, &text));
    snprintf(versions, sizeof versions, "{\"yoke\": \"%s\", \"commit\": \"%s\"}",
             YOKE_VERSION, core_commit);
    const struct checkpoint_meta meta = {.validation_loss = (double)NAN,
                                         .config = text,
                                         .versions = versions,
                                         .data = "{}"};
    const struct mesh *m = &j->layout.mesh;
    const struct hf_import_options o = {.run_dir = j->args->run_dir,
                                        .world = j->world,
                                        .whole = &j->whole,
                                        .local = &j->local,
                                        .share = m->coord[MESH_DP] * m->size[MESH_CP] +
                                                 m->coord[MESH_CP],
                                        .shares = m->size[MESH_DP] * m->size[MESH_CP],
                                        .meta = &meta};
    if (st == STATUS_OK) st = hf_import(j->from, &o);
    if (st == STATUS_OK) st = comm_agree(j->world, write_config(j, text));
    free(text);
    return st;
}

static status_t import(const struct arguments *args, struct comm *world)
{
    struct job j = {.args = args, .world = world};
    status_t st = comm_agree(world, prepare(&j));
    if (st == STATUS_OK) st = open_folder(&j);
    if (st == STATUS_OK) st = comm_agree(world, make_run(&j));
    if (st == STATUS_OK) st = write_run(&j);
    hf_close(&j.from);
    param_table_release(&j.local);
    param_table_release(&j.whole);
    layout_release(&j.layout);
    config_release(&j.config);
    return st;
}

/* True: *code is the exit code. */
static bool parse(int argc, char **argv, struct arguments *a, int *code)
{
    static const struct option options[] = {
        {"help", no_argument, NULL, 'h'},     {"tp", required_argument, NULL, 't'},
        {"pp", required_argument, NULL, 'p'}, {"cp", required_argument, NULL, 'c'},
        {"dp", required_argument, NULL, 'd'}, {0}};
    *a = (struct arguments){0};
    *code = 0;
    opterr = 0;
    for (int c, i; (c = getopt_long(argc, argv, "h", options, &i)) != -1;) {
        if (c == 'h') return fputs(help, stdout), true;
        if (c == '?') return *code = cli_usage_option("import", argv), true;
        if (a->n_overrides == MAX_OVERRIDES)
            return *code = cli_usage_early("import", "repeated options"), true;
        char *text = a->named[a->n_overrides];
        snprintf(text, sizeof a->named[0], "parallel.%s=%s", options[i].name, optarg);
        a->overrides[a->n_overrides++] = text;
    }
    if (argc - optind != 2)
        return *code = cli_usage_early("import", "give HF_FOLDER and RUN"), true;
    a->folder = argv[optind];
    a->run_dir = argv[optind + 1];
    return false;
}

int cmd_import(int argc, char **argv)
{
    struct arguments a;
    struct comm *world = NULL;
    int code;
    if (parse(argc, argv, &a, &code)) return code;
    if (comm_start(&world, &argc, &argv) != STATUS_OK) return cli_exit(STATUS_COMM, NULL);
    code = cli_exit(import(&a, world), world);
    comm_finish(&world);
    return code;
}
