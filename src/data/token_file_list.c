/* Which files a source names: itself, the shards in a folder, or what a pattern matches. */
#include "data/token_file_impl.h"

#include <dirent.h>
#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/file.h"

enum { MAX_PATH_BYTES = 4096 };

static const char *const token_endings[] = {".h5", ".npy", ".bin", ".ds"};

static status_t no_memory(const char *path)
{
    return status_set(STATUS_NOMEM, "%s: no memory for the list of its files", path);
}

/* Takes `path`. */
static status_t add(struct token_file_list *l, char *path)
{
    char **paths = path ? realloc(l->paths, ((size_t)l->n + 1) * sizeof *paths) : NULL;
    if (!paths) {
        free(path);
        return status_set(STATUS_NOMEM, "no memory for a list of token files");
    }
    l->paths = paths;
    l->paths[l->n++] = path;
    return STATUS_OK;
}

/* Megatron's tokens lie in .bin, and its users name the index or neither ending. */
static char *with_bin(const char *path)
{
    return token_file_ends_with(path, ".idx") ? token_file_companion(path, 4, ".bin")
                                              : strdup(path);
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sort what was added from `begin` on; a .bin and its .idx are one. */
static void sort_from(struct token_file_list *l, int begin)
{
    if (l->n - begin < 2) return;
    qsort(l->paths + begin, (size_t)(l->n - begin), sizeof *l->paths, compare);
    int kept = begin + 1;
    for (int i = begin + 1; i < l->n; i++) {
        if (strcmp(l->paths[i], l->paths[kept - 1]) == 0)
            free(l->paths[i]);
        else
            l->paths[kept++] = l->paths[i];
    }
    l->n = kept;
}

/* The files beside the tokens, which a pattern such as folder/part-* matches too. */
static bool is_companion(const char *path)
{
    static const char *const endings[] = {".index", ".metadata", ".loss", ".csv.gz"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (token_file_ends_with(path, endings[i])) return true;
    return false;
}

static status_t add_pattern(struct token_file_list *l, const char *pattern)
{
    const int begin = l->n;
    glob_t found = {0};
    const int error = glob(pattern, GLOB_NOSORT, NULL, &found);
    status_t st = error == GLOB_NOSPACE ? no_memory(pattern) : STATUS_OK;
    if (error == GLOB_ABORTED)
        st = status_set(STATUS_IO, "%s: cannot read a folder of it", pattern);
    for (size_t i = 0; i < found.gl_pathc && st == STATUS_OK; i++)
        if (!is_companion(found.gl_pathv[i]) && !file_is_dir(found.gl_pathv[i]))
            st = add(l, with_bin(found.gl_pathv[i]));
    globfree(&found);
    if (st == STATUS_OK && l->n == begin)
        st = status_set(STATUS_IO, "%s: matches no file", pattern);
    if (st == STATUS_OK) sort_from(l, begin);
    return st;
}

static const char *token_ending(const char *name)
{
    for (size_t i = 0; i < sizeof token_endings / sizeof *token_endings; i++)
        if (name[0] != '.' && token_file_ends_with(name, token_endings[i]))
            return token_endings[i];
    return NULL;
}

static status_t add_entries(struct token_file_list *l, const char *folder, DIR *d)
{
    const char *ending = NULL;
    char path[MAX_PATH_BYTES];
    for (const struct dirent *e; (e = readdir(d));) {
        const char *this = token_ending(e->d_name);
        if (!this) continue;
        if (ending && this != ending)
            return status_set(STATUS_DATA,
                              "%s: holds %s and %s files (valid: token files of one "
                              "kind, or a pattern such as *%s)",
                              folder, ending, this, ending);
        ending = this;
        if (strlen(folder) + strlen(e->d_name) + 2 > sizeof path)
            return status_set(STATUS_DATA, "%s: the path of %s is too long", folder,
                              e->d_name);
        file_join(path, sizeof path, folder, e->d_name);
        TRY(add(l, strdup(path)));
    }
    if (ending) return STATUS_OK;
    return status_set(STATUS_DATA,
                      "%s: is a folder without token files (valid: .h5, .npy, .bin or "
                      ".ds files in it)",
                      folder);
}

static status_t add_folder(struct token_file_list *l, const char *folder)
{
    const int begin = l->n;
    DIR *d = opendir(folder);
    if (!d)
        return status_set(STATUS_IO, "%s: cannot read the folder: %s", folder,
                          strerror(errno));
    const status_t st = add_entries(l, folder, d);
    closedir(d);
    if (st == STATUS_OK) sort_from(l, begin);
    return st;
}

/* One file, folder or pattern.  What exists is meant as it is, whatever its name. */
static status_t add_line(struct token_file_list *l, const char *line)
{
    if (file_is_dir(line)) return add_folder(l, line);
    if (file_exists(line)) return add(l, with_bin(line));
    char *index = token_file_companion(line, 0, ".idx");
    const bool megatron = index && file_exists(index);
    free(index);
    if (megatron) return add(l, token_file_companion(line, 0, ".bin"));
    if (strpbrk(line, "*?[")) return add_pattern(l, line);
    return status_set(STATUS_IO, "%s: does not exist", line);
}

status_t token_file_list(struct token_file_list *l, const char *path)
{
    *l = (struct token_file_list){0};
    char *lines = strdup(path), *rest = lines;
    status_t st = lines ? STATUS_OK : no_memory(path);
    while (rest && st == STATUS_OK) st = add_line(l, strsep(&rest, "\n"));
    free(lines);
    if (st != STATUS_OK) token_file_list_release(l);
    return st;
}

void token_file_list_release(struct token_file_list *l)
{
    for (int i = 0; i < l->n; i++) free(l->paths[i]);
    free(l->paths);
    *l = (struct token_file_list){0};
}

int64_t token_file_bytes(const struct token_file_list *l)
{
    int64_t bytes = 0;
    struct stat info;
    for (int i = 0; i < l->n; i++)
        if (stat(l->paths[i], &info) == 0) bytes += info.st_size;
    return bytes;
}
