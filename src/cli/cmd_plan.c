#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/options.h"
#include "parallel/pp/timeline.h"
#include "train/plan.h"
#include "train/plan_memory.h"

static const char help[] =
    "usage: yoke plan [--ranks N] [--timeline] [--svg FILE] [--set KEY=VALUE]... "
    "CONFIG\n\n"
    "What a layout would do, without running it: the size of each axis, which layers "
    "each part\n"
    "of the pipeline has, how much of the time stages have nothing to do, and the memory "
    "of a\n"
    "rank on the device that is found here.\n\n"
    "  --ranks N         as if N ranks were started (default: as few as the axes ask "
    "for)\n"
    "  --timeline        draw one step of the pipeline as text\n"
    "  --svg FILE        draw it as an image\n"
    "  --set KEY=VALUE   override a key of the configuration\n";

enum { MAX_OVERRIDES = 256 };

struct arguments {
    const char *config, *svg;
    const char *overrides[MAX_OVERRIDES];
    int n_overrides;
    int64_t ranks;
    bool timeline;
};

/* 0: go on; else leave with *exit_code. */
static int parse(int argc, char **argv, struct arguments *a, int *exit_code)
{
    static const struct option options[] = {
        {"ranks", required_argument, NULL, 'n'}, {"timeline", no_argument, NULL, 't'},
        {"svg", required_argument, NULL, 'v'},   {"set", required_argument, NULL, 's'},
        {"help", no_argument, NULL, 'h'},        {0}};
    *a = (struct arguments){0};
    *exit_code = 0;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h') return fputs(help, stdout), 1;
        if (c == '?')
            return *exit_code = cli_usage("plan", "unknown or incomplete option"), 1;
        if (c == 't') a->timeline = true;
        if (c == 'v') a->svg = optarg;
        if (c == 'n' && option_int("--ranks", optarg, 1, 1 << 24, &a->ranks) != STATUS_OK)
            return *exit_code = cli_exit(STATUS_USAGE, NULL), 1;
        if (c != 's') continue;
        if (a->n_overrides == MAX_OVERRIDES)
            return *exit_code = cli_usage("plan", "too many --set"), 1;
        a->overrides[a->n_overrides++] = optarg;
    }
    if (argc - optind != 1) return *exit_code = cli_usage("plan", "give one CONFIG"), 1;
    a->config = argv[optind];
    return 0;
}

static status_t write_svg(const struct plan *p, const char *path)
{
    FILE *f = fopen(path, "w");
    if (!f) return status_set(STATUS_IO, "%s: %s", path, strerror(errno));
    pp_timeline_svg(f, &p->schedule, &p->simulation);
    if (fclose(f) == 0) return STATUS_OK;
    return status_set(STATUS_IO, "%s: %s", path, strerror(errno));
}

int cmd_plan(int argc, char **argv)
{
    struct arguments a;
    struct config config = {0};
    struct plan p = {0};
    int code;
    if (parse(argc, argv, &a, &code)) return code;
    status_t st = config_load(&config, a.config, a.overrides, a.n_overrides);
    if (st == STATUS_OK) st = plan_make(&p, &config, (int)a.ranks);
    if (st == STATUS_OK) {
        plan_print(&p, &config, stdout);
        st = plan_memory_print(&config, p.sizes, stdout);
        if (a.timeline && st == STATUS_OK) {
            printf("\n");
            pp_timeline_text(stdout, &p.schedule, &p.simulation, 1.0 / 3);
        }
        if (a.svg && st == STATUS_OK) st = write_svg(&p, a.svg);
    }
    code = cli_exit(st, NULL);
    plan_release(&p);
    config_release(&config);
    return code;
}
