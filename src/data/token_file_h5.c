#include "data/token_file_impl.h"

#include <stdlib.h>
#include <string.h>

#include "core/h5.h"
#include "core/log.h"

/* ---- attributes ------------------------------------------------------------------------- */

static status_t read_version(struct token_file *f, hid_t file)
{
    uint64_t version = 0;
    TRY(h5_read_u64(file, f->path, "version", STATUS_DATA, &version));
    f->info.has_loss_mask = version == TOKEN_FILE_MASKED;
    if (version == TOKEN_FILE_VERSION || version == TOKEN_FILE_MASKED) return STATUS_OK;
    return status_set(
        STATUS_DATA, "%s: has token file version %llu, this program reads %d and %d",
        f->path, (unsigned long long)version, TOKEN_FILE_VERSION, TOKEN_FILE_MASKED);
}

/* A number of the file that has to be in [low, high]. */
static status_t read_number(const struct token_file *f, hid_t file, const char *name,
                            int64_t low, int64_t high, int64_t *value)
{
    uint64_t found = 0;
    TRY(h5_read_u64(file, f->path, name, STATUS_DATA, &found));
    if (found < (uint64_t)low || found > (uint64_t)high)
        return status_set(STATUS_DATA, "%s: %s is %llu, valid is %lld to %lld", f->path,
                          name, (unsigned long long)found, (long long)low,
                          (long long)high);
    *value = (int64_t)found;
    return STATUS_OK;
}

static status_t read_tokenizer_hash(struct token_file *f, hid_t file)
{
    char *hex = NULL;
    TRY(h5_read_str(file, f->path, "tokenizer_sha256", STATUS_DATA, &hex));
    const size_t length = strlen(hex);
    const bool valid = length == 0 || (length == HASH_SHA256_HEX - 1 &&
                                       strspn(hex, "0123456789abcdef") == length);
    if (valid) memcpy(f->info.tokenizer_sha256, hex, length + 1);
    free(hex);
    if (valid) return STATUS_OK;
    return status_set(
        STATUS_DATA, "%s: tokenizer_sha256 is neither 64 lower-case hex digits nor empty",
        f->path);
}

static status_t read_attributes(struct token_file *f, hid_t file)
{
    TRY(read_version(f, file));
    TRY(read_number(f, file, "vocab_size", 1, INT32_MAX, &f->info.vocab_size));
    f->info.eos_id = -1;
    if (h5_has(file, "eos_id"))
        TRY(read_number(f, file, "eos_id", 0, f->info.vocab_size - 1, &f->info.eos_id));
    TRY(read_number(f, file, "total_bytes", 0, INT64_MAX, &f->info.text_bytes));
    TRY(h5_read_u64(file, f->path, "tokens_xxh3", STATUS_DATA, &f->tokens_xxh3));
    TRY(h5_read_u64(file, f->path, "documents_xxh3", STATUS_DATA, &f->documents_xxh3));
    if (f->info.has_loss_mask)
        TRY(h5_read_u64(file, f->path, "loss_mask_xxh3", STATUS_DATA,
                        &f->loss_mask_xxh3));
    const uint64_t all[3] = {f->tokens_xxh3, f->documents_xxh3, f->loss_mask_xxh3};
    f->info.xxh3 = hash_xxh3(all, (f->info.has_loss_mask ? 3 : 2) * sizeof *all);
    if (f->info.has_loss_mask && h5_has(file, "row_tokens"))
        TRY(read_number(f, file, "row_tokens", 1, INT32_MAX, &f->info.row_tokens));
    TRY(read_tokenizer_hash(f, file));
    if (h5_has(file, "tokenizer_path"))
        TRY(h5_read_str(file, f->path, "tokenizer_path", STATUS_DATA,
                        &f->tokenizer_path));
    return h5_read_str(file, f->path, "sources", STATUS_DATA, &f->sources);
}

/* ---- datasets --------------------------------------------------------------------------- */

/* Bytes of an element if it is an unsigned little-endian integer, else 0. */
static int unsigned_bytes(hid_t dataset)
{
    const hid_t type = H5Dget_type(dataset);
    int bytes = 0;
    if (H5Tequal(type, H5T_STD_U8LE) > 0) bytes = 1;
    if (H5Tequal(type, H5T_STD_U16LE) > 0) bytes = 2;
    if (H5Tequal(type, H5T_STD_U32LE) > 0) bytes = 4;
    if (H5Tequal(type, H5T_STD_U64LE) > 0) bytes = 8;
    H5Tclose(type);
    return bytes;
}

/* Elements of a one-dimensional dataset, 0 for other shapes. */
static uint64_t length_1d(hid_t dataset)
{
    const hid_t space = H5Dget_space(dataset);
    hsize_t length = 0;
    if (H5Sget_simple_extent_ndims(space) == 1)
        H5Sget_simple_extent_dims(space, &length, NULL);
    H5Sclose(space);
    return length;
}

struct span {
    const char *name;
    int element_bytes;
    int64_t n;
    const unsigned char *data;
};

static status_t describe(const struct token_file *f, hid_t dataset, struct span *s)
{
    s->element_bytes = unsigned_bytes(dataset);
    const uint64_t n = length_1d(dataset);
    struct h5_region region = {0};
    if (s->element_bytes == 0)
        return status_set(STATUS_DATA,
                          "%s: /%s is not an array of unsigned little-endian integers",
                          f->path, s->name);
    if (n == 0)
        return status_set(STATUS_DATA,
                          "%s: /%s is empty or not of one dimension, one element or "
                          "more are needed",
                          f->path, s->name);
    if (h5_dataset_region(dataset, &region) != STATUS_OK)
        return status_set(STATUS_DATA, "%s: /%s is not stored in one piece (contiguous)",
                          f->path, s->name);
    const uint64_t size = f->map.bytes;
    if (region.offset > size || region.bytes > size - region.offset ||
        n > region.bytes / (uint64_t)s->element_bytes)
        return status_set(STATUS_DATA,
                          "%s: is damaged: /%s with %llu elements does not fit into the "
                          "file of %llu bytes",
                          f->path, s->name, (unsigned long long)n,
                          (unsigned long long)size);
    s->n = (int64_t)n;
    s->data = f->map.data + region.offset;
    return STATUS_OK;
}

static status_t find_span(const struct token_file *f, hid_t file, struct span *s)
{
    const hid_t dataset = H5Dopen2(file, s->name, H5P_DEFAULT);
    if (dataset < 0) {
        H5Eclear2(H5E_DEFAULT);
        return status_set(STATUS_DATA, "%s: has no dataset /%s", f->path, s->name);
    }
    const status_t st = describe(f, dataset, s);
    H5Dclose(dataset);
    return st;
}

static status_t read_loss_mask(struct token_file *f, hid_t file)
{
    struct span mask = {.name = "loss_mask"};
    TRY(find_span(f, file, &mask));
    if (mask.element_bytes != 1 || mask.n != f->info.n_tokens)
        return status_set(STATUS_DATA,
                          "%s: /loss_mask has %lld elements of %d bytes, needed are %lld "
                          "of uint8",
                          f->path, (long long)mask.n, mask.element_bytes,
                          (long long)f->info.n_tokens);
    f->loss = mask.data;
    return STATUS_OK;
}

static status_t read_datasets(struct token_file *f, hid_t file)
{
    struct span tokens = {.name = "tokens"}, documents = {.name = "documents"};
    TRY(find_span(f, file, &tokens));
    TRY(find_span(f, file, &documents));
    if (tokens.element_bytes != 2 && tokens.element_bytes != 4)
        return status_set(STATUS_DATA, "%s: /tokens is uint%d, valid are uint16, uint32",
                          f->path, 8 * tokens.element_bytes);
    if (documents.element_bytes != 8 || documents.n < 2)
        return status_set(STATUS_DATA,
                          "%s: /documents has %lld elements of %d bytes, needed are at "
                          "least 2 of uint64",
                          f->path, (long long)documents.n, documents.element_bytes);
    f->info.token_bytes = tokens.element_bytes;
    f->info.n_tokens = tokens.n;
    f->info.n_documents = documents.n - 1;
    f->tokens = tokens.data;
    f->documents = documents.data;
    if (f->info.n_tokens % (f->info.row_tokens ? f->info.row_tokens : 1) != 0)
        return status_set(STATUS_DATA, "%s: %lld tokens are not rows of %lld", f->path,
                          (long long)f->info.n_tokens, (long long)f->info.row_tokens);
    return f->info.has_loss_mask ? read_loss_mask(f, file) : STATUS_OK;
}

/* ---- the mapping ------------------------------------------------------------------------ */

/* Through libhdf5's own descriptor: a file renamed over `path` meanwhile would not be the one
 * whose seal was checked. */
static status_t map_file(struct token_file *f, hid_t file)
{
    int *fd = NULL;
    if (H5Fget_vfd_handle(file, H5P_DEFAULT, (void **)&fd) < 0)
        return h5_fail(STATUS_IO, f->path, "give its descriptor");
    return token_map_descriptor(&f->map, f->path, *fd);
}

static int64_t offset(const struct token_file *f, int64_t i)
{
    return (int64_t)token_u64(f->documents + 8 * i);
}

status_t token_file_h5_open(struct token_file *f, const struct token_file_options *o)
{
    hid_t file = H5I_INVALID_HID;
    f->sealed = true;
    f->offset = offset;
    TRY(h5_open(f->path, TOKEN_FILE_KIND, STATUS_DATA, &file));
    status_t st = map_file(f, file);
    if (st == STATUS_OK) st = read_attributes(f, file);
    if (st == STATUS_OK) st = read_datasets(f, file);
    H5Fclose(file);
    if (st != STATUS_OK) return st;
    return token_file_settle(f, o, f->info.token_bytes, f->info.vocab_size);
}
