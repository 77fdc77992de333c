#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/checkpoint.h"
#include "cli/cli.h"
#include "cli/options.h"

static const char help[] =
    "usage: yoke checkpoint pack PATH FILE\n"
    "       yoke checkpoint unpack FILE RUN\n"
    "       yoke checkpoint average RUN PATH PATH...\n\n"
    "  pack      write a checkpoint as one plain HDF5 file: whole tensors, no virtual "
    "datasets\n"
    "  unpack    turn such a file into a checkpoint, RUN/step-XXXXXXXX\n"
    "  average   write the mean of several checkpoints as RUN/step-XXXXXXXX: weights and "
    "both\n"
    "            moments, in fp64; step, place in the data and configuration are the "
    "last "
    "one's\n\n"
    "A PATH is a checkpoint, a run folder (its newest checkpoint) or a packed file.  "
    "Nothing "
    "is\n"
    "replaced.  Tensors are held in memory one (average) or a few (unpack) at a time.\n";

static status_t pack(char **args, int n)
{
    struct checkpoint_source s;
    if (n != 2) return status_set(STATUS_USAGE, "checkpoint pack: give PATH and FILE");
    TRY(checkpoint_source_open(&s, args[0]));
    const status_t st = checkpoint_pack(args[1], &s);
    if (st == STATUS_OK) printf("packed %s as %s\n", s.name, args[1]);
    checkpoint_source_close(&s);
    return st;
}

static status_t build(const char *run_dir, struct checkpoint_source *s)
{
    const status_t st = checkpoint_build(run_dir, s);
    if (st == STATUS_OK)
        printf("wrote %s/step-%08jd\n", run_dir, (intmax_t)s->meta->step);
    return st;
}

static status_t unpack(char **args, int n)
{
    struct checkpoint_source s;
    if (n != 2) return status_set(STATUS_USAGE, "checkpoint unpack: give FILE and RUN");
    TRY(checkpoint_source_open(&s, args[0]));
    const status_t st = build(args[1], &s);
    checkpoint_source_close(&s);
    return st;
}

static status_t average(char **args, int n)
{
    if (n < 3)
        return status_set(STATUS_USAGE,
                          "checkpoint average: give RUN and at least two PATHs");
    const int n_sources = n - 1;
    struct checkpoint_source mean = {0},
                             *sources = calloc((size_t)n_sources, sizeof *sources);
    status_t st = sources ? STATUS_OK : status_set(STATUS_NOMEM, "no memory for a mean");
    for (int i = 0; i < n_sources && st == STATUS_OK; i++)
        st = checkpoint_source_open(&sources[i], args[1 + i]);
    if (st == STATUS_OK) st = checkpoint_average_open(&mean, sources, n_sources);
    if (st == STATUS_OK) st = build(args[0], &mean);
    checkpoint_source_close(&mean);
    for (int i = 0; sources && i < n_sources; i++) checkpoint_source_close(&sources[i]);
    free(sources);
    return st;
}

int cmd_checkpoint(int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};
    static const struct {
        const char *name;
        status_t (*run)(char **args, int n);
    } actions[] = {{"pack", pack}, {"unpack", unpack}, {"average", average}};
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h') return fputs(help, stdout), 0;
        return cli_usage_option("checkpoint", argv);
    }
    for (size_t i = 0; optind < argc && i < sizeof actions / sizeof *actions; i++)
        if (strcmp(argv[optind], actions[i].name) == 0)
            return cli_exit(actions[i].run(argv + optind + 1, argc - optind - 1), NULL);
    return cli_usage("checkpoint", "say pack, unpack or average");
}
