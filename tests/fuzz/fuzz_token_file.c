/* Token files from hostile bytes; the first byte chooses how deep they go.
 *
 *   0      the bytes are the file: the reader of the seal
 *   1      the bytes say how libhdf5 builds a file, which is then sealed: all checks of ours
 *   2      as 1, but the bytes behind the plan go over the two datasets before it is sealed
 *
 * Bytes of HDF5's own structures are not changed behind a correct seal: libhdf5 1.10.8 reads
 * outside its buffers or does not return for many of them, which is why there is a seal. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/h5.h"
#include "bytes.h"
#include "fuzz.h"
#include "data/sampler.h"

enum { MAX_ELEMENTS = 4096, T = 5 };

static char folder[32], path[64], tmp[64];

static void remove_files(void)
{
    unlink(path);
    unlink(tmp);
    rmdir(folder);
}

static void set_up(void)
{
    if (path[0]) return;
    snprintf(folder, sizeof folder, "%s/yoke-fuzz-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm"
                                           : "/tmp"); /* memory if possible */
    if (!mkdtemp(folder)) abort();
    snprintf(path, sizeof path, "%s/t.h5", folder);
    snprintf(tmp, sizeof tmp, "%s/t.h5.tmp", folder);
    atexit(remove_files);
}

/* ---- a file built as the bytes say ------------------------------------------------------ */

static hid_t any_type(struct bytes *b)
{
    const hid_t types[] = {H5T_STD_U16LE, H5T_STD_U32LE,  H5T_STD_U64LE, H5T_STD_I16LE,
                           H5T_STD_U16BE, H5T_IEEE_F32LE, H5T_C_S1,      H5T_STD_U8LE};
    return types[take(b) % 8];
}

/* *region: where it lies, all zero if nowhere. */
static void build_dataset(hid_t file, const char *name, hid_t type, hsize_t n,
                          struct bytes *b, struct h5_region *region)
{
    const uint8_t shape = take(b);
    if (shape > 250) return;
    if (rarely(b)) type = any_type(b);
    const hsize_t dims[2] = {n, 1};
    const hid_t space = shape > 240 ? H5Screate(H5S_SCALAR)
                                    : H5Screate_simple(shape > 230 ? 2 : 1, dims, NULL);
    const hid_t dcpl = H5Pcreate(H5P_DATASET_CREATE);
    if (shape > 220 && shape <= 230 && n > 0) H5Pset_chunk(dcpl, 1, dims);
    if (shape <= 220) H5Pset_alloc_time(dcpl, H5D_ALLOC_TIME_EARLY);
    const hid_t d = H5Dcreate2(file, name, type, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
    if (d >= 0) {
        if (h5_dataset_region(d, region) != STATUS_OK) *region = (struct h5_region){0};
        H5Dclose(d);
    }
    H5Pclose(dcpl);
    H5Sclose(space);
}

static void build_attributes(hid_t file, struct bytes *b, const char *const *names,
                             const uint64_t *usual, int n)
{
    for (int i = 0; i < n; i++) {
        const uint8_t how = take(b);
        const uint64_t value = how > 200 ? take_number(b) : usual[i];
        const status_t st = how > 250   ? h5_write_str(file, names[i], "text")
                            : how > 245 ? h5_write_f64(file, names[i], (double)value)
                            : how > 240 ? STATUS_OK
                                        : h5_write_u64(file, names[i], value);
        if (st != STATUS_OK) abort();
    }
}

static void build_text(hid_t file, struct bytes *b, const char *name)
{
    static const char digest[] =
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    char text[80] = "";
    if (rarely(b)) return;
    if (take(b) % 2) memcpy(text, digest, sizeof digest);
    for (size_t i = 0, n = take(b) % 4; i < n; i++) text[i] = (char)take(b);
    if (h5_write_str(file, name, text) != STATUS_OK) abort();
}

/* What the regions hold, so that their hashes can be right. */
struct contents {
    struct h5_region documents, tokens, mask;
    unsigned char document_bytes[MAX_ELEMENTS * 8], token_bytes[MAX_ELEMENTS * 4];
    unsigned char mask_bytes[MAX_ELEMENTS];
};

static void fill_contents(struct contents *c, struct bytes *b, hsize_t n_tokens,
                          hsize_t n_documents, int width)
{
    memset(c, 0, sizeof *c);
    for (hsize_t i = 0; i < n_tokens; i++) {
        const uint32_t id = rarely(b) ? (uint32_t)take_number(b) : take(b) % 16;
        memcpy(c->token_bytes + i * (hsize_t)width, &id, (size_t)width);
    }
    uint64_t at = 0;
    for (hsize_t i = 0; i < n_documents; i++) {
        if (i + 1 == n_documents) at = n_tokens;
        const uint64_t offset = rarely(b) ? take_number(b) : at;
        memcpy(c->document_bytes + 8 * i, &offset, 8);
        at += take(b) % 8;
        if (at > n_tokens) at = n_tokens;
    }
    for (hsize_t i = 0; i < n_tokens; i++) c->mask_bytes[i] = i % 3 != 0;
}

static void write_region(int fd, const struct h5_region *r, const unsigned char *data,
                         size_t room)
{
    const size_t n = r->bytes < room ? (size_t)r->bytes : room;
    if (n > 0 && pwrite(fd, data, n, (off_t)r->offset) < 0) abort();
}

static void overwrite(int fd, struct bytes *b, const struct contents *c)
{
    while (b->n > 2) {
        const unsigned at = (unsigned)take(b) << 8 | take(b);
        const uint8_t value = take(b);
        const struct h5_region *r = at % 2 ? &c->documents : &c->tokens;
        if (r->bytes == 0) continue;
        if (pwrite(fd, &value, 1, (off_t)(r->offset + at / 2 % r->bytes)) < 0) abort();
    }
}

static void build_mask(hid_t file, struct bytes *b, struct contents *c, hsize_t n)
{
    static const char *const names[] = {"loss_mask_xxh3", "row_tokens"};
    const uint64_t usual[] = {hash_xxh3(c->mask_bytes, n), T};
    build_dataset(file, "loss_mask", H5T_STD_U8LE, rarely(b) ? take(b) : n, b, &c->mask);
    build_attributes(file, b, names, usual, take(b) % 3);
}

static int by_offset(const void *a, const void *b)
{
    const struct h5_region *x = a, *y = b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

static void build(struct bytes *b, bool damage)
{
    static struct contents c;
    static const char *const names[] = {"version",     "vocab_size",  "eos_id",
                                        "total_bytes", "tokens_xxh3", "documents_xxh3"};
    const uint8_t form = take(b);
    const bool wide = form % 4 == 0, masked = form / 4 % 2;
    /* no bytes at all give a good file of 40 tokens in 4 documents */
    const hsize_t n_tokens = (uint8_t)(take(b) + 40) * (1 + take(b) % 16u);
    const hsize_t n_documents = (take(b) + 5u) % 32u;
    fill_contents(&c, b, n_tokens, n_documents, wide ? 4 : 2);
    const uint64_t usual[] = {masked ? 2 : 1,
                              16,
                              0,
                              99,
                              hash_xxh3(c.token_bytes, n_tokens * (wide ? 4u : 2u)),
                              hash_xxh3(c.document_bytes, n_documents * 8u)};
    hid_t file = H5I_INVALID_HID;
    if (h5_create(path, &file) != STATUS_OK) abort();
    build_dataset(file, "documents", H5T_STD_U64LE, n_documents, b, &c.documents);
    build_dataset(file, "tokens", wide ? H5T_STD_U32LE : H5T_STD_U16LE, n_tokens, b,
                  &c.tokens);
    build_attributes(file, b, names, usual, 6);
    build_text(file, b, "tokenizer_sha256");
    build_text(file, b, "sources");
    if (masked) build_mask(file, b, &c, n_tokens);
    H5Fclose(file);
    const int fd = open(tmp, O_RDWR);
    write_region(fd, &c.documents, c.document_bytes, sizeof c.document_bytes);
    write_region(fd, &c.tokens, c.token_bytes, sizeof c.token_bytes);
    write_region(fd, &c.mask, c.mask_bytes, sizeof c.mask_bytes);
    if (damage) overwrite(fd, b, &c);
    close(fd);
    struct h5_region regions[3] = {c.documents, c.tokens, c.mask};
    qsort(regions, 3, sizeof *regions, by_offset);
    if (h5_seal(path, "tokens", regions, 3) != STATUS_OK) abort();
    if (rename(tmp, path) != 0) abort();
}

static void copy(const struct bytes *b)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(b->data, 1, b->n, f) != b->n || fclose(f) != 0) abort();
}

/* ---- everything a run does with a token file -------------------------------------------- */

static void read_all(enum token_file_check check)
{
    struct data_source source = {.path = path, .weight = 1};
    struct sampler *s = NULL;
    const struct sampler_options o = {.sources = &source,
                                      .n_sources = 1,
                                      .T = T,
                                      .shuffle = true,
                                      .document_mask = true,
                                      .check = check};
    if (sampler_create(&s, &o) != STATUS_OK) return;
    int32_t rows[4][T];
    struct batch batch = {.B = 1,
                          .T = T,
                          .tokens = rows[0],
                          .targets = rows[1],
                          .positions = rows[2],
                          .doc_start = rows[3]};
    const int64_t vocab_size = token_file_info(sampler_file(s, 0))->vocab_size;
    for (int64_t i = 0; i < sampler_total_windows(s) && i < 1000; i++) {
        const status_t st = sampler_fill(s, i, &batch, 0);
        if (st != STATUS_OK && st != STATUS_DATA) abort();
        for (int t = 0; t < T && st == STATUS_OK; t++)
            CHECK(rows[0][t] >= 0 && rows[0][t] < vocab_size && rows[3][t] <= t);
    }
    sampler_destroy(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_begin();
    set_up();
    struct bytes b = {data, size};
    const uint8_t depth = take(&b) % 3;
    if (depth == 0)
        copy(&b);
    else
        build(&b, depth == 2);
    struct token_file *f = NULL;
    const bool whole = take(&b) % 2;
    const status_t st = token_file_open(&f, path, TOKEN_FILE_CHECK_ALL);
    if (st != STATUS_OK && st != STATUS_DATA) log_error("%s", status_message());
    if (st != STATUS_OK && (st != STATUS_DATA || strchr(status_message(), '\n'))) abort();
    token_file_close(&f);
    read_all(whole ? TOKEN_FILE_CHECK_ALL : TOKEN_FILE_CHECK_SEAL);
    return 0;
}
