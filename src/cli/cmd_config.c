#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/options.h"
#include "config/config.h"
#include "core/log.h"

static const char help[] =
    "usage: yoke config CONFIG [--set KEY=VALUE]...\n"
    "       yoke config --reference\n\n"
    "Print a configuration with every default and derived value written out.  Missing\n"
    "token files are a warning here; yoke train refuses them.\n\n"
    "  --set KEY=VALUE   replace a value, e.g. --set optim.lr=1.0e-3; the last one "
    "counts\n"
    "  --reference       print the table of all keys, in Markdown\n";

enum { MAX_OVERRIDES = 256 };

static status_t print_resolved(const char *path, const char *const *overrides, int n)
{
    struct config c;
    char *text = NULL;
    TRY(config_load(&c, path, overrides, n));
    const status_t st = config_dump(&c, &text);
    if (text) fputs(text, stdout);
    for (int i = 0; i < config_n_segments(&c); i++)
        if (config_check_files(config_segment(&c, i)) != STATUS_OK)
            log_warn("%s", status_message());
    free(text);
    config_release(&c);
    return st;
}

/* A full disk shows when the buffer is written. */
static status_t finish_output(status_t st)
{
    const bool failed = fflush(stdout) != 0 || ferror(stdout);
    if (st == STATUS_OK && failed)
        return status_set(STATUS_IO, "standard output: cannot write");
    return st;
}

int cmd_config(int argc, char **argv)
{
    static const struct option options[] = {{"set", required_argument, NULL, 's'},
                                            {"reference", no_argument, NULL, 'r'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    const char *overrides[MAX_OVERRIDES];
    int n = 0;
    bool reference = false;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h') return fputs(help, stdout), 0;
        if (c == '?') return cli_usage_option("config", argv);
        if (c == 's' && n == MAX_OVERRIDES) return cli_usage("config", "too many --set");
        if (c == 's') overrides[n++] = optarg;
        if (c == 'r') reference = true;
    }
    const int paths = argc - optind;
    if (reference ? paths + n != 0 : paths != 1)
        return cli_usage("config", "give one CONFIG, or --reference alone");
    status_t st = STATUS_OK;
    if (reference)
        config_reference(stdout);
    else
        st = print_resolved(argv[optind], overrides, n);
    return cli_exit(finish_output(st), NULL);
}
