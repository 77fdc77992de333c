#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/log.h"

static status_t io_error(const char *path, const char *what)
{
    return status_set(STATUS_IO, "%s: cannot %s: %s", path, what, strerror(errno));
}

static status_t read_all(int fd, const char *path, size_t max_bytes, char **data,
                         size_t *bytes)
{
    struct stat info;
    if (fstat(fd, &info) != 0) return io_error(path, "stat");
    if (!S_ISREG(info.st_mode))
        return status_set(STATUS_IO, "%s: is not a regular file", path);
    if ((uintmax_t)info.st_size > max_bytes)
        return status_set(STATUS_IO, "%s: has %jd bytes, at most %zu are read", path,
                          (intmax_t)info.st_size, max_bytes);
    const size_t size = (size_t)info.st_size;
    char *buffer = malloc(size + 1);
    if (!buffer)
        return status_set(STATUS_NOMEM, "%s: no memory for %zu bytes", path, size);
    size_t done = 0;
    while (done < size) {
        const ssize_t n = read(fd, buffer + done, size - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            const status_t st = io_error(path, "read");
            free(buffer);
            return st;
        }
        if (n == 0) break;
        done += (size_t)n;
    }
    buffer[done] = '\0';
    *data = buffer;
    *bytes = done;
    return STATUS_OK;
}

status_t file_read(const char *path, size_t max_bytes, char **data, size_t *bytes)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return io_error(path, "open");
    const status_t st = read_all(fd, path, max_bytes, data, bytes);
    close(fd);
    return st;
}

static status_t write_all(int fd, const char *path, const char *data, size_t bytes)
{
    while (bytes > 0) {
        const ssize_t n = write(fd, data, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return io_error(path, "write");
        data += n;
        bytes -= (size_t)n;
    }
    return STATUS_OK;
}

status_t file_replace(const char *path, const void *data, size_t bytes)
{
    char tmp[PATH_MAX];
    if ((size_t)snprintf(tmp, sizeof tmp, "%s.tmp", path) >= sizeof tmp)
        return status_set(STATUS_IO, "%s: the name is too long", path);
    const int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return io_error(tmp, "create");
    status_t st = write_all(fd, tmp, data, bytes);
    if (close(fd) != 0 && st == STATUS_OK) st = io_error(tmp, "close");
    if (st == STATUS_OK) st = file_commit(path);
    if (st != STATUS_OK) unlink(tmp);
    return st;
}

/* Cut `path` down to the folder that holds it. */
static void to_parent(char *path)
{
    char *slash = strrchr(path, '/');
    if (!slash)
        snprintf(path, PATH_MAX, ".");
    else
        slash[slash == path ? 1 : 0] = '\0';
}

status_t file_commit(const char *path)
{
    char tmp[PATH_MAX], folder[PATH_MAX];
    if ((size_t)snprintf(tmp, sizeof tmp, "%s.tmp", path) >= sizeof tmp)
        return status_set(STATUS_IO, "%s: the name is too long", path);
    const int fd = open(tmp, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return io_error(tmp, "open");
    status_t st = fsync(fd) == 0 ? STATUS_OK : io_error(tmp, "fsync");
    close(fd);
    TRY(st);
    if (rename(tmp, path) != 0) return io_error(path, "rename the new file to");
    snprintf(folder, sizeof folder, "%s", path);
    to_parent(folder);
    return file_sync_dir(folder);
}

/* A new folder is durable once the one it lies in is synced, which takes the right to read it. */
static status_t make_dir(const char *path)
{
    char parent[PATH_MAX];
    if (mkdir(path, 0777) != 0)
        return errno == EEXIST ? STATUS_OK : io_error(path, "create");
    snprintf(parent, sizeof parent, "%s", path);
    to_parent(parent);
    return access(parent, R_OK) == 0 ? file_sync_dir(parent) : STATUS_OK;
}

status_t file_make_dirs(const char *path)
{
    char part[PATH_MAX];
    if ((size_t)snprintf(part, sizeof part, "%s", path) >= sizeof part)
        return status_set(STATUS_IO, "%s: the name is too long", path);
    for (char *p = part + 1; *p; p++) {
        if (*p != '/') continue;
        *p = '\0';
        TRY(make_dir(part));
        *p = '/';
    }
    TRY(make_dir(part));
    if (!file_is_dir(part)) return status_set(STATUS_IO, "%s: is not a directory", path);
    return STATUS_OK;
}

status_t file_make_parent(const char *path)
{
    char folder[PATH_MAX];
    if ((size_t)snprintf(folder, sizeof folder, "%s", path) >= sizeof folder)
        return status_set(STATUS_IO, "%s: the name is too long", path);
    to_parent(folder);
    return file_make_dirs(folder);
}

status_t file_sync_dir(const char *path)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return io_error(path, "open");
    /* some network file systems refuse to sync a folder; the rename is durable there */
    const bool failed = fsync(fd) != 0 && errno != EINVAL && errno != ENOTSUP;
    const status_t st = failed ? io_error(path, "fsync") : STATUS_OK;
    close(fd);
    return st;
}

bool file_is_dir(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool file_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

void file_join(char *out, size_t size, const char *a, const char *b)
{
    const int n =
        b[0] == '/' ? snprintf(out, size, "%s", b) : snprintf(out, size, "%s/%s", a, b);
    if (n < 0 || (size_t)n >= size) die("path is too long: %s/%s", a, b);
}
