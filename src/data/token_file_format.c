/* The table of forms, how one is recognised, and what their readers share. */
#include "data/token_file_impl.h"

#include <stdlib.h>
#include <string.h>

#include "core/file.h"

typedef status_t reader(struct token_file *f, const struct token_file_options *o);

static const struct {
    const char *name;
    reader *open;
} formats[TOKEN_FILE_FORMATS] = {
    [TOKEN_FILE_AUTO] = {"auto", NULL},
    [TOKEN_FILE_H5] = {"h5", token_file_h5_open},       /* yoke tokenize */
    [TOKEN_FILE_NPY] = {"npy", token_file_npy_open},    /* numpy.save */
    [TOKEN_FILE_RAW] = {"raw", token_file_raw_open},    /* OLMo, nanoGPT */
    [TOKEN_FILE_LLMC] = {"llmc", token_file_llmc_open}, /* llm.c, modded-nanogpt */
    [TOKEN_FILE_MEGATRON] = {"megatron", token_file_megatron_open},    /* and GPT-NeoX */
    [TOKEN_FILE_DATATROVE] = {"datatrove", token_file_datatrove_open}, /* and nanotron */
};

const char *const token_file_formats[TOKEN_FILE_FORMATS + 1] = {
    "auto", "h5", "npy", "raw", "llmc", "megatron", "datatrove", NULL};

/* ---- which form ------------------------------------------------------------------------- */

static bool begins_with(const struct token_map *m, size_t at, const char *text, size_t n)
{
    return m->bytes >= at + n && memcmp(m->data + at, text, n) == 0;
}

static bool has_index(const char *path)
{
    char *index =
        token_file_ends_with(path, ".bin") ? token_file_companion(path, 4, ".idx") : NULL;
    const bool found = index && file_exists(index);
    free(index);
    return found;
}

static enum token_file_format recognise(const char *path, const struct token_map *m)
{
    static const char hdf5[] = "\x89HDF\r\n\x1a\n";
    if (begins_with(m, 0, "yoke-seal", 9) || begins_with(m, 0, hdf5, 8) ||
        begins_with(m, 512, hdf5, 8) || token_file_ends_with(path, ".h5"))
        return TOKEN_FILE_H5;
    if (begins_with(m, 0, "\x93NUMPY", 6)) return TOKEN_FILE_NPY;
    if (token_file_ends_with(path, ".ds")) return TOKEN_FILE_DATATROVE;
    if (has_index(path)) return TOKEN_FILE_MEGATRON;
    if (token_file_ends_with(path, ".npy")) return TOKEN_FILE_RAW;
    if (m->bytes >= 4 && token_u32(m->data) / 10000 == 2024) return TOKEN_FILE_LLMC;
    return TOKEN_FILE_AUTO;
}

status_t token_file_choose(const char *path, const struct token_file_options *o,
                           enum token_file_format *format)
{
    struct token_map map;
    TRY(token_map_open(&map, path));
    *format = recognise(path, &map);
    token_map_close(&map);
    if (*format == TOKEN_FILE_AUTO && o->token_bytes > 0) *format = TOKEN_FILE_RAW;
    if (*format != TOKEN_FILE_AUTO) return STATUS_OK;
    return status_set(STATUS_DATA,
                      "%s: is not a file written by yoke tokenize, nor one that its name "
                      "or first bytes tell (valid: a token file, or format and dtype "
                      "with the source)",
                      path);
}

/* ---- what readers share ----------------------------------------------------------------- */

status_t token_file_settle(struct token_file *f, const struct token_file_options *o,
                           int token_bytes, int64_t vocab_size)
{
    struct token_file_info *i = &f->info;
    if (token_bytes && o->token_bytes && token_bytes != o->token_bytes)
        return status_set(STATUS_DATA, "%s: dtype is uint%d, but the file has uint%d",
                          f->path, 8 * o->token_bytes, 8 * token_bytes);
    if (vocab_size && o->vocab_size && vocab_size != o->vocab_size)
        return status_set(STATUS_DATA, "%s: vocab_size is %lld, but the file has %lld",
                          f->path, (long long)o->vocab_size, (long long)vocab_size);
    i->token_bytes = token_bytes ? token_bytes : o->token_bytes;
    i->vocab_size = vocab_size ? vocab_size : o->vocab_size;
    if (i->token_bytes == 0)
        return status_set(
            STATUS_DATA,
            "%s: does not say how wide its tokens are (valid: dtype: uint16 "
            "or uint32 with the source)",
            f->path);
    if (token_bytes == 0 && i->token_bytes == 2 && i->vocab_size > 1 << 16)
        return status_set(
            STATUS_DATA,
            "%s: tokens of uint16 with a vocabulary of %lld (valid: at most "
            "65536, or dtype: uint32)",
            f->path, (long long)i->vocab_size);
    i->vocab_assumed = i->vocab_size == 0 && o->fallback_vocab_size > 0;
    if (i->vocab_assumed) i->vocab_size = o->fallback_vocab_size;
    return STATUS_OK;
}

status_t token_file_take_tokens(struct token_file *f, size_t offset, int64_t n_tokens)
{
    const size_t width = (size_t)f->info.token_bytes, bytes = f->map.bytes - offset;
    if (n_tokens < 0) n_tokens = (int64_t)(bytes / width);
    if (n_tokens == 0) return status_set(STATUS_DATA, "%s: holds no token", f->path);
    if ((uint64_t)n_tokens != bytes / width || bytes % width != 0)
        return status_set(
            STATUS_DATA, "%s: has %zu bytes%s, but %lld tokens of uint%zu need %llu",
            f->path, bytes, offset > 0 ? " behind its header" : "", (long long)n_tokens,
            8 * width, (unsigned long long)n_tokens * width);
    f->tokens = f->map.data + offset;
    f->info.n_tokens = n_tokens;
    return STATUS_OK;
}

/* ---- documents by their delimiters ------------------------------------------------------ */

static status_t check_delimiter(const struct token_file *f, const char *name, int64_t id)
{
    if (id < 0 || f->info.vocab_size == 0 || id < f->info.vocab_size) return STATUS_OK;
    return status_set(STATUS_DATA, "%s: %s is %lld, valid are 0 to %lld", f->path, name,
                      (long long)id, (long long)f->info.vocab_size - 1);
}

/* What the options say about documents; the own form may say it itself. */
static status_t settle_delimiters(struct token_file *f,
                                  const struct token_file_options *o)
{
    struct token_file_info *i = &f->info;
    if (f->sealed && o->has_eos && o->eos_id != i->eos_id)
        return status_set(STATUS_DATA, "%s: eos is %lld, but the file has %lld", f->path,
                          (long long)o->eos_id, (long long)i->eos_id);
    if (o->has_eos || o->has_bos) i->eos_id = i->bos_id = -1; /* replaces the custom */
    if (o->has_eos) i->eos_id = o->eos_id;
    if (o->has_bos) i->bos_id = o->bos_id;
    TRY(check_delimiter(f, "eos", i->eos_id));
    TRY(check_delimiter(f, "bos", i->bos_id));
    i->documents_known = i->n_documents >= 0 || i->eos_id >= 0 || i->bos_id >= 0;
    return STATUS_OK;
}

/* ---- opening ---------------------------------------------------------------------------- */

static status_t read_one(struct token_file *f, const struct token_file_options *o)
{
    struct token_file_info *i = &f->info;
    i->n_shards = 1;
    i->n_documents = i->eos_id = i->bos_id = -1;
    i->format = o->format;
    if (i->format == TOKEN_FILE_AUTO) TRY(token_file_choose(f->path, o, &i->format));
    TRY(formats[i->format].open(f, o));
    return settle_delimiters(f, o);
}

status_t token_file_open_one(struct token_file **f, const char *path,
                             const struct token_file_options *o, int pieces)
{
    *f = NULL;
    struct token_file *x = calloc(1, sizeof *x);
    if (x) x->path = strdup(path);
    if (!x || !x->path) {
        free(x);
        return status_set(STATUS_NOMEM, "%s: no memory to open it", path);
    }
    status_t st = read_one(x, o);
    if (st == STATUS_OK) st = token_file_check(x, o, pieces);
    if (st == STATUS_OK)
        *f = x;
    else
        token_file_close(&x);
    return st;
}
