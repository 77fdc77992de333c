#include "checkpoint/checkpoint_impl.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"

void ckpt_shard_name(char name[64], int64_t shard, int64_t generation)
{
    if (generation == 0)
        snprintf(name, 64, "shard-%05lld.h5", (long long)shard);
    else
        snprintf(name, 64, "shard-%05lld.%lld.h5", (long long)shard,
                 (long long)generation);
}

void ckpt_shard_path(char path[PATH_MAX], const char *folder, int64_t shard,
                     int64_t generation)
{
    char name[64];
    ckpt_shard_name(name, shard, generation);
    file_join(path, PATH_MAX, folder, name);
}

/* Is it a shard, perhaps an unfinished one, and of which generation? */
static bool parse(const char *name, int64_t *generation)
{
    char again[64];
    long long shard, g = 0;
    if (sscanf(name, "shard-%lld.%lld.", &shard, &g) < 1) return false;
    if (shard < 0 || g < 0 || g == LLONG_MAX) return false;
    ckpt_shard_name(again, shard, g);
    *generation = g;
    const size_t n = strlen(again);
    return strncmp(name, again, n) == 0 &&
           (name[n] == '\0' || strcmp(name + n, ".tmp") == 0);
}

status_t ckpt_folder_make(const char *run_dir, const char *folder, const char *model)
{
    if (file_exists(model))
        return status_set(STATUS_IO, "%s: holds a checkpoint; give another folder",
                          folder);
    TRY(file_make_dirs(folder));
    TRY(file_sync_dir(run_dir));
    ckpt_remove_others(folder, -1);
    return STATUS_OK;
}

status_t ckpt_fresh_generation(const char *folder, int64_t *generation)
{
    *generation = 0;
    DIR *d = opendir(folder);
    if (!d)
        return status_set(STATUS_IO, "%s: cannot list the folder: %s", folder,
                          strerror(errno));
    int64_t g;
    for (const struct dirent *e; (e = readdir(d));)
        if (parse(e->d_name, &g) && g >= *generation) *generation = g + 1;
    closedir(d);
    return STATUS_OK;
}

void ckpt_remove_others(const char *folder, int64_t generation)
{
    DIR *d = opendir(folder);
    if (!d) return;
    for (const struct dirent *e; (e = readdir(d));) {
        int64_t g;
        const bool other = parse(e->d_name, &g) && g != generation;
        if (other || strcmp(e->d_name, "model.h5.tmp") == 0)
            unlinkat(dirfd(d), e->d_name, 0);
    }
    closedir(d);
}

static bool parse_step(const char *name, int64_t *step)
{
    char again[64];
    long long n;
    if (sscanf(name, "step-%lld", &n) != 1 || n < 0) return false;
    snprintf(again, sizeof again, "step-%08lld", n);
    *step = n;
    return strcmp(again, name) == 0;
}

void ckpt_step_folder(char path[PATH_MAX], const char *run_dir, int64_t step)
{
    char name[64];
    snprintf(name, sizeof name, "step-%08lld", (long long)step);
    file_join(path, PATH_MAX, run_dir, name);
}

static int newest_first(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

status_t ckpt_list_steps(const char *run_dir, int64_t **steps, int64_t *n)
{
    *steps = NULL;
    *n = 0;
    DIR *d = opendir(run_dir);
    if (!d && errno == ENOENT) return STATUS_OK;
    if (!d)
        return status_set(STATUS_IO, "%s: cannot list the folder: %s", run_dir,
                          strerror(errno));
    int64_t room = 0, step;
    status_t st = STATUS_OK;
    for (const struct dirent *e; (e = readdir(d));) {
        if (!parse_step(e->d_name, &step)) continue;
        if (*n == room) {
            room = 2 * room + 16;
            int64_t *more = realloc(*steps, (size_t)room * sizeof **steps);
            if (!more) {
                st = status_set(STATUS_NOMEM, "%s: no memory to list it", run_dir);
                break;
            }
            *steps = more;
        }
        (*steps)[(*n)++] = step;
    }
    closedir(d);
    if (*n > 0) qsort(*steps, (size_t)*n, sizeof **steps, newest_first);
    return st;
}

bool ckpt_remove(const char *folder)
{
    char model[PATH_MAX];
    file_join(model, sizeof model, folder, "model.h5");
    if (unlink(model) == 0 && file_sync_dir(folder) != STATUS_OK) return false;
    if (file_exists(model)) return false;
    ckpt_remove_others(folder, -1);
    rmdir(folder); /* stays if something of the user's is in it */
    return true;
}
