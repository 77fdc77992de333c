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
    "usage: yoke tokenize --tokenizer FILE --out FILE [OPTION]... TEXT...\n"
    "       yoke tokenize --chat NAME --tokenizer FILE --out FILE [OPTION]... "
    "JSONL...\n\n"
    "Turn text files into a token file for `yoke train`.  A file named *.jsonl or "
    "*.ndjson\n"
    "holds one JSON object with a \"text\" string a line, any other is plain text, one\n"
    "document; both may be packed (.gz, .zst).  Documents end with the tokenizer's\n"
    "end-of-document token.\n\n"
    "With --chat each line holds a conversation, {\"messages\": [{\"role\", "
    "\"content\"}]}, and\n"
    "only what the assistant says is to be predicted.\n\n"
    "  --tokenizer FILE              tokenizer.json\n"
    "  --out FILE                    token file to write\n"
    "  --validation FILE             second token file, for a share of the documents\n"
    "  --validation-share X          that share (default 0.01); the text of a document\n"
    "                                decides, so equal documents go to the same file\n"
    "  --paragraphs-per-document N   cut plain text after every N paragraphs (default "
    "0:\n"
    "                                the whole file is one document)\n"
    "  --no-eos                      do not end documents with a token\n"
    "  --chat NAME                   how messages become text: chatml, qwen2.5, "
    "smollm2,\n"
    "                                llama3, olmo2, or auto: what lies beside the "
    "tokenizer\n"
    "  --loss WHAT                   assistant (default) or all: what is to be "
    "predicted\n"
    "  --pack T                      conversations into rows of T tokens, none cut, for\n"
    "                                data.sequence_length: T\n"
    "  --overlong WHAT               with --pack, what is longer than T: error "
    "(default),\n"
    "                                drop, truncate or split\n"
    "  --threads N                   threads that encode (default: the cores it may "
    "use)\n";

struct arguments {
    const char *tokenizer, *out, *validation;
    double share;
    bool has_share, no_eos, has_loss, has_overlong;
    int64_t paragraphs, threads;
    const char *chat; /* a name, NULL: text */
    enum chat_loss loss;
    int64_t row_tokens;
    enum tokenize_overlong overlong;
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
    OPTION_CHAT,
    OPTION_LOSS,
    OPTION_PACK,
    OPTION_OVERLONG,
    OPTION_THREADS
};

static const struct option options[] = {
    {"tokenizer", required_argument, NULL, OPTION_TOKENIZER},
    {"out", required_argument, NULL, OPTION_OUT},
    {"validation", required_argument, NULL, OPTION_VALIDATION},
    {"validation-share", required_argument, NULL, OPTION_SHARE},
    {"paragraphs-per-document", required_argument, NULL, OPTION_PARAGRAPHS},
    {"no-eos", no_argument, NULL, OPTION_NO_EOS},
    {"chat", required_argument, NULL, OPTION_CHAT},
    {"loss", required_argument, NULL, OPTION_LOSS},
    {"pack", required_argument, NULL, OPTION_PACK},
    {"overlong", required_argument, NULL, OPTION_OVERLONG},
    {"threads", required_argument, NULL, OPTION_THREADS},
    {"help", no_argument, NULL, 'h'},
    {0}};

/* *value = the place of `word` in the list `names`, which NULL ends. */
static status_t choose(const char *option, const char *word, const char *const *names,
                       const char *valid, int *value)
{
    for (*value = 0; names[*value]; ++*value)
        if (strcmp(names[*value], word) == 0) return STATUS_OK;
    return status_set(STATUS_USAGE, "%s: \"%s\" is not valid (valid: %s)", option, word,
                      valid);
}

static status_t set_chat_option(struct arguments *a, int option)
{
    static const char *const losses[] = {"assistant", "all", NULL};
    static const char *const overlong[] = {"error", "drop", "truncate", "split", NULL};
    int value = 0;
    switch (option) {
    case OPTION_CHAT:
        a->chat = optarg;
        if (strcmp(optarg, "auto") == 0 || chat_template_find(optarg)) return STATUS_OK;
        return status_set(STATUS_USAGE,
                          "--chat: there is no template \"%s\" (valid: %s, "
                          "auto)",
                          optarg, chat_templates);
    case OPTION_LOSS:
        a->has_loss = true;
        TRY(choose("--loss", optarg, losses, "assistant, all", &value));
        a->loss = (enum chat_loss)value;
        return STATUS_OK;
    case OPTION_PACK:
        return option_int("--pack", optarg, 2, 1 << 24, &a->row_tokens);
    default:
        a->has_overlong = true;
        TRY(choose("--overlong", optarg, overlong, "error, drop, truncate, split",
                   &value));
        a->overlong = (enum tokenize_overlong)value;
        return STATUS_OK;
    }
}

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
    case OPTION_NO_EOS:
        a->no_eos = true;
        return STATUS_OK;
    default:
        return set_chat_option(a, option);
    }
}

/* Options of one kind of data are refused with the other. */
static int check_kind(const struct arguments *a)
{
    if (!a->chat && (a->has_loss || a->row_tokens > 0))
        return cli_usage("tokenize", "--loss and --pack need --chat NAME");
    if (a->has_overlong && a->row_tokens == 0)
        return cli_usage("tokenize", "--overlong needs --pack T");
    if (!a->chat) return -1;
    if (a->no_eos || a->paragraphs > 0)
        return cli_usage("tokenize", "--no-eos and --paragraphs-per-document are for "
                                     "text, not for --chat");
    for (int i = 0; i < a->n_texts; i++)
        if (!text_is_jsonl(a->texts[i]))
            return cli_usage("tokenize", "--chat reads .jsonl (also .gz, .zst)");
    return -1;
}

/* -1: go on; otherwise the exit code. */
static int parse(int argc, char **argv, struct arguments *a)
{
    *a = (struct arguments){.share = 0.01, .threads = option_cores()};
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h') return fputs(help, stdout), 0;
        if (c == '?') return cli_usage_option("tokenize", argv);
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
    return check_kind(a);
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

static void report_conversations(const char *path, const struct tokenize_counts *c,
                                 const struct arguments *a)
{
    printf("%s: %jd conversations, %jd tokens, %jd of them to be predicted\n", path,
           (intmax_t)c->n_documents, (intmax_t)c->n_tokens, (intmax_t)c->n_predicted);
    if (a->row_tokens > 0)
        printf("%s: %jd rows of %jd tokens, %.2f %% padding\n", path, (intmax_t)c->n_rows,
               (intmax_t)a->row_tokens,
               100 - 100.0 * (double)c->n_tokens / (double)(c->n_rows * a->row_tokens));
    if (c->n_overlong > 0)
        printf("%s: %jd conversations were longer than a row\n", path,
               (intmax_t)c->n_overlong);
    if (c->n_dropped > 0)
        printf("%s: %jd conversations or pieces were left out\n", path,
               (intmax_t)c->n_dropped);
}

static void report(const char *path, const struct tokenize_counts *c,
                   const struct arguments *a)
{
    if (a->chat) {
        report_conversations(path, c, a);
        return;
    }
    printf("%s: %jd documents, %jd tokens, %.2f bytes per token\n", path,
           (intmax_t)c->n_documents, (intmax_t)c->n_tokens,
           (double)c->text_bytes / (double)c->n_tokens);
}

static status_t find_template(const struct arguments *a, const struct chat_template **t)
{
    *t = NULL;
    if (!a->chat) return STATUS_OK;
    if (strcmp(a->chat, "auto") != 0) {
        *t = chat_template_find(a->chat);
        return STATUS_OK;
    }
    TRY(chat_template_detect(t, a->tokenizer));
    printf("template %s\n", chat_template_name(*t));
    return STATUS_OK;
}

static status_t run(const struct arguments *a)
{
    struct tokenizer *tokenizer = NULL;
    struct text_reader *text = NULL;
    struct tokenize_counts train, validation;
    const struct chat_template *chat = NULL;
    const struct text_options how = {.paragraphs_per_document = a->paragraphs,
                                     .lines = a->chat != NULL};
    status_t st = tokenizer_open(&tokenizer, a->tokenizer);
    if (st == STATUS_OK) st = find_template(a, &chat);
    if (st == STATUS_OK)
        st = text_open(&text, (const char *const *)a->texts, a->n_texts, &how);
    if (st != STATUS_OK) goto out;
    struct progress p = {.text = text, .started = clock_seconds()};
    const struct tokenize_options o = {.tokenizer = tokenizer,
                                       .tokenizer_path = a->tokenizer,
                                       .text = text,
                                       .chat = chat,
                                       .loss = a->loss,
                                       .row_tokens = a->row_tokens,
                                       .overlong = a->overlong,
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
    report(a->out, &train, a);
    if (a->validation) report(a->validation, &validation, a);
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
