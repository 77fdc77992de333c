/* Documents into a nameless file, and out again in the order of the rows. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "data/pack.h"

enum { BUFFER_BYTES = 1 << 20 };

/* In the file a token that is not to be predicted lies as its complement. */
struct packer {
    char *path;
    int64_t T;
    int fd;
    unsigned char *buffer; /* [BUFFER_BYTES], the end of the file */
    size_t buffered;
    int64_t n_tokens, text_bytes; /* of all documents */
    int32_t *lengths;             /* [n] */
    int64_t n, capacity;
    int32_t *ids, *loss; /* [T] of a row on its way out */
};

static status_t no_memory(const struct packer *p)
{
    return status_set(STATUS_NOMEM, "%s: no memory to pack %lld documents", p->path,
                      (long long)p->n);
}

static status_t os_error(const struct packer *p, const char *what)
{
    return status_set(STATUS_IO, "%s: cannot %s a file beside it: %s", p->path, what,
                      strerror(errno));
}

/* ---- life ------------------------------------------------------------------------------- */

static status_t init(struct packer *p)
{
    char tmp[PATH_MAX];
    if (snprintf(tmp, sizeof tmp, "%s.rows.XXXXXX", p->path) >= PATH_MAX)
        return status_set(STATUS_IO, "%s: the name is too long", p->path);
    p->buffer = malloc(BUFFER_BYTES);
    p->ids = malloc((size_t)p->T * sizeof *p->ids);
    p->loss = malloc((size_t)p->T * sizeof *p->loss);
    if (!p->buffer || !p->ids || !p->loss) return no_memory(p);
    p->fd = mkostemp(tmp, O_CLOEXEC);
    if (p->fd < 0) return os_error(p, "create");
    unlink(tmp); /* a kill leaves nothing behind */
    return STATUS_OK;
}

status_t packer_create(struct packer **p, const char *path, int64_t T)
{
    CHECK(T >= 2 && T <= INT32_MAX);
    *p = NULL;
    struct packer *x = calloc(1, sizeof *x);
    if (!x) return status_set(STATUS_NOMEM, "%s: no memory to pack documents", path);
    *x = (struct packer){.path = strdup(path), .T = T, .fd = -1};
    const status_t st =
        x->path ? init(x) : status_set(STATUS_NOMEM, "no memory to pack documents");
    if (st == STATUS_OK)
        *p = x;
    else
        packer_destroy(&x);
    return st;
}

void packer_destroy(struct packer **p)
{
    if (!*p) return;
    if ((*p)->fd >= 0) close((*p)->fd);
    free((*p)->lengths);
    free((*p)->buffer);
    free((*p)->ids);
    free((*p)->loss);
    free((*p)->path);
    free(*p);
    *p = NULL;
}

/* ---- in --------------------------------------------------------------------------------- */

static status_t flush(struct packer *p)
{
    const unsigned char *from = p->buffer;
    while (p->buffered > 0) {
        const ssize_t n = write(p->fd, from, p->buffered);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return os_error(p, "write");
        from += n;
        p->buffered -= (size_t)n;
    }
    return STATUS_OK;
}

static status_t note_length(struct packer *p, int64_t n)
{
    if (p->n == p->capacity) {
        const int64_t larger = 2 * p->capacity + 1024;
        int32_t *lengths = realloc(p->lengths, (size_t)larger * sizeof *lengths);
        if (!lengths) return no_memory(p);
        p->lengths = lengths;
        p->capacity = larger;
    }
    p->lengths[p->n++] = (int32_t)n;
    return STATUS_OK;
}

status_t packer_add(struct packer *p, const int32_t *ids, const int32_t *loss, int64_t n,
                    int64_t text_bytes)
{
    CHECK(n >= 1 && n <= p->T);
    TRY(note_length(p, n));
    for (int64_t i = 0; i < n; i++) {
        if (p->buffered == BUFFER_BYTES) TRY(flush(p));
        const int32_t id = loss[i] ? ids[i] : ~ids[i];
        memcpy(p->buffer + p->buffered, &id, sizeof id);
        p->buffered += sizeof id;
    }
    p->n_tokens += n;
    p->text_bytes += text_bytes;
    return STATUS_OK;
}

/* ---- out -------------------------------------------------------------------------------- */

/* The documents that lie in each row: those of row r are list[begin[r] .. begin[r + 1]), in the
 * order in which they came. */
struct contents {
    int64_t *row;   /* [n] of each document */
    int64_t *at;    /* [n] its first token in the file */
    int64_t *begin; /* [n_rows + 1] */
    int64_t *list;  /* [n] */
    int64_t n_rows;
};

static void release(struct contents *c)
{
    free(c->row);
    free(c->at);
    free(c->begin);
    free(c->list);
}

static status_t fill(struct contents *c, const struct packer *p)
{
    const size_t bytes = ((size_t)p->n + 2) * sizeof(int64_t);
    *c = (struct contents){.row = malloc(bytes),
                           .at = malloc(bytes),
                           .begin = calloc(1, bytes),
                           .list = malloc(bytes)};
    if (!c->row || !c->at || !c->begin || !c->list) return no_memory(p);
    TRY(pack_rows(p->lengths, p->n, p->T, c->row, &c->n_rows));
    int64_t at = 0;
    for (int64_t i = 0; i < p->n; i++) {
        c->at[i] = at;
        at += p->lengths[i];
        c->begin[c->row[i] + 1]++;
    }
    for (int64_t r = 0; r < c->n_rows; r++) c->begin[r + 1] += c->begin[r];
    for (int64_t i = p->n; i-- > 0;) c->list[--c->begin[c->row[i] + 1]] = i;
    /* begin[r + 1] is now where row r begins */
    memmove(c->begin, c->begin + 1, (size_t)c->n_rows * sizeof *c->begin);
    c->begin[c->n_rows] = p->n;
    return STATUS_OK;
}

static status_t read_document(const struct packer *p, int64_t at, int64_t n)
{
    unsigned char *to = (unsigned char *)p->ids;
    size_t left = (size_t)n * sizeof *p->ids;
    off_t from = (off_t)at * (off_t)sizeof *p->ids;
    while (left > 0) {
        const ssize_t got = pread(p->fd, to, left, from);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return os_error(p, "read back");
        if (got == 0) return status_set(STATUS_IO, "%s: lost gathered tokens", p->path);
        to += got;
        from += got;
        left -= (size_t)got;
    }
    for (int64_t i = 0; i < n; i++) {
        p->loss[i] = p->ids[i] >= 0;
        if (p->ids[i] < 0) p->ids[i] = ~p->ids[i];
    }
    return STATUS_OK;
}

static status_t pad_row(const struct packer *p, struct token_writer *w, int32_t pad,
                        int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        p->ids[i] = pad;
        p->loss[i] = 0;
    }
    return n > 0 ? token_writer_masked(w, p->ids, p->loss, n, 0) : STATUS_OK;
}

static status_t write_rows(const struct packer *p, struct token_writer *w, int32_t pad,
                           const struct contents *c)
{
    int64_t text_bytes = p->text_bytes; /* the writer wants their sum only */
    for (int64_t r = 0; r < c->n_rows; r++) {
        int64_t used = 0;
        for (int64_t k = c->begin[r]; k < c->begin[r + 1]; k++) {
            const int64_t i = c->list[k], n = p->lengths[i];
            TRY(read_document(p, c->at[i], n));
            TRY(token_writer_masked(w, p->ids, p->loss, n, text_bytes));
            text_bytes = 0;
            used += n;
        }
        TRY(pad_row(p, w, pad, p->T - used));
    }
    token_writer_set_rows(w, p->T);
    return STATUS_OK;
}

status_t packer_write(struct packer *p, struct token_writer *w, int32_t pad,
                      struct pack_counts *counts)
{
    struct contents c = {0};
    CHECK(p->n > 0);
    TRY(flush(p));
    status_t st = fill(&c, p);
    if (st == STATUS_OK) st = write_rows(p, w, pad, &c);
    if (counts)
        *counts = (struct pack_counts){
            .n_documents = p->n, .n_tokens = p->n_tokens, .n_rows = c.n_rows};
    release(&c);
    return st;
}
