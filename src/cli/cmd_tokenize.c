#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/options.h"
#include "core/clock.h"
#include "core/log.h"
#include "data/tokenize.h"

static const char help[] =
    "usage: yoke tokenize --tokenizer FILE --out FILE [OPTION]... TEXT...\n\n"
    "Turn text files into a token file for `yoke train`.  A file named *.jsonl or "
    "*.ndjson\n"
    "holds one JSON object with a \"text\" string a line, any other is plain text, one\n"
    "document; both may be packed (.gz, .zst).  Documents end with the tokenizer's\n"
    "end-of-document token.\n\n"
    "  --tokenizer FILE              tokenizer.json\n"
    "  --out FILE                    token file to write\n"
    "  --validation FILE             second token file, for a share of the documents\n"
    "  --validation-share X          that share (default 0.01); the text of a document\n"
    "                                decides, so equal documents go to the same file\n"
    "  --paragraphs-per-document N   cut plain text after every N paragraphs (default "
    "0:\n"
    "                                the whole file is one document)\n"
    "  --no-eos                      do not end documents with a token\n"
    "  --threads N                   threads that encode (default: the cores it may "
    "use)\n";

struct arguments {
    const char *tokenizer, *out, *validation;
    double share;
    bool has_share, no_eos;
    int64_t paragraphs, threads;
    char **texts;
    int n_texts;
};

enum {
    OPTION_TOKENIZER = 256,
    OPTION_OUT,
    OPTION_VALIDATION,
    OPTION_SHARE,
    OPTION_PARAGRAPHS,
    OPTION_NO_EOS,
    OPTION_THREADS
};

static const struct option options[] = {
    {"tokenizer", required_argument, NULL, OPTION_TOKENIZER},
    {"out", required_argument, NULL, OPTION_OUT},
    {"validation", required_argument, NULL, OPTION_VALIDATION},
    {"validation-share", required_argument, NULL, OPTION_SHARE},
    {"paragraphs-per-document", required_argument, NULL, OPTION_PARAGRAPHS},
    {"no-eos", no_argument, NULL, OPTION_NO_EOS},
    {"threads", required_argument, NULL, OPTION_THREADS},
    {"help", no_argument, NULL, 'h'},
    {0}};

static status_t set_option(struct arguments *a, int option)
{
    switch (option) {
    case OPTION_TOKENIZER:
        a->tokenizer = optarg;
        return STATUS_OK;
    case OPTION_OUT:
        a->out = optarg;
        return STATUS_OK;
    case OPTION_VALIDATION:
        a->validation = optarg;
        return STATUS_OK;
    case OPTION_SHARE:
        a->has_share = true;
        TRY(option_double("--validation-share", optarg, &a->share));
        if (a->share > 0 && a->share < 1) return STATUS_OK;
        return status_set(STATUS_USAGE, "--validation-share: %s is not between 0 and 1",
                          optarg);
    case OPTION_PARAGRAPHS:
        return option_int("--paragraphs-per-document", optarg, 0, INT64_MAX,
                          &a->paragraphs);
    case OPTION_THREADS:
        return option_int("--threads", optarg, 1, 1024, &a->threads);
    default:
        a->no_eos = true;
        return STATUS_OK;
    }
}

/* -1: go on; otherwise the exit code. */
static int parse(int argc, char **argv, struct arguments *a)
{
    *a = (struct arguments){.share = 0.01, .threads = option_cores()};
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h') return fputs(help, stdout), 0;
        if (c == '?') return cli_usage("tokenize", "unknown or incomplete option");
        const status_t st = set_option(a, c);
        if (st != STATUS_OK) return cli_exit(st, NULL);
    }
    a->texts = argv + optind;
    a->n_texts = argc - optind;
    if (!a->tokenizer) return cli_usage("tokenize", "give --tokenizer FILE");
    if (!a->out) return cli_usage("tokenize", "give --out FILE");
    if (a->n_texts == 0) return cli_usage("tokenize", "give at least one text file");
    if (a->has_share && !a->validation)
        return cli_usage("tokenize", "--validation-share needs --validation FILE");
    if (a->validation && strcmp(a->validation, a->out) == 0)
        return cli_usage("tokenize", "--out and --validation are the same file");
    return -1;
}

struct progress {
    const struct text_reader *text;
    double started, shown;
};

static void show_progress(void *context, const struct tokenize_counts *so_far)
{
    struct progress *p = context;
    const double now = clock_seconds();
    if (now - p->shown < 0.2) return;
    p->shown = now;
    const double read = (double)text_bytes_read(p->text);
    const double total = (double)text_bytes_total(p->text);
    log_progress("tokenize: %.0f of %.0f MB, %.1f MB/s, %jd documents", read / 1e6,
                 total / 1e6, (double)so_far->text_bytes / 1e6 / (now - p->started),
                 (intmax_t)so_far->n_documents);
}

static void report(const char *path, const struct tokenize_counts *c)
{
    printf("%s: %jd documents, %jd tokens, %.2f bytes per token\n", path,
           (intmax_t)c->n_documents, (intmax_t)c->n_tokens,
           (double)c->text_bytes / (double)c->n_tokens);
}

static status_t run(const struct arguments *a)
{
    struct tokenizer *tokenizer = NULL;
    struct text_reader *text = NULL;
    struct tokenize_counts train, validation;
    const struct text_options how = {.paragraphs_per_document = a->paragraphs};
    status_t st = tokenizer_open(&tokenizer, a->tokenizer);
    if (st == STATUS_OK)
        st = text_open(&text, (const char *const *)a->texts, a->n_texts, &how);
    if (st != STATUS_OK) goto out;
    struct progress p = {.text = text, .started = clock_seconds()};
    const struct tokenize_options o = {.tokenizer = tokenizer,
                                       .text = text,
                                       .train_path = a->out,
                                       .validation_path = a->validation,
                                       .validation_share = a->share,
                                       .no_eos = a->no_eos,
                                       .n_threads = (int)a->threads,
                                       .progress = show_progress,
                                       .progress_context = &p};
    st = tokenize(&o, &train, &validation);
    if (st != STATUS_OK) goto out;
    const double seconds = clock_seconds() - p.started;
    const double bytes = (double)(train.text_bytes + validation.text_bytes);
    report(a->out, &train);
    if (a->validation) report(a->validation, &validation);
    printf("%.1f MB of text in %.2f s, %.1f MB/s on %jd threads\n", bytes / 1e6, seconds,
           bytes / 1e6 / seconds, (intmax_t)a->threads);
out:
    text_close(&text);
    tokenizer_close(&tokenizer);
    return st;
}

int cmd_tokenize(int argc, char **argv)
{
    struct arguments a;
    const int code = parse(argc, argv, &a);
    return code >= 0 ? code : cli_exit(run(&a), NULL);
}
