#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/options.h"
#include "train/signals.h"
#include "train/train.h"

static const char help[] =
    "usage: yoke train CONFIG [--set KEY=VALUE]... [--resume auto|never|PATH]\n"
    "                  [--device auto|cpu|cuda]\n\n"
    "Train a model.  Start one process a rank, for example\n"
    "  mpirun -n 2 --bind-to none yoke train run.yaml\n"
    "  srun yoke train run.yaml\n\n"
    "  --set KEY=VALUE   override a key of the configuration, e.g. --set optim.lr=1e-3\n"
    "  --resume WHAT     the same as --set checkpoint.resume=WHAT; a PATH elsewhere is "
    "where a run begins,\n"
    "                    its own checkpoints are where it goes on\n"
    "  --device NAME     the same as --set train.device=NAME\n\n"
    "SIGTERM, SIGINT and SIGUSR1 finish the step, save and leave with exit code 85; "
    "mpirun\n"
    "passes on SIGUSR1 alone.  Keys: yoke config --reference.\n";

enum { MAX_OVERRIDES = 256 };

struct arguments {
    const char *config;
    const char *overrides[MAX_OVERRIDES];
    int n_overrides;
    char resume[4200], device[256];
};

/* 0: go on; else leave with *exit_code. */
static int parse(int argc, char **argv, struct arguments *a, int *exit_code)
{
    static const struct option options[] = {{"set", required_argument, NULL, 's'},
                                            {"resume", required_argument, NULL, 'r'},
                                            {"device", required_argument, NULL, 'd'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    *exit_code = 0;
    *a = (struct arguments){0};
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h') return fputs(help, stdout), 1;
        if (c == '?') return *exit_code = cli_usage_option("train", argv), 1;
        if (a->n_overrides == MAX_OVERRIDES)
            return *exit_code = cli_usage_early("train", "too many --set"), 1;
        const char *override = optarg;
        if (c == 'r') {
            snprintf(a->resume, sizeof a->resume, "checkpoint.resume=%s", optarg);
            override = a->resume;
        }
        if (c == 'd') {
            snprintf(a->device, sizeof a->device, "train.device=%s", optarg);
            override = a->device;
        }
        a->overrides[a->n_overrides++] = override;
    }
    if (argc - optind != 1)
        return *exit_code = cli_usage_early("train", "give one CONFIG"), 1;
    a->config = argv[optind];
    return 0;
}

int cmd_train(int argc, char **argv)
{
    struct arguments a;
    struct comm *world = NULL;
    struct config config = {0};
    int code;
    if (parse(argc, argv, &a, &code)) return code;
    signals_start(); /* before MPI has threads */
    if (comm_start(&world, &argc, &argv) != STATUS_OK) return cli_exit(STATUS_COMM, NULL);
    status_t st =
        comm_agree(world, config_load(&config, a.config, a.overrides, a.n_overrides));
    if (st == STATUS_OK) st = train_run(world, &config);
    code = cli_exit(st, world);
    config_release(&config);
    comm_finish(&world);
    return code;
}
