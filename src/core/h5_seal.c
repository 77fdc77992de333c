#include "core/h5.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/hash.h"
#include "core/log.h"

enum { KIND_BYTES = 16, CHUNK_BYTES = 1 << 16 };

static const uint64_t seal_version = 1;

static status_t os_error(const char *path, const char *what)
{
    return status_set(STATUS_IO, "%s: cannot %s: %s", path, what, strerror(errno));
}

/* The line up to and without the hash; this text is hashed too. */
static int render_head(char *out, size_t size, const char *kind,
                       const struct h5_seal_info *info)
{
    int n = snprintf(out, size,
                     "yoke-seal %" PRIu64 " %s size=%" PRIu64 " regions=", seal_version,
                     kind, info->bytes);
    for (int i = 0; i < info->n_regions; i++)
        n += snprintf(out + n, size - (size_t)n, "%s%" PRIu64 "+%" PRIu64, i ? "," : "",
                      info->regions[i].offset, info->regions[i].bytes);
    return n;
}

static void render(char block[H5_BLOCK_BYTES], const char *kind,
                   const struct h5_seal_info *info)
{
    memset(block, 0, H5_BLOCK_BYTES);
    const int n = render_head(block, H5_BLOCK_BYTES, kind, info);
    snprintf(block + n, H5_BLOCK_BYTES - (size_t)n, " xxh3=%016" PRIx64 "\n", info->xxh3);
}

static bool take(const char **p, const char *text)
{
    const size_t n = strlen(text);
    if (strncmp(*p, text, n) != 0) return false;
    *p += n;
    return true;
}

static bool take_u64(const char **p, int base, uint64_t *value)
{
    char *end;
    errno = 0;
    const unsigned long long v = strtoull(*p, &end, base);
    if (end == *p || errno != 0) return false;
    *p = end;
    *value = v;
    return true;
}

/* Lenient: the caller renders what was found and compares, which settles signs, leading zeros
 * and whatever follows. */
static bool parse(const char *block, char kind[KIND_BYTES], struct h5_seal_info *info)
{
    const char *p = block;
    uint64_t version;
    if (!take(&p, "yoke-seal ") || !take_u64(&p, 10, &version) || !take(&p, " "))
        return false;
    const size_t n = strspn(p, "abcdefghijklmnopqrstuvwxyz");
    if (n == 0 || n >= KIND_BYTES) return false;
    memcpy(kind, p, n);
    kind[n] = '\0';
    p += n;
    if (!take(&p, " size=") || !take_u64(&p, 10, &info->bytes)) return false;
    if (!take(&p, " regions=")) return false;
    info->n_regions = 0;
    while (*p != ' ') {
        if (info->n_regions == H5_MAX_REGIONS) return false;
        if (info->n_regions > 0 && !take(&p, ",")) return false;
        struct h5_region *r = &info->regions[info->n_regions++];
        if (!take_u64(&p, 10, &r->offset) || !take(&p, "+") ||
            !take_u64(&p, 10, &r->bytes))
            return false;
    }
    return take(&p, " xxh3=") && take_u64(&p, 16, &info->xxh3);
}

/* Ascending, apart, none empty, all between the user block and the end of the file. */
static bool regions_fit(const struct h5_seal_info *info)
{
    uint64_t at = H5_BLOCK_BYTES;
    for (int i = 0; i < info->n_regions; i++) {
        const struct h5_region *r = &info->regions[i];
        if (r->offset < at || r->offset > info->bytes || r->bytes == 0) return false;
        if (r->bytes > info->bytes - r->offset) return false;
        at = r->offset + r->bytes;
    }
    return at <= info->bytes;
}

static status_t hash_span(struct hash_stream *h, int fd, const char *path, char *buffer,
                          uint64_t from, uint64_t to)
{
    while (from < to) {
        const uint64_t want = to - from < CHUNK_BYTES ? to - from : CHUNK_BYTES;
        const ssize_t n = pread(fd, buffer, want, (off_t)from);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return os_error(path, "read");
        if (n == 0) return status_set(STATUS_IO, "%s: became shorter while read", path);
        hash_stream_update(h, buffer, (size_t)n);
        from += (uint64_t)n;
    }
    return STATUS_OK;
}

static status_t hash_outside(int fd, const char *path, const char *kind,
                             const struct h5_seal_info *info, uint64_t *xxh3)
{
    char head[H5_BLOCK_BYTES];
    char *buffer = malloc(CHUNK_BYTES);
    if (!buffer)
        return status_set(STATUS_NOMEM, "%s: no memory for %d bytes", path, CHUNK_BYTES);
    struct hash_stream *h = hash_stream_create();
    hash_stream_update(h, head, (size_t)render_head(head, sizeof head, kind, info));
    uint64_t at = H5_BLOCK_BYTES;
    status_t st = STATUS_OK;
    for (int i = 0; i < info->n_regions && st == STATUS_OK; i++) {
        st = hash_span(h, fd, path, buffer, at, info->regions[i].offset);
        at = info->regions[i].offset + info->regions[i].bytes;
    }
    if (st == STATUS_OK) st = hash_span(h, fd, path, buffer, at, info->bytes);
    *xxh3 = hash_stream_finish(&h);
    free(buffer);
    return st;
}

static status_t seal_fd(int fd, const char *path, const char *kind,
                        struct h5_seal_info *info)
{
    struct stat stat;
    if (fstat(fd, &stat) != 0) return os_error(path, "stat");
    info->bytes = (uint64_t)stat.st_size;
    if (!regions_fit(info))
        return status_set(STATUS_IO, "%s: is too short for its datasets", path);
    TRY(hash_outside(fd, path, kind, info, &info->xxh3));
    char block[H5_BLOCK_BYTES];
    render(block, kind, info);
    const ssize_t n = pwrite(fd, block, H5_BLOCK_BYTES, 0);
    if (n < 0) return os_error(path, "write");
    if (n != H5_BLOCK_BYTES) return status_set(STATUS_IO, "%s: short write", path);
    return STATUS_OK;
}

status_t h5_seal(const char *path, const char *kind, const struct h5_region *regions,
                 int n_regions)
{
    CHECK(n_regions <= H5_MAX_REGIONS && strlen(kind) < KIND_BYTES);
    struct h5_seal_info info = {0};
    for (int i = 0; i < n_regions; i++)
        if (regions[i].bytes > 0) info.regions[info.n_regions++] = regions[i];
    char tmp[PATH_MAX];
    if (snprintf(tmp, sizeof tmp, "%s.tmp", path) >= PATH_MAX)
        return status_set(STATUS_IO, "%s: the name is too long", path);
    const int fd = open(tmp, O_RDWR | O_CLOEXEC);
    if (fd < 0) return os_error(tmp, "open");
    status_t st = seal_fd(fd, tmp, kind, &info);
    if (close(fd) != 0 && st == STATUS_OK) st = os_error(tmp, "close");
    return st;
}

static status_t check_fd(int fd, const char *path, const char *kind, status_t bad,
                         struct h5_seal_info *info)
{
    struct stat stat;
    if (fstat(fd, &stat) != 0) return os_error(path, "stat");
    if (!S_ISREG(stat.st_mode)) return status_set(bad, "%s: is not a regular file", path);
    char block[H5_BLOCK_BYTES + 1] = "", again[H5_BLOCK_BYTES], found[KIND_BYTES];
    const ssize_t n = pread(fd, block, H5_BLOCK_BYTES, 0);
    if (n < 0) return os_error(path, "read");
    if (n < H5_BLOCK_BYTES || strncmp(block, "yoke-seal ", 10) != 0)
        return status_set(bad,
                          "%s: is not a file written by yoke (no seal in its first %d "
                          "bytes)",
                          path, H5_BLOCK_BYTES);
    const uint64_t version = strtoull(block + 10, NULL, 10);
    if (version > seal_version)
        return status_set(bad,
                          "%s: has seal version %" PRIu64 ", this program reads %" PRIu64
                          "; use a newer yoke",
                          path, version, seal_version);
    if (!parse(block, found, info))
        return status_set(bad, "%s: is damaged: its seal cannot be read", path);
    render(again, found, info);
    if (memcmp(block, again, H5_BLOCK_BYTES) != 0 || !regions_fit(info))
        return status_set(bad, "%s: is damaged: its seal cannot be read", path);
    if (strcmp(found, kind) != 0)
        return status_set(bad, "%s: is a yoke file of kind \"%s\", wanted is \"%s\"",
                          path, found, kind);
    if (info->bytes != (uint64_t)stat.st_size)
        return status_set(bad, "%s: is damaged: has %jd bytes, was sealed with %" PRIu64,
                          path, (intmax_t)stat.st_size, info->bytes);
    uint64_t xxh3;
    TRY(hash_outside(fd, path, kind, info, &xxh3));
    if (xxh3 != info->xxh3)
        return status_set(bad, "%s: is damaged: its bytes do not match its seal", path);
    return STATUS_OK;
}

status_t h5_check_seal(const char *path, const char *kind, status_t bad,
                       struct h5_seal_info *info)
{
    struct h5_seal_info scratch;
    /* O_NONBLOCK: a pipe in place of the file must not hold us up */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return os_error(path, "open");
    const status_t st = check_fd(fd, path, kind, bad, info ? info : &scratch);
    close(fd);
    return st;
}
