#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/options.h"
#include "core/file.h"
#include "core/clock.h"
#include "core/log.h"
#include "data/text.h"
#include "data/tokenizer.h"

static const char help[] =
    "usage: yoke tokenizer train --out FILE [OPTION]... TEXT...\n"
    "       yoke tokenizer encode --tokenizer FILE [TEXT]\n"
    "       yoke tokenizer decode --tokenizer FILE [ID]...\n\n"
    "train makes a byte-level BPE tokenizer.json out of text files (see yoke tokenize).\n"
    "encode prints the ids of its argument, or of standard input; decode prints the "
    "text\n"
    "of ids.\n\n"
    "  --out FILE        tokenizer.json to write\n"
    "  --vocab N         tokens of all kinds (default 32768)\n"
    "  --special TOKEN   a token that text never makes; may be repeated (default: one,\n"
    "                    <|endoftext|>)\n"
    "  --threads N       threads that count words (default: the cores it may use)\n"
    "  --tokenizer FILE  tokenizer.json to use\n";

enum {
    OPTION_OUT = 256,
    OPTION_VOCAB,
    OPTION_SPECIAL,
    OPTION_THREADS,
    OPTION_TOKENIZER,
    MAX_SPECIAL = 1000
};

static const struct option train_options[] = {
    {"out", required_argument, NULL, OPTION_OUT},
    {"vocab", required_argument, NULL, OPTION_VOCAB},
    {"special", required_argument, NULL, OPTION_SPECIAL},
    {"threads", required_argument, NULL, OPTION_THREADS},
    {"help", no_argument, NULL, 'h'},
    {0}};

static const struct option use_options[] = {
    {"tokenizer", required_argument, NULL, OPTION_TOKENIZER},
    {"help", no_argument, NULL, 'h'},
    {0}};

struct arguments {
    const char *out, *tokenizer;
    int64_t vocab, threads;
    const char *special[MAX_SPECIAL];
    int n_special;
    char **rest; /* what is no option */
    int n_rest;
};

static status_t set_option(struct arguments *a, int option)
{
    switch (option) {
    case OPTION_OUT:
        a->out = optarg;
        return STATUS_OK;
    case OPTION_TOKENIZER:
        a->tokenizer = optarg;
        return STATUS_OK;
    case OPTION_VOCAB:
        return option_int("--vocab", optarg, 257, 1 << 24, &a->vocab);
    case OPTION_THREADS:
        return option_int("--threads", optarg, 1, 1024, &a->threads);
    default:
        if (a->n_special == MAX_SPECIAL)
            return status_set(STATUS_USAGE, "--special: more than %d tokens",
                              MAX_SPECIAL);
        a->special[a->n_special++] = optarg;
        return STATUS_OK;
    }
}

/* -1: go on; otherwise the exit code. */
static int parse(int argc, char **argv, const struct option *options, struct arguments *a)
{
    *a = (struct arguments){.vocab = 32768, .threads = option_cores()};
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h') return fputs(help, stdout), 0;
        if (c == '?') return cli_usage_option("tokenizer", argv);
        const status_t st = set_option(a, c);
        if (st != STATUS_OK) return cli_exit(st, NULL);
    }
    a->rest = argv + optind;
    a->n_rest = argc - optind;
    return -1;
}

/* ---- train ------------------------------------------------------------------------------- */

static status_t train(struct arguments *a)
{
    struct text_reader *text = NULL;
    struct tokenizer *made = NULL;
    if (a->n_special == 0) a->special[a->n_special++] = "<|endoftext|>";
    const struct tokenizer_train_options o = {.vocab_size = a->vocab,
                                              .special = a->special,
                                              .n_special = a->n_special,
                                              .n_threads = (int)a->threads};
    const double started = clock_seconds();
    status_t st = text_open(&text, (const char *const *)a->rest, a->n_rest, NULL);
    if (st == STATUS_OK) st = file_make_parent(a->out);
    if (st == STATUS_OK) st = tokenizer_train(text, a->out, &o);
    if (st == STATUS_OK) st = tokenizer_open(&made, a->out);
    if (st == STATUS_OK) {
        printf("%s: %jd tokens, %jd merges, from %.1f MB in %.2f s\n", a->out,
               (intmax_t)tokenizer_vocab_size(made), (intmax_t)tokenizer_n_merges(made),
               (double)text_bytes_total(text) / 1e6, clock_seconds() - started);
        if (tokenizer_vocab_size(made) < a->vocab)
            log_warn("the text has no more pairs that occur twice: %jd tokens, not %jd",
                     (intmax_t)tokenizer_vocab_size(made), (intmax_t)a->vocab);
    }
    tokenizer_close(&made);
    text_close(&text);
    return st;
}

static int train_command(int argc, char **argv)
{
    struct arguments a;
    const int code = parse(argc, argv, train_options, &a);
    if (code >= 0) return code;
    if (!a.out) return cli_usage("tokenizer", "give --out FILE");
    if (a.n_rest == 0) return cli_usage("tokenizer", "give at least one text file");
    return cli_exit(train(&a), NULL);
}

/* ---- encode and decode ------------------------------------------------------------------- */

/* All of standard input; caller frees. */
static status_t read_input(char **data, size_t *bytes)
{
    size_t capacity = 1 << 16;
    *data = malloc(capacity);
    *bytes = 0;
    while (*data) {
        *bytes += fread(*data + *bytes, 1, capacity - *bytes, stdin);
        if (*bytes < capacity) break;
        char *larger = realloc(*data, capacity *= 2);
        if (!larger) free(*data);
        *data = larger;
    }
    if (!*data) return status_set(STATUS_NOMEM, "no memory for standard input");
    return ferror(stdin) ? status_set(STATUS_IO, "cannot read standard input")
                         : STATUS_OK;
}

static status_t encode(const struct tokenizer *t, const struct arguments *a)
{
    struct encoder *e = NULL;
    struct token_list ids = {0};
    char *input = NULL;
    size_t bytes = 0;
    status_t st = STATUS_OK;
    if (a->n_rest == 0) st = read_input(&input, &bytes);
    const char *text = input ? input : a->rest[0];
    if (!input && st == STATUS_OK) bytes = strlen(text);
    if (st == STATUS_OK) st = encoder_create(&e, t);
    if (st == STATUS_OK) st = encoder_encode(e, text, bytes, &ids);
    for (int64_t i = 0; i < ids.n && st == STATUS_OK; i++)
        printf("%s%d", i ? " " : "", (int)ids.ids[i]);
    if (st == STATUS_OK) printf("\n");
    encoder_destroy(&e);
    token_list_release(&ids);
    free(input);
    return st;
}

static status_t add_id(const struct tokenizer *t, struct token_list *ids,
                       const char *word)
{
    int64_t id;
    TRY(option_int("id", word, 0, tokenizer_vocab_size(t) - 1, &id));
    const int32_t narrow = (int32_t)id;
    return token_list_append(ids, &narrow, 1);
}

static status_t decode(const struct tokenizer *t, const struct arguments *a)
{
    struct token_list ids = {0};
    char *text = NULL;
    size_t bytes = 0;
    status_t st = STATUS_OK;
    for (int i = 0; i < a->n_rest && st == STATUS_OK; i++)
        st = add_id(t, &ids, a->rest[i]);
    char word[32];
    while (a->n_rest == 0 && st == STATUS_OK && scanf("%31s", word) == 1)
        st = add_id(t, &ids, word);
    if (st == STATUS_OK) st = tokenizer_decode(t, ids.ids, ids.n, &text, &bytes);
    if (st == STATUS_OK) fwrite(text, 1, bytes, stdout);
    token_list_release(&ids);
    free(text);
    return st;
}

static int use_command(int argc, char **argv, bool is_encode)
{
    struct arguments a;
    const int code = parse(argc, argv, use_options, &a);
    if (code >= 0) return code;
    if (!a.tokenizer) return cli_usage("tokenizer", "give --tokenizer FILE");
    if (is_encode && a.n_rest > 1) return cli_usage("tokenizer", "give one text, quoted");
    struct tokenizer *t = NULL;
    status_t st = tokenizer_open(&t, a.tokenizer);
    if (st == STATUS_OK) st = is_encode ? encode(t, &a) : decode(t, &a);
    tokenizer_close(&t);
    return cli_exit(st, NULL);
}

int cmd_tokenizer(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "train") == 0) return train_command(argc - 1, argv + 1);
    if (strcmp(what, "encode") == 0) return use_command(argc - 1, argv + 1, true);
    if (strcmp(what, "decode") == 0) return use_command(argc - 1, argv + 1, false);
    if (strcmp(what, "--help") == 0 || strcmp(what, "-h") == 0)
        return fputs(help, stdout), 0;
    return cli_usage("tokenizer", "the first word is train, encode or decode");
}
