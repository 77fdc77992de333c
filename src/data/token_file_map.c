#include "data/token_file_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

void token_map_advise(const struct token_map *map, bool in_order)
{
    if (map->data)
        madvise((void *)(uintptr_t)map->data, map->bytes,
                in_order ? MADV_SEQUENTIAL : MADV_RANDOM);
}

status_t token_map_descriptor(struct token_map *map, const char *path, int fd)
{
    struct stat info;
    if (fstat(fd, &info) != 0)
        return status_set(STATUS_IO, "%s: cannot stat: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return status_set(STATUS_DATA, "%s: is not a regular file", path);
    if (info.st_size == 0) return status_set(STATUS_DATA, "%s: is empty", path);
    const size_t bytes = (size_t)info.st_size;
    void *data = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED)
        return status_set(STATUS_IO, "%s: cannot map its %zu bytes: %s", path, bytes,
                          strerror(errno));
    *map = (struct token_map){data, bytes};
    token_map_advise(map, false);
    return STATUS_OK;
}

status_t token_map_open(struct token_map *map, const char *path)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* may be a pipe */
    if (fd < 0)
        return status_set(STATUS_IO, "%s: cannot open: %s", path, strerror(errno));
    const status_t st = token_map_descriptor(map, path, fd);
    close(fd); /* the mapping stays */
    return st;
}

void token_map_close(struct token_map *map)
{
    if (map->data) munmap((void *)(uintptr_t)map->data, map->bytes);
    *map = (struct token_map){0};
}

bool token_file_ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

char *token_file_companion(const char *path, size_t n, const char *end)
{
    const size_t keep = strlen(path) - n, more = strlen(end) + 1;
    char *text = malloc(keep + more);
    if (!text) return NULL;
    memcpy(text, path, keep);
    memcpy(text + keep, end, more);
    return text;
}
