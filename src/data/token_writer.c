#include "data/token_file_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/h5.h"
#include "core/log.h"

enum { BUFFER_BYTES = 1 << 20, MAX_NARROW_VOCAB = 65536 };

/* One dataset on its way: gathered in a nameless file, then copied into its region. */
struct column {
    const char *name;
    int element_bytes;
    int fd; /* -1: none */
    int64_t n;
    unsigned char *buffer; /* [BUFFER_BYTES] */
    size_t buffered;
    struct hash_stream *hash;
    struct h5_region region; /* in PATH.tmp */
};

struct token_writer {
    char *path, *tokenizer_path; /* the latter NULL: unknown */
    int64_t vocab_size, eos_id, text_bytes, row_tokens;
    char tokenizer_sha256[HASH_SHA256_HEX];
    struct column tokens, documents, mask; /* the last without a file: no masks */
};

static status_t os_error(const char *path, const char *what)
{
    return status_set(STATUS_IO, "%s: cannot %s: %s", path, what, strerror(errno));
}

/* ---- gathering -------------------------------------------------------------------------- */

static status_t column_init(struct column *c, const char *path, const char *name,
                            int element_bytes)
{
    char tmp[PATH_MAX];
    if (snprintf(tmp, sizeof tmp, "%s.%s.XXXXXX", path, name) >= PATH_MAX)
        return status_set(STATUS_IO, "%s: the name is too long", path);
    c->name = name;
    c->element_bytes = element_bytes;
    c->hash = hash_stream_create();
    c->buffer = malloc(BUFFER_BYTES);
    if (!c->buffer) return status_set(STATUS_NOMEM, "%s: no memory to write it", path);
    c->fd = mkostemp(tmp, O_CLOEXEC);
    if (c->fd < 0) return os_error(path, "create a file beside it");
    unlink(tmp); /* a kill leaves nothing behind */
    return STATUS_OK;
}

static void column_release(struct column *c)
{
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    free(c->buffer);
    c->buffer = NULL;
    if (c->hash) hash_stream_finish(&c->hash);
}

static status_t write_at(int fd, const char *path, const void *data, size_t bytes,
                         uint64_t offset)
{
    const char *p = data;
    while (bytes > 0) {
        const ssize_t n = pwrite(fd, p, bytes, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return os_error(path, "write");
        p += n;
        offset += (uint64_t)n;
        bytes -= (size_t)n;
    }
    return STATUS_OK;
}

static status_t column_flush(struct column *c, const char *path)
{
    const size_t bytes = c->buffered;
    const uint64_t offset = (uint64_t)c->n * (uint64_t)c->element_bytes - bytes;
    c->buffered = 0;
    hash_stream_update(c->hash, c->buffer, bytes);
    return write_at(c->fd, path, c->buffer, bytes, offset);
}

static status_t column_add(struct column *c, const char *path, uint64_t value)
{
    if (c->buffered == BUFFER_BYTES) TRY(column_flush(c, path));
    memcpy(c->buffer + c->buffered, &value, (size_t)c->element_bytes);
    c->buffered += (size_t)c->element_bytes;
    c->n++;
    return STATUS_OK;
}

/* ---- interface: until the commit -------------------------------------------------------- */

static status_t writer_init(struct token_writer *w)
{
    if (!w->path) return status_set(STATUS_NOMEM, "no memory to write a token file");
    if (file_is_dir(w->path))
        return status_set(STATUS_IO, "%s: is a directory, a token file is to go there",
                          w->path);
    const int token_bytes = w->vocab_size <= MAX_NARROW_VOCAB ? 2 : 4;
    TRY(column_init(&w->tokens, w->path, "tokens", token_bytes));
    TRY(column_init(&w->documents, w->path, "documents", 8));
    return column_add(&w->documents, w->path, 0);
}

status_t token_writer_create(struct token_writer **w, const char *path,
                             int64_t vocab_size, int64_t eos_id,
                             const char *tokenizer_sha256)
{
    CHECK(vocab_size >= 1 && vocab_size <= INT32_MAX);
    CHECK(eos_id >= -1 && eos_id < vocab_size);
    CHECK(strlen(tokenizer_sha256) < HASH_SHA256_HEX);
    *w = NULL;
    struct token_writer *x = calloc(1, sizeof *x);
    if (!x) return status_set(STATUS_NOMEM, "no memory to write a token file");
    *x = (struct token_writer){.path = strdup(path),
                               .vocab_size = vocab_size,
                               .eos_id = eos_id,
                               .tokens.fd = -1,
                               .documents.fd = -1,
                               .mask.fd = -1};
    strcpy(x->tokenizer_sha256, tokenizer_sha256);
    const status_t st = writer_init(x);
    if (st == STATUS_OK)
        *w = x;
    else
        token_writer_destroy(&x);
    return st;
}

void token_writer_destroy(struct token_writer **w)
{
    if (!*w) return;
    column_release(&(*w)->mask);
    column_release(&(*w)->documents);
    column_release(&(*w)->tokens);
    free((*w)->path);
    free((*w)->tokenizer_path);
    free(*w);
    *w = NULL;
}

static bool has_mask(const struct token_writer *w)
{
    return w->mask.fd >= 0;
}

static status_t add_document(struct token_writer *w, const int32_t *ids, int64_t n,
                             int64_t text_bytes)
{
    CHECK(n >= 0 && text_bytes >= 0);
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= w->vocab_size)
            return status_set(STATUS_DATA,
                              "%s: token %d of a document is outside the vocabulary of "
                              "%lld",
                              w->path, ids[i], (long long)w->vocab_size);
        TRY(column_add(&w->tokens, w->path, (uint64_t)ids[i]));
    }
    w->text_bytes += text_bytes;
    return column_add(&w->documents, w->path, (uint64_t)w->tokens.n);
}

status_t token_writer_document(struct token_writer *w, const int32_t *ids, int64_t n,
                               int64_t text_bytes)
{
    CHECK(!has_mask(w));
    return add_document(w, ids, n, text_bytes);
}

status_t token_writer_masked(struct token_writer *w, const int32_t *ids,
                             const int32_t *loss, int64_t n, int64_t text_bytes)
{
    if (!has_mask(w)) {
        CHECK(w->documents.n == 1);
        TRY(column_init(&w->mask, w->path, "loss_mask", 1));
    }
    for (int64_t i = 0; i < n; i++) TRY(column_add(&w->mask, w->path, loss[i] != 0));
    return add_document(w, ids, n, text_bytes);
}

void token_writer_set_rows(struct token_writer *w, int64_t T)
{
    CHECK(has_mask(w) && T > 0 && w->tokens.n % T == 0);
    w->row_tokens = T;
}

status_t token_writer_set_tokenizer(struct token_writer *w, const char *path)
{
    free(w->tokenizer_path);
    w->tokenizer_path = strdup(path);
    return w->tokenizer_path ? STATUS_OK
                             : status_set(STATUS_NOMEM, "no memory for a token file");
}

/* ---- the commit ------------------------------------------------------------------------- */

static status_t make_dataset(struct column *c, const char *path, hid_t file)
{
    const hid_t type = c->element_bytes == 1   ? H5T_STD_U8LE
                       : c->element_bytes == 2 ? H5T_STD_U16LE
                       : c->element_bytes == 4 ? H5T_STD_U32LE
                                               : H5T_STD_U64LE;
    const hsize_t n = (hsize_t)c->n;
    const hid_t space = H5Screate_simple(1, &n, NULL);
    const hid_t dcpl = H5Pcreate(H5P_DATASET_CREATE);
    if (space < 0 || dcpl < 0) die("HDF5 is out of memory");
    /* the place is given now and filled behind HDF5's back once the file is closed */
    H5Pset_layout(dcpl, H5D_CONTIGUOUS);
    H5Pset_alloc_time(dcpl, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(dcpl, H5D_FILL_TIME_NEVER);
    H5Pset_obj_track_times(dcpl, false); /* the same input gives the same bytes */
    const hid_t dataset =
        H5Dcreate2(file, c->name, type, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
    status_t st = dataset < 0 ? h5_fail(STATUS_IO, path, "create a dataset") : STATUS_OK;
    if (st == STATUS_OK) st = h5_dataset_region(dataset, &c->region);
    st = h5_close_written(dataset, path, st);
    H5Pclose(dcpl);
    H5Sclose(space);
    return st;
}

static status_t write_attributes(struct token_writer *w, hid_t file, const char *sources)
{
    TRY(h5_write_u64(file, "version",
                     has_mask(w) ? TOKEN_FILE_MASKED : TOKEN_FILE_VERSION));
    TRY(h5_write_u64(file, "vocab_size", (uint64_t)w->vocab_size));
    if (w->eos_id >= 0) TRY(h5_write_u64(file, "eos_id", (uint64_t)w->eos_id));
    TRY(h5_write_str(file, "tokenizer_sha256", w->tokenizer_sha256));
    if (w->tokenizer_path) TRY(h5_write_str(file, "tokenizer_path", w->tokenizer_path));
    TRY(h5_write_str(file, "sources", sources));
    if (w->row_tokens > 0) TRY(h5_write_u64(file, "row_tokens", (uint64_t)w->row_tokens));
    if (has_mask(w))
        TRY(h5_write_u64(file, "loss_mask_xxh3", hash_stream_finish(&w->mask.hash)));
    TRY(h5_write_u64(file, "total_bytes", (uint64_t)w->text_bytes));
    TRY(h5_write_u64(file, "tokens_xxh3", hash_stream_finish(&w->tokens.hash)));
    return h5_write_u64(file, "documents_xxh3", hash_stream_finish(&w->documents.hash));
}

static status_t write_structure(struct token_writer *w, const char *sources)
{
    hid_t file = H5I_INVALID_HID;
    TRY(h5_create(w->path, &file));
    status_t st = write_attributes(w, file, sources);
    if (st == STATUS_OK) st = make_dataset(&w->documents, w->path, file);
    if (st == STATUS_OK && has_mask(w)) st = make_dataset(&w->mask, w->path, file);
    if (st == STATUS_OK) st = make_dataset(&w->tokens, w->path, file);
    if (H5Fclose(file) < 0 && st == STATUS_OK)
        st = h5_fail(STATUS_IO, w->path, "close the new file");
    return st;
}

/* Through the buffer and not by copy_file_range, which some file systems refuse. */
static status_t copy_column(struct column *c, int fd, const char *path)
{
    uint64_t done = 0;
    while (done < c->region.bytes) {
        const uint64_t left = c->region.bytes - done;
        const size_t want = left < BUFFER_BYTES ? (size_t)left : BUFFER_BYTES;
        const ssize_t n = pread(c->fd, c->buffer, want, (off_t)done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return os_error(path, "read back what was gathered for it");
        if (n == 0) return status_set(STATUS_IO, "%s: lost gathered tokens", path);
        TRY(write_at(fd, path, c->buffer, (size_t)n, c->region.offset + done));
        done += (uint64_t)n;
    }
    return STATUS_OK;
}

static status_t copy_columns(struct token_writer *w, const char *tmp)
{
    const int fd = open(tmp, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return os_error(tmp, "open");
    status_t st = copy_column(&w->documents, fd, tmp);
    if (st == STATUS_OK && has_mask(w)) st = copy_column(&w->mask, fd, tmp);
    if (st == STATUS_OK) st = copy_column(&w->tokens, fd, tmp);
    if (close(fd) != 0 && st == STATUS_OK) st = os_error(tmp, "close");
    return st;
}

static int by_offset(const void *a, const void *b)
{
    const struct h5_region *x = a, *y = b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

static status_t seal(const struct token_writer *w)
{
    struct h5_region regions[3] = {w->documents.region, w->tokens.region, w->mask.region};
    const int n = has_mask(w) ? 3 : 2;
    qsort(regions, (size_t)n, sizeof *regions, by_offset);
    return h5_seal(w->path, TOKEN_FILE_KIND, regions, n);
}

status_t token_writer_commit(struct token_writer *w, const char *sources)
{
    CHECK(w->tokens.hash); /* once */
    if (w->tokens.n == 0)
        return status_set(STATUS_DATA,
                          "%s: there is no token to write, the text is empty", w->path);
    char tmp[PATH_MAX];
    snprintf(tmp, sizeof tmp, "%s.tmp", w->path);
    TRY(column_flush(&w->tokens, w->path));
    TRY(column_flush(&w->documents, w->path));
    if (has_mask(w)) TRY(column_flush(&w->mask, w->path));
    status_t st = write_structure(w, sources);
    if (st == STATUS_OK) st = copy_columns(w, tmp);
    if (st == STATUS_OK) st = seal(w);
    if (st == STATUS_OK) st = file_commit(w->path);
    if (st != STATUS_OK) unlink(tmp);
    return st;
}
