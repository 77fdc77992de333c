#include "checkpoint/checkpoint_impl.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/log.h"

static bool parse(const char *name, long long *step)
{
    char again[64];
    if (sscanf(name, "step-%lld", step) != 1 || *step < 0) return false;
    snprintf(again, sizeof again, "step-%08lld", *step);
    return strcmp(again, name) == 0;
}

static int newest_first(const void *a, const void *b)
{
    const long long x = *(const long long *)a, y = *(const long long *)b;
    return (x < y) - (x > y);
}

static status_t list(const char *run_dir, long long **steps, size_t *n)
{
    *steps = NULL;
    *n = 0;
    DIR *d = opendir(run_dir);
    if (!d && errno == ENOENT) return STATUS_OK;
    if (!d)
        return status_set(STATUS_IO, "%s: cannot list the folder: %s", run_dir,
                          strerror(errno));
    size_t room = 0;
    status_t st = STATUS_OK;
    long long step;
    for (const struct dirent *e; (e = readdir(d));) {
        if (!parse(e->d_name, &step)) continue;
        if (*n == room) {
            room = 2 * room + 16;
            long long *more = realloc(*steps, room * sizeof **steps);
            if (!more) {
                st = status_set(STATUS_NOMEM, "%s: no memory to list it", run_dir);
                break;
            }
            *steps = more;
        }
        (*steps)[(*n)++] = step;
    }
    closedir(d);
    return st;
}

status_t checkpoint_find_before(const char *run_dir, int64_t before, char *path,
                                int64_t *step)
{
    long long *steps;
    size_t n, refused = 0;
    path[0] = '\0';
    status_t st = list(run_dir, &steps, &n);
    if (n > 0) qsort(steps, n, sizeof *steps, newest_first);
    for (size_t i = 0; i < n && st == STATUS_OK; i++) {
        char name[64], folder[PATH_MAX], model[PATH_MAX];
        struct checkpoint *c;
        if (steps[i] >= before) continue;
        snprintf(name, sizeof name, "step-%08lld", steps[i]);
        file_join(folder, sizeof folder, run_dir, name);
        file_join(model, sizeof model, folder, "model.h5");
        if (!file_exists(model)) {
            log_warn("%s: was never finished, skipped", folder);
            continue;
        }
        if (checkpoint_open(&c, folder) == STATUS_OK) {
            checkpoint_close(&c);
            snprintf(path, PATH_MAX, "%s", folder);
            *step = steps[i];
            break;
        }
        log_warn("refused: %s", status_message());
        refused++;
    }
    free(steps);
    if (st == STATUS_OK && path[0] == '\0' && refused > 0)
        st = status_set(STATUS_CHECKPOINT,
                        "%s: holds %zu checkpoints and all are refused, see the warnings",
                        run_dir, refused);
    return st;
}

status_t checkpoint_find_latest(const char *run_dir, char *path)
{
    int64_t step;
    return checkpoint_find_before(run_dir, INT64_MAX, path, &step);
}
