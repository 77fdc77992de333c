#include <getopt.h>
#include <limits.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/options.h"
#include "core/rng.h"
#include "data/tokenizer.h"
#include "model/sample.h"
#include "train/inference.h"

static const char help[] =
    "usage: yoke generate PATH [--prompt TEXT] [--tokens N] [--temperature X] [--top-k "
    "K]\n"
    "                     [--top-p P] [--seed N] [--tokenizer FILE] [--threads N]\n"
    "                     [--device auto|cpu|cuda]\n\n"
    "Continue a text with a trained model.  PATH is a checkpoint or a run folder.\n\n"
    "  --prompt TEXT     where to start (default: a new document)\n"
    "  --tokens N        how many tokens to make at most (default 100)\n"
    "  --temperature X   0 takes the most likely token every time (default 0.8)\n"
    "  --top-k K         choose among the K most likely (default 0: all)\n"
    "  --top-p P         choose among the most likely that together reach P (default 1)\n"
    "  --seed N          the same seed gives the same text (default 1)\n"
    "  --tokenizer FILE  default: tokenizer.json in the run folder\n"
    "  --threads N       default: the cores it may use\n"
    "  --device NAME     auto, cpu or cuda (default auto)\n";

struct arguments {
    const char *path, *prompt, *tokenizer;
    int64_t tokens, seed, threads;
    char device[256]; /* an override; "": none */
    struct sample_options sample;
};

static status_t parse_option(struct arguments *a, int c)
{
    switch (c) {
    case 'p':
        a->prompt = optarg;
        return STATUS_OK;
    case 'f':
        a->tokenizer = optarg;
        return STATUS_OK;
    case 'n':
        return option_int("--tokens", optarg, 1, 1 << 24, &a->tokens);
    case 's':
        return option_int("--seed", optarg, 0, INT64_MAX, &a->seed);
    case 'k':
        return option_int("--top-k", optarg, 0, INT32_MAX, &a->sample.top_k);
    case 'd':
        snprintf(a->device, sizeof a->device, "train.device=%s", optarg);
        return STATUS_OK;
    case 'j':
        return option_int("--threads", optarg, 1, 4096, &a->threads);
    case 't':
        return option_double("--temperature", optarg, &a->sample.temperature);
    default:
        return option_double("--top-p", optarg, &a->sample.top_p);
    }
}

static int parse(int argc, char **argv, struct arguments *a, int *exit_code)
{
    static const struct option options[] = {{"prompt", required_argument, NULL, 'p'},
                                            {"tokens", required_argument, NULL, 'n'},
                                            {"temperature", required_argument, NULL, 't'},
                                            {"top-k", required_argument, NULL, 'k'},
                                            {"top-p", required_argument, NULL, 'q'},
                                            {"seed", required_argument, NULL, 's'},
                                            {"tokenizer", required_argument, NULL, 'f'},
                                            {"threads", required_argument, NULL, 'j'},
                                            {"device", required_argument, NULL, 'd'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    *a = (struct arguments){.prompt = "",
                            .tokens = 100,
                            .seed = 1,
                            .threads = omp_get_max_threads(),
                            .sample = {.temperature = 0.8, .top_p = 1}};
    *exit_code = 0;
    opterr = 0;
    status_t st = STATUS_OK;
    for (int c;
         st == STATUS_OK && (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h') return fputs(help, stdout), 1;
        if (c == '?') return *exit_code = cli_usage_option("generate", argv), 1;
        st = parse_option(a, c);
    }
    if (st == STATUS_OK) st = sample_check(&a->sample);
    if (st != STATUS_OK) return *exit_code = cli_exit(st, NULL), 1;
    if (argc - optind != 1) return *exit_code = cli_usage("generate", "give one PATH"), 1;
    a->path = argv[optind];
    a->sample.key = rng_key((uint64_t)a->seed, "generate", "");
    return 0;
}

static status_t open_tokenizer(struct tokenizer **t, const struct inference *i,
                               const struct arguments *a)
{
    char path[PATH_MAX];
    inference_tokenizer_path(i, path);
    if (a->tokenizer)
        TRY(tokenizer_open(t, a->tokenizer));
    else
        TRY(inference_tokenizer_open(t, i));
    if (tokenizer_vocab_size(*t) <= i->config.arch.vocab_size) return STATUS_OK;
    return status_set(STATUS_DATA, "%s: has %jd tokens, the model %jd",
                      a->tokenizer ? a->tokenizer : path,
                      (intmax_t)tokenizer_vocab_size(*t),
                      (intmax_t)i->config.arch.vocab_size);
}

/* The ids to start from; an empty prompt starts a document. */
static status_t encode_prompt(const struct tokenizer *t, const char *prompt,
                              struct token_list *ids)
{
    struct encoder *e = NULL;
    TRY(encoder_create(&e, t));
    const status_t st = encoder_encode(e, prompt, strlen(prompt), ids);
    encoder_destroy(&e);
    if (st != STATUS_OK || ids->n > 0) return st;
    if (tokenizer_eos(t) < 0)
        return status_set(STATUS_USAGE,
                          "the tokenizer has no end-of-document token to start "
                          "from; give --prompt");
    ids->ids = malloc(sizeof *ids->ids);
    if (!ids->ids) return status_set(STATUS_NOMEM, "no memory for the prompt");
    ids->ids[0] = (int32_t)tokenizer_eos(t);
    ids->n = ids->capacity = 1;
    return STATUS_OK;
}

static status_t generate(struct inference *i, const struct tokenizer *t,
                         const struct token_list *prompt, const struct arguments *a)
{
    const int64_t V = i->config.arch.vocab_size;
    float *logits = malloc((size_t)V * sizeof *logits);
    int32_t *order = malloc((size_t)V * sizeof *order);
    status_t st = STATUS_OK;
    if (!logits || !order) {
        st = status_set(STATUS_NOMEM, "no memory for %jd logits", (intmax_t)V);
        goto out;
    }
    fputs(a->prompt, stdout);
    for (int64_t n = 0; n < prompt->n; n++)
        model_decode(i->decoder, &prompt->ids[n], logits);
    for (int64_t n = 0; n < a->tokens; n++) {
        const int32_t id = sample_token(logits, V, &a->sample, (uint64_t)n, order);
        size_t bytes = 0;
        if (id == tokenizer_eos(t)) break;
        if (id < tokenizer_vocab_size(t)) {
            const char *text = tokenizer_bytes(t, id, &bytes);
            fwrite(text, 1, bytes, stdout);
            fflush(stdout);
        }
        if (n + 1 < a->tokens) model_decode(i->decoder, &id, logits);
    }
    putchar('\n');
out:
    free(order);
    free(logits);
    return st;
}

static status_t run(const struct arguments *a)
{
    struct inference i = {0};
    struct tokenizer *t = NULL;
    struct token_list prompt = {0};
    const char *device = a->device;
    const struct inference_options o = {.path = a->path,
                                        .overrides = &device,
                                        .n_overrides = a->device[0] != 0,
                                        .n_threads = (int)a->threads};
    struct inference_room room = {.max_B = 1, .decode = true};
    status_t st = inference_open(&i, &o);
    room.T = i.config.sequence_length;
    if (st == STATUS_OK) st = inference_load(&i, &room);
    if (st == STATUS_OK) st = open_tokenizer(&t, &i, a);
    if (st == STATUS_OK) st = encode_prompt(t, a->prompt, &prompt);
    if (st == STATUS_OK && prompt.n + a->tokens > i.config.arch.max_positions)
        st = status_set(
            STATUS_USAGE,
            "--tokens: prompt of %jd and %jd new tokens exceed the model's %jd "
            "positions",
            (intmax_t)prompt.n, (intmax_t)a->tokens,
            (intmax_t)i.config.arch.max_positions);
    if (st == STATUS_OK) st = generate(&i, t, &prompt, a);
    token_list_release(&prompt);
    tokenizer_close(&t);
    inference_release(&i);
    return st;
}

int cmd_generate(int argc, char **argv)
{
    struct arguments a;
    int code;
    if (parse(argc, argv, &a, &code)) return code;
    return cli_exit(run(&a), NULL);
}
