#include "cli/options.h"

#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/log.h"
#include "train/launch.h"

status_t option_int(const char *option, const char *text, int64_t min, int64_t max,
                    int64_t *value)
{
    char *end;
    errno = 0;
    const long long n = strtoll(text, &end, 10);
    if (errno || end == text || *end || n < min || n > max)
        return status_set(STATUS_USAGE, "%s: %s is not a whole number from %jd to %jd",
                          option, text, (intmax_t)min, (intmax_t)max);
    *value = n;
    return STATUS_OK;
}

status_t option_double(const char *option, const char *text, double *value)
{
    char *end;
    errno = 0;
    *value = strtod(text, &end);
    if (errno || end == text || *end)
        return status_set(STATUS_USAGE, "%s: %s is not a number", option, text);
    return STATUS_OK;
}

int64_t option_cores(void)
{
    cpu_set_t cores;
    return sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1;
}

int cli_exit(status_t st, const struct comm *world)
{
    const bool speak = st != STATUS_OK && (!world || comm_rank(world) == 0);
    if (speak && st == STATUS_REQUEUE)
        log_info("%s", status_message()); /* as asked: no error */
    else if (speak)
        log_error("%s", status_message());
    return status_exit_code(st);
}

int cli_usage(const char *name, const char *what)
{
    status_set(STATUS_USAGE, "%s: %s; see yoke %s --help", name, what, name);
    return cli_exit(STATUS_USAGE, NULL);
}

int cli_exit_early(status_t st)
{
    return launch_early_rank() == 0 ? cli_exit(st, NULL) : status_exit_code(st);
}

int cli_usage_early(const char *name, const char *what)
{
    return launch_early_rank() == 0 ? cli_usage(name, what)
                                    : status_exit_code(STATUS_USAGE);
}

int cli_usage_option(const char *name, char *const *argv)
{
    char what[256];
    const char *next = argv[optind], *word = argv[optind - 1];
    /* of -xy, letters in one word, the word is the next one until y was looked at */
    if (next && next[0] == '-' && next[1] == optopt && optopt != 0) word = next;
    snprintf(what, sizeof what, "%.200s: unknown or incomplete option", word);
    return cli_usage_early(name, what);
}
