#include "data/text_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

enum { RAW_BYTES = 1 << 17 };

enum packing { PACKING_NONE, PACKING_GZIP, PACKING_ZSTD };

struct text_stream {
    const char *path; /* borrowed */
    int fd;
    enum packing packing;
    z_stream gzip;
    bool gzip_open;
    ZSTD_DStream *zstd;
    bool inside; /* a gzip member or zstd frame has begun and not ended */
    _Atomic int64_t *counter;
    struct hash_sha256_stream *sha256;
    int64_t n_bytes;
    size_t at, n_raw; /* raw[at..n_raw) is still to be unpacked */
    unsigned char raw[RAW_BYTES];
};

int text_name_ends(const char *path, size_t length, const char *ending)
{
    const size_t n = strlen(ending);
    return length > n && memcmp(path + length - n, ending, n) == 0;
}

static enum packing packing_of(const char *path)
{
    const size_t n = strlen(path);
    if (text_name_ends(path, n, ".gz")) return PACKING_GZIP;
    if (text_name_ends(path, n, ".zst") || text_name_ends(path, n, ".zstd"))
        return PACKING_ZSTD;
    return PACKING_NONE;
}

status_t text_stream_open(struct text_stream **out, const char *path,
                          _Atomic int64_t *counter)
{
    *out = NULL;
    struct text_stream *s = calloc(1, sizeof *s);
    if (!s) return status_set(STATUS_NOMEM, "%s: no memory to read it", path);
    s->path = path;
    s->counter = counter;
    s->packing = packing_of(path);
    s->sha256 = hash_sha256_stream_create();
    s->fd = open(path, O_RDONLY | O_CLOEXEC);
    status_t st = STATUS_OK;
    if (s->fd < 0)
        st = status_set(STATUS_IO, "%s: cannot open: %s", path, strerror(errno));
    else if (s->packing == PACKING_GZIP)
        s->gzip_open = inflateInit2(&s->gzip, 15 + 16) == Z_OK; /* + 16: gzip only */
    else if (s->packing == PACKING_ZSTD)
        s->zstd = ZSTD_createDStream();
    if (st == STATUS_OK && ((s->packing == PACKING_GZIP && !s->gzip_open) ||
                            (s->packing == PACKING_ZSTD && !s->zstd)))
        st = status_set(STATUS_NOMEM, "%s: no memory to unpack it", path);
    if (st != STATUS_OK) text_stream_close(&s, NULL, NULL);
    *out = s;
    return st;
}

void text_stream_close(struct text_stream **stream, char hex[HASH_SHA256_HEX],
                       int64_t *bytes)
{
    struct text_stream *s = *stream;
    if (!s) return;
    if (bytes) *bytes = s->n_bytes;
    hash_sha256_stream_finish(&s->sha256, hex);
    if (s->gzip_open) inflateEnd(&s->gzip);
    ZSTD_freeDStream(s->zstd);
    if (s->fd >= 0) close(s->fd);
    free(s);
    *stream = NULL;
}

/* Next bytes of the file into raw[]; n_raw == 0 at its end. */
static status_t fill_raw(struct text_stream *s, void *to, size_t capacity, size_t *n)
{
    ssize_t got;
    do got = read(s->fd, to, capacity);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return status_set(STATUS_IO, "%s: cannot read: %s", s->path, strerror(errno));
    hash_sha256_stream_update(s->sha256, to, (size_t)got);
    s->n_bytes += got;
    atomic_fetch_add_explicit(s->counter, got, memory_order_relaxed);
    *n = (size_t)got;
    return STATUS_OK;
}

static status_t unpack_gzip(struct text_stream *s, char *out, size_t capacity, size_t *n)
{
    s->gzip.next_in = s->raw + s->at;
    s->gzip.avail_in = (uInt)(s->n_raw - s->at);
    s->gzip.next_out = (unsigned char *)out;
    s->gzip.avail_out = (uInt)capacity;
    s->inside = true;
    const int rc = inflate(&s->gzip, Z_NO_FLUSH);
    s->at = s->n_raw - s->gzip.avail_in;
    *n = capacity - s->gzip.avail_out;
    if (rc == Z_STREAM_END) { /* another member may follow */
        s->inside = false;
        inflateReset(&s->gzip);
    } else if (rc != Z_OK && rc != Z_BUF_ERROR) {
        return status_set(STATUS_DATA, "%s: damaged gzip data before byte %lld", s->path,
                          (long long)(s->n_bytes - (int64_t)(s->n_raw - s->at)));
    }
    return STATUS_OK;
}

static status_t unpack_zstd(struct text_stream *s, char *out, size_t capacity, size_t *n)
{
    ZSTD_inBuffer in = {s->raw, s->n_raw, s->at};
    ZSTD_outBuffer to = {out, capacity, 0};
    const size_t hint = ZSTD_decompressStream(s->zstd, &to, &in);
    s->at = in.pos;
    *n = to.pos;
    if (ZSTD_isError(hint))
        return status_set(STATUS_DATA, "%s: damaged zstd data before byte %lld: %s",
                          s->path, (long long)(s->n_bytes - (int64_t)(s->n_raw - s->at)),
                          ZSTD_getErrorName(hint));
    s->inside = hint != 0;
    return STATUS_OK;
}

status_t text_stream_read(struct text_stream *s, char *out, size_t capacity, size_t *n)
{
    if (capacity > RAW_BYTES) capacity = RAW_BYTES;
    if (s->packing == PACKING_NONE) return fill_raw(s, out, capacity, n);
    bool more_output =
        s->inside; /* the unpackers may hold bytes back when out was full */
    for (*n = 0; *n == 0;) {
        if (s->at == s->n_raw && !more_output) {
            s->at = 0;
            TRY(fill_raw(s, s->raw, RAW_BYTES, &s->n_raw));
            if (s->n_raw == 0 && s->inside)
                return status_set(STATUS_DATA, "%s: the %s data is cut off", s->path,
                                  s->packing == PACKING_GZIP ? "gzip" : "zstd");
            if (s->n_raw == 0 && s->n_bytes == 0)
                return status_set(STATUS_DATA, "%s: is empty, not %s data", s->path,
                                  s->packing == PACKING_GZIP ? "gzip" : "zstd");
            if (s->n_raw == 0) return STATUS_OK;
        }
        more_output = false;
        TRY(s->packing == PACKING_GZIP ? unpack_gzip(s, out, capacity, n)
                                       : unpack_zstd(s, out, capacity, n));
    }
    return STATUS_OK;
}
