/* file - whole files in, whole files out, nothing half-written.
 *
 * A file is replaced in four steps: write NAME.tmp, fsync it, rename it over NAME, fsync the
 * folder.  Until the rename a reader sees the old file, from then on the new one. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

/* The whole file and a final zero byte that *bytes does not count.  Caller frees *data.
 * STATUS_IO; a directory, or a file larger than `max_bytes`, is refused. */
MUST_USE status_t file_read(const char *path, size_t max_bytes, char **data,
                            size_t *bytes);

/* Replace `path` by `bytes` of `data` as above.  STATUS_IO; the old file stays on failure. */
MUST_USE status_t file_replace(const char *path, const void *data, size_t bytes);

/* The last two steps, for a writer that made `path`.tmp itself: fsync, rename, fsync folder. */
MUST_USE status_t file_commit(const char *path);

MUST_USE status_t file_make_dirs(const char *path);   /* mkdir -p */
MUST_USE status_t file_make_parent(const char *path); /* the folder that holds `path` */
MUST_USE status_t file_sync_dir(const char *path);    /* fsync of a folder */
bool file_is_dir(const char *path);
bool file_exists(const char *path);

/* "a/b", or "b" if b is absolute, into `out` of `size` bytes; dies if it does not fit. */
void file_join(char *out, size_t size, const char *a, const char *b);
