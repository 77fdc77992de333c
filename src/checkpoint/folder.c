#include "checkpoint/checkpoint_impl.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
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
