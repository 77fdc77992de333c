#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/options.h"
#include "core/file.h"
#include "data/tokenizer.h"
#include "train/evaluate.h"
#include "train/inference.h"
#include "train/launch.h"
#include "train/place.h"

static const char help[] =
    "usage: yoke eval PATH [--data FILE] [--sequences N] [--batch N] [--threads N]\n"
    "                 [--device auto|cpu|cuda]\n\n"
    "Loss (nats a token), perplexity and bits per byte of a checkpoint, and the unigram "
    "entropy\n"
    "of the same text.  PATH is a checkpoint or a run folder (its newest checkpoint).  "
    "May run\n"
    "under mpirun.\n\n"
    "  --data FILE     token file (default: data.validation of the run)\n"
    "  --sequences N   at most N windows (default 0: all)\n"
    "  --batch N       sequences at a time (default 8)\n"
    "  --threads N     threads a rank (default: the cores it may use)\n"
    "  --device NAME   auto, cpu or cuda (default auto)\n";

struct arguments {
    const char *path, *data;
    int64_t sequences, batch, threads;
    int device;
};

static int parse(int argc, char **argv, struct arguments *a, int *exit_code)
{
    static const struct option options[] = {{"data", required_argument, NULL, 'd'},
                                            {"sequences", required_argument, NULL, 'n'},
                                            {"batch", required_argument, NULL, 'b'},
                                            {"threads", required_argument, NULL, 't'},
                                            {"device", required_argument, NULL, 'D'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    *a = (struct arguments){.batch = 8};
    *exit_code = 0;
    opterr = 0;
    status_t st = STATUS_OK;
    for (int c;
         st == STATUS_OK && (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h') return fputs(help, stdout), 1;
        if (c == '?')
            return *exit_code = cli_usage_early("eval", "unknown or incomplete option"),
                   1;
        if (c == 'd') a->data = optarg;
        if (c == 'n') st = option_int("--sequences", optarg, 0, INT64_MAX, &a->sequences);
        if (c == 'b') st = option_int("--batch", optarg, 1, 1 << 20, &a->batch);
        if (c == 'D') st = place_parse(optarg, &a->device);
        if (c == 't') st = option_int("--threads", optarg, 1, 4096, &a->threads);
    }
    if (st != STATUS_OK) return *exit_code = cli_exit_early(st), 1;
    if (argc - optind != 1)
        return *exit_code = cli_usage_early("eval", "give one PATH"), 1;
    a->path = argv[optind];
    return 0;
}

/* How many bytes each token stands for; NULL in *bytes when the run has no tokenizer. */
static status_t load_token_bytes(const struct inference *i, int32_t **bytes)
{
    char path[PATH_MAX];
    struct tokenizer *t = NULL;
    inference_tokenizer_path(i, path);
    *bytes = NULL;
    if (!file_exists(path)) return STATUS_OK;
    TRY(inference_tokenizer_open(&t, i));
    const int64_t V = i->config.arch.vocab_size;
    *bytes = calloc((size_t)V, sizeof **bytes);
    if (!*bytes) {
        tokenizer_close(&t);
        return status_set(STATUS_NOMEM, "no memory for the lengths of %jd tokens",
                          (intmax_t)V);
    }
    for (int64_t id = 0; id < V && id < tokenizer_vocab_size(t); id++) {
        size_t n = 0;
        tokenizer_bytes(t, id, &n);
        if (id != tokenizer_eos(t)) (*bytes)[id] = (int32_t)n; /* eos is no text */
    }
    tokenizer_close(&t);
    return STATUS_OK;
}

static status_t open_data(struct sampler **s, const struct inference *i,
                          const struct arguments *a)
{
    struct data_source given = {.path = (char *)(uintptr_t)a->data, .weight = 1};
    const struct config *c = &i->config;
    if (!a->data && c->validation.n == 0)
        return status_set(STATUS_USAGE,
                          "the run has no data.validation; give --data FILE");
    const struct data_source *sources = a->data ? &given : c->validation.items;
    const int n = a->data ? 1 : c->validation.n;
    const struct sampler_options o = {.sources = sources,
                                      .n_sources = n,
                                      .T = c->sequence_length,
                                      .document_mask = c->document_mask,
                                      .check = inputs_check(c, sources, n)};
    TRY(sampler_create(s, &o));
    const struct token_file_info *info = token_file_info(sampler_file(*s, 0));
    if (info->vocab_size > c->arch.vocab_size)
        return status_set(STATUS_DATA, "%s: has %jd token ids, the model %jd",
                          token_file_path(sampler_file(*s, 0)),
                          (intmax_t)info->vocab_size, (intmax_t)c->arch.vocab_size);
    return STATUS_OK;
}

static void report(const struct evaluation *e, double unigram)
{
    printf("validation loss %.4f perplexity %.3f", e->loss, exp(e->loss));
    if (e->n_bytes > 0)
        printf(" bits_per_byte %.4f",
               e->loss * (double)e->n_targets / (double)e->n_bytes / M_LN2);
    printf(" unigram %.4f targets %jd sequences %jd\n", unigram, (intmax_t)e->n_targets,
           (intmax_t)e->n_sequences);
}

static void add_loss(void *model, const struct model_input *in, struct nn_loss *loss)
{
    model_loss(model, in, loss, NULL);
}

static status_t run(struct comm *world, const struct arguments *a)
{
    struct inference i = {0};
    struct sampler *sampler = NULL;
    struct evaluation e;
    int32_t *token_bytes = NULL;
    int64_t *histogram = NULL;
    int threads = 0;
    status_t st = launch_check(world, a->path, (int)a->threads, &threads);
    int local_rank = 0;
    if (st == STATUS_OK) st = place_local_rank(&local_rank, world);
    if (st != STATUS_OK) return st;
    const struct inference_options io = {.path = a->path,
                                         .device = a->device,
                                         .local_rank = local_rank,
                                         .n_threads = threads,
                                         .max_B = a->batch};
    st = inference_open(&i, &io);
    if (st == STATUS_OK) st = load_token_bytes(&i, &token_bytes);
    if (st == STATUS_OK) st = open_data(&sampler, &i, a);
    if (st == STATUS_OK) {
        histogram = calloc((size_t)i.config.arch.vocab_size, sizeof *histogram);
        if (!histogram) st = status_set(STATUS_NOMEM, "no memory for a histogram");
    }
    st = comm_agree(world, st);
    if (st != STATUS_OK) goto out;
    const struct evaluate_options o = {.sampler = sampler,
                                       .sequences = a->sequences,
                                       .micro_batch = a->batch,
                                       .T = i.config.sequence_length,
                                       .inputs = &i.inputs,
                                       .token_bytes = token_bytes,
                                       .histogram = histogram,
                                       .vocab_size = i.config.arch.vocab_size,
                                       .rank = comm_rank(world),
                                       .size = comm_size(world),
                                       .counts = true,
                                       .comm = world,
                                       .loss = add_loss,
                                       .context = i.model};
    st = evaluate(&e, &o);
    if (st == STATUS_OK && comm_rank(world) == 0)
        report(&e, evaluate_unigram_entropy(histogram, o.vocab_size));
out:
    free(histogram);
    free(token_bytes);
    sampler_destroy(&sampler);
    inference_release(&i);
    return st;
}

int cmd_eval(int argc, char **argv)
{
    struct arguments a;
    struct comm *world = NULL;
    int code;
    if (parse(argc, argv, &a, &code)) return code;
    if (comm_start(&world, &argc, &argv) != STATUS_OK) return cli_exit(STATUS_COMM, NULL);
    code = cli_exit(run(world, &a), world);
    comm_finish(&world);
    return code;
}
