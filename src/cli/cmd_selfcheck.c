#include <getopt.h>
#include <stdio.h>

#include "cli/cli.h"
#include "cli/options.h"
#include "train/selfcheck.h"

static const char help[] =
    "usage: yoke selfcheck CONFIG [--set KEY=VALUE]...\n\n"
    "The first thing to run on new machines: one step in fp32 under the layout that is "
    "about "
    "to\n"
    "be used, against the same step on one rank: loss, gradient norm, the gradient and "
    "the\n"
    "updated weights of every parameter.  Start it as the training itself, for example\n"
    "  mpirun -n 8 yoke selfcheck run.yaml --set parallel.tp=2\n"
    "Exit code 0: the same; 12: not, and the first tensor that differs is named.  Rank 0 "
    "holds\n"
    "the whole model for a moment; if it cannot, the check is made with fewer layers.\n\n"
    "  --set KEY=VALUE   override a key of the configuration\n";

enum { MAX_OVERRIDES = 256 };

int cmd_selfcheck(int argc, char **argv)
{
    static const struct option options[] = {
        {"set", required_argument, NULL, 's'}, {"help", no_argument, NULL, 'h'}, {0}};
    const char *overrides[MAX_OVERRIDES];
    int n_overrides = 0;
    struct comm *world = NULL;
    struct config config = {0};
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h') return fputs(help, stdout), 0;
        if (c == '?') return cli_usage_option("selfcheck", argv);
        if (n_overrides == MAX_OVERRIDES)
            return cli_usage_early("selfcheck", "too many --set");
        overrides[n_overrides++] = optarg;
    }
    if (argc - optind != 1) return cli_usage_early("selfcheck", "give one CONFIG");
    const char *path = argv[optind];
    if (comm_start(&world, &argc, &argv) != STATUS_OK) return cli_exit(STATUS_COMM, NULL);
    status_t st = comm_agree(world, config_load(&config, path, overrides, n_overrides));
    for (int i = 0; st == STATUS_OK && i < config_n_segments(&config); i++) {
        const struct config *c = config_segment(&config, i);
        if (c->span.name && comm_rank(world) == 0) printf("stage %s\n", c->span.name);
        st = selfcheck_run(world, c, stdout);
    }
    if (st == STATUS_OK && comm_rank(world) == 0)
        printf("\nselfcheck: %d ranks give what one rank gives\n", comm_size(world));
    const int code = cli_exit(st, world);
    config_release(&config);
    comm_finish(&world);
    return code;
}
