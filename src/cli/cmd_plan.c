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
    "usage: yoke plan [--ranks N] [--stage NAME] [--timeline] [--svg FILE]\n"
    "                 [--set KEY=VALUE]... CONFIG\n\n"
    "What a layout would do, without running it: the size of each axis, which layers "
    "each part\n"
    "of the pipeline has, how much of the time stages have nothing to do, the memory "
    "of a\n"
    "rank on the device that is found here, and how many of them this host has memory "
    "for.\n\n"
    "  --ranks N         as if N ranks were started (default: as few as the axes ask "
    "for)\n"
    "  --stage NAME      only this one of the stages\n"
    "  --timeline        draw one step of the pipeline as text\n"
    "  --svg FILE        draw it as an image\n"
    "  --set KEY=VALUE   override a key of the configuration\n";

enum { MAX_OVERRIDES = 256 };

struct arguments {
    const char *config, *svg, *stage;
    const char *overrides[MAX_OVERRIDES];
    int n_overrides;
    int64_t ranks;
    bool timeline;
};

/* 0: go on; else leave with *exit_code. */
static int parse(int argc, char **argv, struct arguments *a, int *exit_code)
{
    static const struct option options[] = {{"ranks", required_argument, NULL, 'n'},
                                            {"stage", required_argument, NULL, 'g'},
                                            {"timeline", no_argument, NULL, 't'},
                                            {"svg", required_argument, NULL, 'v'},
                                            {"set", required_argument, NULL, 's'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    *a = (struct arguments){0};
    *exit_code = 0;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h') return fputs(help, stdout), 1;
        if (c == '?') return *exit_code = cli_usage_option("plan", argv), 1;
        if (c == 't') a->timeline = true;
        if (c == 'v') a->svg = optarg;
        if (c == 'g') a->stage = optarg;
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

static status_t show(struct config *c, const struct arguments *a, int ranks)
{
    struct plan p = {0};
    status_t st = plan_make(&p, c, ranks);
    if (st == STATUS_OK) {
        plan_print(&p, c, stdout);
        st = plan_memory_print(c, p.sizes, stdout);
    }
    if (st == STATUS_OK && a->timeline) {
        printf("\n");
        pp_timeline_text(stdout, &p.schedule, &p.simulation, 1.0 / 3);
    }
    if (st == STATUS_OK && a->svg) st = write_svg(&p, a->svg);
    plan_release(&p);
    return st == STATUS_OK || !c->span.name ? st
                                            : status_prefix(st, "stage %s", c->span.name);
}

/* Every segment, or the stage that --stage names. */
static status_t show_all(struct config *c, const struct arguments *a)
{
    const int n = config_n_segments(c);
    const int ranks = a->ranks > 0 ? (int)a->ranks : plan_fewest_ranks(c);
    bool found = false;
    if (a->svg && !a->stage && n > 1)
        return status_set(STATUS_USAGE, "--svg draws one stage: name it with --stage");
    for (int i = 0; i < n; i++) {
        struct config *segment = config_segment(c, i);
        const char *name = segment->span.name;
        if (a->stage && (!name || strcmp(name, a->stage) != 0)) continue;
        if (found) printf("\n");
        found = true;
        TRY(show(segment, a, ranks));
    }
    if (found) return STATUS_OK;
    return status_set(STATUS_USAGE, "--stage %s: the configuration has no such stage",
                      a->stage);
}

int cmd_plan(int argc, char **argv)
{
    struct arguments a;
    struct config config = {0};
    int code;
    if (parse(argc, argv, &a, &code)) return code;
    status_t st = config_load(&config, a.config, a.overrides, a.n_overrides);
    if (st == STATUS_OK) st = show_all(&config, &a);
    code = cli_exit(st, NULL);
    config_release(&config);
    return code;
}
