#include <getopt.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/eval.h"
#include "cli/options.h"
#include "train/launch.h"

static const char help[] =
    "usage: yoke eval PATH [--data FILE] [options]        loss of token files\n"
    "       yoke eval PATH --task FILE.jsonl [options]    multiple-choice questions\n\n"
    "Without --task: loss (nats a token), perplexity and bits per byte of a checkpoint, "
    "and "
    "the\n"
    "unigram entropy of the same text.  With it: accuracy on questions whose answers are "
    "compared\n"
    "by their likelihood.  PATH is a checkpoint or a run folder (its newest checkpoint). "
    " "
    "Under\n"
    "mpirun the ranks share the work: by default every one has the whole model and a "
    "part "
    "of\n"
    "the data; with --tp, --pp and --cp they share the model and the sequences, whatever "
    "layout\n"
    "the checkpoint is from.\n\n"
    "  --data FILE       token file, folder or pattern (default: data.validation of the "
    "run); if\n"
    "                    it does not say all itself: --set "
    "'data.validation={path: FILE, ...}'\n"
    "  --sequences N     at most N windows of it (default 0: all)\n\n"
    "  --task FILE       requests for log-likelihoods as OLMo publishes them, or "
    "HellaSwag's "
    "own\n"
    "                    questions; .jsonl, .jsonl.gz, .jsonl.zst\n"
    "  --hellaswag FORM  how questions of HellaSwag are put: llm.c (default) or lm-eval\n"
    "  --encode HOW      context and answer become tokens whole (as lm-eval does) or "
    "apart "
    "(as\n"
    "                    llm.c and OLMo do); default: apart for --hellaswag llm.c, else "
    "whole\n"
    "  --limit N         only the first N questions (default 0: all)\n"
    "  --window N        tokens of the windows that answers are packed into (default "
    "1024, "
    "or\n"
    "                    the longest)\n"
    "  --tokenizer FILE  default: tokenizer.json in the run folder\n"
    "  --json FILE       write the result as JSON\n"
    "  --details FILE    write every question's log-likelihoods as JSONL\n\n"
    "  --batch N         sequences or windows at a time (default 8)\n"
    "  --threads N       threads a rank (default: the cores it may use)\n"
    "  --device NAME     auto, cpu or cuda (default auto)\n"
    "  --tp N, --pp N, --cp N, --dp N\n"
    "                    the same as --set parallel.tp=N and so on\n"
    "  --set KEY=VALUE   override a key of the run's configuration, in which parallel,\n"
    "                    train.device, train.precision and train.fp32_products are "
    "auto\n";

static const struct {
    const char *option, *key;
} named[] = {{"device", "train.device"},
             {"tp", "parallel.tp"},
             {"pp", "parallel.pp"},
             {"cp", "parallel.cp"},
             {"dp", "parallel.dp"}};
enum { N_NAMED = sizeof named / sizeof *named, NAMED = 256 /* and behind: codes */ };

static status_t add_override(struct eval_arguments *a, const char *text)
{
    if (a->n_overrides == EVAL_MAX_OVERRIDES)
        return status_set(STATUS_USAGE, "eval: too many --set");
    a->overrides[a->n_overrides++] = text;
    return STATUS_OK;
}

static status_t add_named(struct eval_arguments *a, int which)
{
    char *text = a->named[which];
    snprintf(text, sizeof a->named[which], "%s=%s", named[which].key, optarg);
    return add_override(a, text);
}

/* One of two words; *value = that of the first, or one more. */
static status_t choose(const char *option, const char *one, const char *two, int first,
                       int *value)
{
    *value = first + (strcmp(optarg, one) != 0);
    if (*value == first || strcmp(optarg, two) == 0) return STATUS_OK;
    return status_set(STATUS_USAGE, "%s: %s is not known; valid: %s, %s", option, optarg,
                      one, two);
}

static status_t parse_option(struct eval_arguments *a, int c)
{
    if (c >= NAMED) return add_named(a, c - NAMED);
    switch (c) {
    case 'd':
        a->data = optarg;
        return STATUS_OK;
    case 'n':
        return option_int("--sequences", optarg, 0, INT64_MAX, &a->sequences);
    case 'b':
        return option_int("--batch", optarg, 1, 1 << 20, &a->batch);
    case 't':
        return option_int("--threads", optarg, 1, 4096, &a->threads);
    case 'T':
        a->task = optarg;
        return STATUS_OK;
    case 'f':
        a->tokenizer = optarg;
        return STATUS_OK;
    case 'j':
        a->json = optarg;
        return STATUS_OK;
    case 'v':
        a->details = optarg;
        return STATUS_OK;
    case 'l':
        return option_int("--limit", optarg, 0, INT64_MAX, &a->limit);
    case 'w':
        return option_int("--window", optarg, 1, 1 << 24, &a->window);
    case 'H':
        return choose("--hellaswag", "llm.c", "lm-eval", TASK_HELLASWAG_LLM_C,
                      &a->hellaswag);
    case 'e':
        return choose("--encode", "whole", "apart", TASK_WHOLE, &a->encoding);
    default:
        return add_override(a, optarg);
    }
}

/* 0: the options go together; else leave with *exit_code. */
static int check_form(const struct eval_arguments *a, int *exit_code)
{
    char what[64];
    if (a->data && a->task)
        return *exit_code = cli_usage_early("eval", "give --data or --task, not both"), 1;
    if (!a->task && a->task_only)
        snprintf(what, sizeof what, "--%s needs --task FILE", a->task_only);
    else if (a->task && a->loss_only)
        snprintf(what, sizeof what, "--%s is not for --task", a->loss_only);
    else
        return 0;
    return *exit_code = cli_usage_early("eval", what), 1;
}

static int parse(int argc, char **argv, struct eval_arguments *a, int *exit_code)
{
    static const struct option plain[] = {{"data", required_argument, NULL, 'd'},
                                          {"sequences", required_argument, NULL, 'n'},
                                          {"batch", required_argument, NULL, 'b'},
                                          {"threads", required_argument, NULL, 't'},
                                          {"task", required_argument, NULL, 'T'},
                                          {"hellaswag", required_argument, NULL, 'H'},
                                          {"encode", required_argument, NULL, 'e'},
                                          {"limit", required_argument, NULL, 'l'},
                                          {"window", required_argument, NULL, 'w'},
                                          {"tokenizer", required_argument, NULL, 'f'},
                                          {"json", required_argument, NULL, 'j'},
                                          {"details", required_argument, NULL, 'v'},
                                          {"set", required_argument, NULL, 's'},
                                          {"help", no_argument, NULL, 'h'}};
    enum { N_PLAIN = sizeof plain / sizeof *plain };
    struct option options[N_PLAIN + N_NAMED + 1] = {{0}};
    for (int i = 0; i < N_PLAIN; i++) options[i] = plain[i];
    for (int i = 0; i < N_NAMED; i++)
        options[N_PLAIN + i] =
            (struct option){named[i].option, required_argument, NULL, NAMED + i};
    *a = (struct eval_arguments){.batch = 8, .window = 1024};
    *exit_code = 0;
    opterr = 0;
    status_t st = STATUS_OK;
    for (int c, i;
         st == STATUS_OK && (c = getopt_long(argc, argv, "h", options, &i)) != -1;) {
        if (c == 'h') return fputs(help, stdout), 1;
        if (c == '?') return *exit_code = cli_usage_option("eval", argv), 1;
        if (c == 'n') a->loss_only = options[i].name;
        if (c < NAMED && strchr("Helwfjv", c)) a->task_only = options[i].name;
        st = parse_option(a, c);
    }
    if (st != STATUS_OK) return *exit_code = cli_exit_early(st), 1;
    if (argc - optind != 1)
        return *exit_code = cli_usage_early("eval", "give one PATH"), 1;
    if (check_form(a, exit_code)) return 1;
    a->path = argv[optind];
    return 0;
}

static status_t run(struct comm *world, const struct eval_arguments *a)
{
    struct inference i = {0};
    struct launch_share share;
    TRY(launch_check(world, a->path, (int)a->threads, &share));
    omp_set_num_threads(share.threads);
    const struct inference_options o = {.path = a->path,
                                        .world = world,
                                        .overrides = a->overrides,
                                        .n_overrides = a->n_overrides,
                                        .n_threads = share.threads,
                                        .share = &share};
    status_t st = comm_agree(world, inference_open(&i, &o));
    if (st == STATUS_OK) st = a->task ? eval_task(&i, world, a) : eval_loss(&i, world, a);
    inference_release(&i);
    return st;
}

int cmd_eval(int argc, char **argv)
{
    struct eval_arguments a;
    struct comm *world = NULL;
    int code;
    if (parse(argc, argv, &a, &code)) return code;
    if (comm_start(&world, &argc, &argv) != STATUS_OK) return cli_exit(STATUS_COMM, NULL);
    code = cli_exit(run(world, &a), world);
    comm_finish(&world);
    return code;
}
