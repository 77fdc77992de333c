#include "checkpoint/checkpoint_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/h5.h"
#include "core/hash.h"

status_t ckpt_shard_open(const struct checkpoint *c, int64_t shard, int *fd)
{
    *fd = -1;
    char path[PATH_MAX];
    ckpt_shard_path(path, c->path, shard, c->index.generation);
    const struct ckpt_shard *h = &c->index.shards[shard];
    struct h5_seal_info seal;
    TRY(h5_check_seal(path, "shard", STATUS_CHECKPOINT, &seal));
    bool same = seal.xxh3 == h->seal && seal.bytes == h->bytes &&
                seal.n_regions == (h->elements ? CKPT_KINDS : 0);
    for (int k = 0; same && k < seal.n_regions; k++)
        same = seal.regions[k].offset == h->offset[k] &&
               seal.regions[k].bytes == 4 * h->elements;
    if (!same)
        return status_set(STATUS_CHECKPOINT,
                          "%s: is not the shard that model.h5 was written with", path);
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0)
        return status_set(STATUS_IO, "%s: cannot open: %s", path, strerror(errno));
    return STATUS_OK;
}

static status_t read_at(const struct checkpoint *c, const struct ckpt_piece *p, int fd,
                        void *data, size_t bytes, uint64_t offset)
{
    char *to = data;
    while (bytes > 0) {
        const ssize_t n = pread(fd, to, bytes, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            char path[PATH_MAX];
            const char *why = n < 0 ? strerror(errno) : "the file ends too early";
            ckpt_shard_path(path, c->path, p->shard, c->index.generation);
            return status_set(STATUS_IO, "%s: cannot read: %s", path, why);
        }
        to += n;
        bytes -= (size_t)n;
        offset += (uint64_t)n;
    }
    return STATUS_OK;
}

status_t ckpt_piece_read(const struct checkpoint *c, int fd, const struct ckpt_piece *p,
                         int kind, float *buffer, ckpt_sink *sink, void *context)
{
    const int64_t n = ckpt_elements(p);
    const uint64_t start =
        c->index.shards[p->shard].offset[kind] + 4 * (uint64_t)p->offset;
    struct hash_stream *h = hash_stream_create();
    status_t st = STATUS_OK;
    for (int64_t i = 0; i < n && st == STATUS_OK;) {
        const int64_t m = n - i < CKPT_BUFFER ? n - i : CKPT_BUFFER;
        st = read_at(c, p, fd, buffer, (size_t)m * 4, start + 4 * (uint64_t)i);
        if (st != STATUS_OK) break;
        hash_stream_update(h, buffer, (size_t)m * 4);
        if (sink) sink(context, p, kind, i, buffer, m);
        i += m;
    }
    if (hash_stream_finish(&h) != p->xxh3[kind] && st == STATUS_OK) {
        char path[PATH_MAX];
        ckpt_shard_path(path, c->path, p->shard, c->index.generation);
        st = status_set(STATUS_CHECKPOINT,
                        "%s: is damaged: %s of parameter %s, rows %lld to %lld, does not "
                        "match its hash",
                        path, checkpoint_kind_name[kind], c->index.params[p->param].name,
                        (long long)p->row, (long long)(p->row + p->rows - 1));
    }
    return st;
}
